//! What a repair did, as plans and summaries tell it.
//!
//! Guarantees: numbers have three digits, so that the last bits of a machine's arithmetic do not show; a number that is
//! not finite is absent, never another one; data is named without its folder, which says nothing on another machine.

use crate::repair;
use serde::{Deserialize, Serialize};

/// The layers behind a cut, fitted to what they computed before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RepairPlan {
    /// Where the inputs came from: the name of a file or folder, or `noise`.
    pub data: String,
    /// How many inputs there were.
    pub samples: usize,
    /// How strongly new weights were held to the old ones, relative to the variance of their inputs.
    pub ridge: f64,
    /// Root of the squared difference of the outputs from the original's, relative to their spread: of the cut model, and
    /// of the repaired one.
    pub drift: [Option<f64>; 2],
    /// Layers with new weights, in the order of the graph.
    pub fitted: Vec<FittedPlan>,
    /// Layers that read less, or something else, and stayed as the cut left them.
    pub unrepaired: Vec<UnrepairedPlan>,
}

/// A layer with new weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FittedPlan {
    pub node: String,
    /// Channels that it reads, before and after the cut.
    pub channels: [usize; 2],
    /// Squared error of its output, relative to the variance of what it should be: with the weights that the cut left,
    /// and with the new ones.
    pub error: [Option<f64>; 2],
    /// Places of the output that the weights were fitted on.
    pub places: usize,
    /// Whether a constant was fitted as well.
    pub constant: bool,
    /// Whether it makes good what the other branch of a sum has lost.
    pub residual: bool,
    /// The layer that was fitted together with it, because it alone reads what that computes: its filters changed too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<String>,
}

/// A layer that was left as it was, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnrepairedPlan {
    pub node: String,
    pub reason: String,
}

impl From<&repair::Report> for RepairPlan {
    fn from(report: &repair::Report) -> Self {
        let fitted = |r: &repair::Repaired| FittedPlan {
            node: r.node.clone(),
            channels: r.channels,
            error: r.error.map(rounded),
            places: r.places,
            constant: r.constant,
            residual: r.residual,
            writer: r.writer.clone(),
        };
        let unrepaired = |u: &repair::Unrepaired| UnrepairedPlan { node: u.node.clone(), reason: u.reason.clone() };
        let name = std::path::Path::new(&report.data).file_name();
        Self {
            data: name.map_or_else(|| report.data.clone(), |n| n.to_string_lossy().into_owned()),
            samples: report.samples,
            ridge: report.ridge,
            drift: report.drift.map(rounded),
            fitted: report.repaired.iter().map(fitted).collect(),
            unrepaired: report.unrepaired.iter().map(unrepaired).collect(),
        }
    }
}

/// Three digits of a finite number.
pub(crate) fn rounded(x: f64) -> Option<f64> {
    format!("{x:.2e}").parse().ok().filter(|x: &f64| x.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_of_what_is_finite() {
        assert_eq!(rounded(0.123_456), Some(0.123));
        assert_eq!(rounded(9.999e-7), Some(1e-6));
        assert_eq!(rounded(0.0), Some(0.0));
        assert_eq!([rounded(f64::NAN), rounded(f64::INFINITY)], [None, None]);
    }
}
