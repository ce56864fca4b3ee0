//! What models of several sizes are worth, for machines and people.

use super::chart::{Chart, Mark};
use super::number::{bytes, count};
use super::table::Table;
use crate::passes::prune::Target;
use crate::run::Batches;
use crate::sweep::{Bench, Found, Measured, Point, Rows, Score};
use serde::Serialize;

/// A whole curve.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curve {
    pub model: String,
    /// What is scored, and how many rows of it.
    pub data: String,
    pub rows: usize,
    /// What was chosen and repaired by; `None` where that was made up, or not needed.
    pub calibration: Option<Calibration>,
    /// Whether what was cut was repaired.
    pub repaired: bool,
    pub measure: &'static str,
    pub original: CurvePoint,
    pub points: Vec<CurvePoint>,
}

/// Data that filters were chosen by, and layers fitted to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Calibration {
    pub data: String,
    pub samples: usize,
}

/// One size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CurvePoint {
    /// What was asked for; `None` for the original.
    pub asked: Option<String>,
    /// The closest that can be reached, where that is not what was asked for: the numbers are of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closest: Option<String>,
    /// `None` where not even the closest came out.
    #[serde(flatten)]
    pub measured: Option<MeasuredLine>,
}

/// Numbers of one model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MeasuredLine {
    pub params: u64,
    pub macs: u64,
    pub bytes: u64,
    /// Rows whose highest output is that of their label, and their share of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correct: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Difference of the outputs from the original's, relative to their spread; three digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
}

impl From<&Measured> for MeasuredLine {
    fn from(m: &Measured) -> Self {
        let (correct, accuracy, drift) = match m.score {
            Score::Top1(a) => (Some(a.correct), Some(a.ratio()), None),
            Score::Drift(d) => (None, None, crate::plan::rounded(d)),
        };
        let (params, macs, bytes) = (m.cost.params, m.cost.macs, m.cost.bytes);
        Self { params, macs, bytes, correct, accuracy, drift, remark: m.remark.clone() }
    }
}

/// The name of a file without its folder, which says nothing on another machine.
fn name(path: &str) -> String {
    std::path::Path::new(path).file_name().map_or_else(|| path.to_owned(), |n| n.to_string_lossy().into_owned())
}

impl Curve {
    /// Of a model of that name, scored on these rows and repaired on that data.
    pub fn new(model: &str, bench: &Bench, rows: &Rows, calibration: Option<&Batches>, points: &[Point]) -> Self {
        let measure = match bench.original.score {
            Score::Top1(_) => "top-1",
            Score::Drift(_) => "drift",
        };
        let point = |p: &Point| CurvePoint {
            asked: Some(p.asked.to_string()),
            closest: p.closest.map(|c| c.to_string()),
            measured: p.measured.as_ref().map(MeasuredLine::from),
        };
        Self {
            model: name(model),
            data: name(&rows.origin),
            rows: bench.rows,
            calibration: calibration.map(|b| Calibration { data: name(&b.origin), samples: b.samples }),
            repaired: bench.repair,
            measure,
            original: CurvePoint { asked: None, closest: None, measured: Some((&bench.original).into()) },
            points: points.iter().map(point).collect(),
        }
    }

    fn is_labelled(&self) -> bool {
        self.measure == "top-1"
    }

    /// The original, then a row for each point in the order in which they were asked for.
    pub fn table(&self) -> Table {
        let score: &[&'static str] = if self.is_labelled() { &[">accuracy", ">lost"] } else { &[">drift"] };
        let titles = [&["asked", ">parameters", ">MACs", ">left", ">constants"], score, &["remark"]].concat();
        let mut table = Table::new(&titles);
        let original = self.original.measured.as_ref();
        for point in std::iter::once(&self.original).chain(&self.points) {
            let asked = point.asked.clone().unwrap_or_else(|| "the original".to_owned());
            let closest = point.closest.as_ref().map(|c| format!("not reachable; the closest is {c}"));
            let Some(m) = &point.measured else {
                let cells = [asked].into_iter().chain((0..titles.len() - 2).map(|_| "-".to_owned()));
                table.row(cells.chain([closest.unwrap_or_else(|| "not reachable".to_owned())]));
                continue;
            };
            let left = original.map_or(1.0, |o| m.macs as f64 / o.macs.max(1) as f64);
            let mut cells = vec![asked, count(m.params), count(m.macs), percent(left), bytes(m.bytes)];
            if let (Some(a), true) = (m.accuracy, self.is_labelled()) {
                cells.push(percent(a));
                let lost = lost(original.and_then(|o| o.correct), m.correct, self.rows);
                cells.push(if point.asked.is_none() { String::new() } else { format!("{lost:.2}") });
            } else {
                cells.push(m.drift.map_or_else(|| "-".to_owned(), percent));
            }
            let remarks: Vec<String> = closest.into_iter().chain(m.remark.clone()).collect();
            cells.push(remarks.join("; "));
            table.row(cells);
        }
        table
    }

    /// What was measured on what, and that no row was both repaired by and scored.
    pub fn lines(&self) -> Vec<String> {
        let by = if self.is_labelled() {
            "top-1 accuracy"
        } else {
            "drift: the outputs' difference from the original's, relative to their spread,"
        };
        let scored = format!("scored by {by} on {} rows of {}", count(self.rows as u64), self.data);
        let what = if self.repaired { "chosen and repaired" } else { "chosen, and not repaired," };
        let inputs = match &self.calibration {
            Some(c) => format!("on {} inputs ({}), without labels", count(c.samples as u64), c.data),
            None => "on inputs that were made up where some were needed".to_owned(),
        };
        vec![scored, format!("{what} {inputs}")]
    }

    /// The score over the multiply-accumulates that are left.
    pub fn svg(&self) -> String {
        let macs = self.original.measured.as_ref().map_or(1, |o| o.macs.max(1)) as f64;
        let height = |m: &MeasuredLine| if self.is_labelled() { m.accuracy } else { m.drift }.map(|s| s * 100.0);
        let mark = |p: &CurvePoint| {
            let m = p.measured.as_ref()?;
            let at = [m.macs as f64 / macs * 100.0, height(m)?];
            let asked = p.asked.as_deref().unwrap_or("the original");
            let text = format!("{asked}: {:.1}% of the MACs, {:.2}%", at[0], at[1]);
            Some(Mark { at, text, hollow: p.closest.is_some() })
        };
        let marks = std::iter::once(&self.original).chain(&self.points).filter_map(mark).collect();
        let level = self.original.measured.as_ref().and_then(height).filter(|_| self.is_labelled());
        let (what, limits) = match self.is_labelled() {
            true => ("top-1 accuracy", [0.0, 100.0]),
            false => ("drift of the outputs", [0.0, f64::INFINITY]),
        };
        let repaired = match &self.calibration {
            _ if !self.repaired => ", not repaired".to_owned(),
            Some(c) => format!(", repaired by {}", c.data),
            None => ", repaired by made-up inputs".to_owned(),
        };
        Chart {
            title: format!("{}: {what} against size", self.model),
            subtitle: format!("{} rows of {}{repaired}", count(self.rows as u64), self.data),
            axes: ["multiply-accumulates left, % of the original".to_owned(), format!("{what}, %")],
            marks,
            level: level.map(|l| (l, format!("the original: {l:.2}%"))),
            limits,
        }
        .svg()
    }
}

/// Points of accuracy between two counts of correct rows.
fn lost(before: Option<usize>, after: Option<usize>, rows: usize) -> f64 {
    (before.unwrap_or(0) as f64 - after.unwrap_or(0) as f64) * 100.0 / rows.max(1) as f64
}

fn percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

/// How a budget was found that keeps the accuracy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AccuracyChange {
    /// What was scored, and how many rows of it; repair saw none of them.
    pub data: String,
    pub rows: usize,
    /// Correct rows before and after, and their share.
    pub correct: [usize; 2],
    pub accuracy: [f64; 2],
    /// Points that were lost, and that could be.
    pub lost: f64,
    pub allowed: f64,
    pub budget: String,
    /// What was tried, in this order.
    pub steps: Vec<StepLine>,
}

/// One budget that was tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepLine {
    pub budget: String,
    /// Points that were lost; `None` where the budget cannot be reached.
    pub lost: Option<f64>,
}

impl AccuracyChange {
    pub fn new(rows: &Rows, found: &Found, allowed: f64) -> Self {
        let [before, after] = found.accuracy;
        let budget = |t: Target| t.to_string();
        Self {
            data: name(&rows.origin),
            rows: before.total,
            correct: [before.correct, after.correct],
            accuracy: [before.ratio(), after.ratio()],
            lost: lost(Some(before.correct), Some(after.correct), before.total),
            allowed,
            budget: budget(found.target),
            steps: found.steps.iter().map(|s| StepLine { budget: budget(s.target), lost: s.lost }).collect(),
        }
    }

    /// In two sentences.
    pub fn lines(&self) -> [String; 2] {
        let [before, after] = self.accuracy.map(percent);
        [
            format!(
                "top-1 accuracy {before} -> {after} on {} rows of {} that repair did not see: {:.2} points lost, {} allowed",
                count(self.rows as u64),
                self.data,
                self.lost,
                self.allowed
            ),
            format!(
                "{} is the smallest of the {} budgets tried that keeps it, to a percent of the MACs if accuracy falls \
                 steadily",
                self.budget,
                self.steps.len()
            ),
        ]
    }
}
