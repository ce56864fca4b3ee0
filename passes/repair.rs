//! # What it does
//! Gives every layer that reads less after a prune the weights with which it computes, from what is left, most nearly
//! what it computed before: ridge regression on calibration data, layer after layer, on the pruned model's own
//! activations with the original's outputs as targets. Where one layer alone reads what another that was cut computes,
//! a few Gauss-Newton steps move the filters that are left of that, too. No labels, no training loop. Without calibration
//! data the models are run on inputs that are made up: scenes of overlapping leaves, at the mean and the spread that the
//! model's first layer expects.
//! The plan and the report tell of every layer its error before and after.
//!
//! # When it refuses
//! Without a prune before it in the same pipeline there is nothing to go by, and the pass leaves the model as it is; so
//! it does with a model that cannot be run, or whose outputs would be further from the original's than the cut left them
//! on the same data. A layer that is not linear in its weights (a recurrent cell), or whose factors both
//! depend on the input, stays as the cut left it; the remarks name it.
//!
//! # Options
//! - `ridge=R` how strongly new weights are held to the old ones, relative to the variance of their inputs (0.001)
//! - `downstream=false` leaves layers alone that lost no input themselves, but read what has changed
//! - `steps=N` how often at most a layer that was cut is fitted together with the one that reads it (3; 0 fits readers
//!   only)
//! - `residual=false` does not let one branch of a sum make good what the other has lost
//!
//! # Example
//! `prune(ratio=0.5), repair(ridge=0.01)`

use super::{ArgumentError, Arguments, CANNOT_RUN, Context, Outcome, Pass, PassError, Remark};
use crate::ir::Model;
use crate::repair::{self, Options};

/// Fits the layers behind a cut to what they computed before.
#[derive(Debug, Clone, Default)]
pub struct Repair {
    pub options: Options,
}

pub(super) fn make(arguments: &mut Arguments) -> Result<Box<dyn Pass>, ArgumentError> {
    let mut options = Options::default();
    options.ridge = arguments.value("ridge", "a number of at least 0", options.ridge)?;
    options.steps = arguments.value("steps", "a number of steps, at least 0", options.steps)?;
    let either = [("true", true), ("false", false)];
    options.downstream = arguments.choice("downstream", &either, options.downstream)?;
    options.residual = arguments.choice("residual", &either, options.residual)?;
    Ok(Box::new(Repair { options }))
}

impl Pass for Repair {
    fn name(&self) -> &'static str {
        "repair"
    }

    fn run(&self, model: &mut Model, context: &Context) -> Result<Outcome, PassError> {
        let idle = |summary: &str| Ok(Outcome { summary: summary.to_owned(), ..Outcome::default() });
        let Some(removal) = &context.removal else { return idle("nothing was removed") };
        let mut repaired = model.clone();
        let done = context
            .inputs(&removal.original)
            .and_then(|batches| repair::repair(removal, &mut repaired, &batches, &self.options));
        let report = match done {
            Ok(report) => report,
            Err(cannot) => {
                let text = format!("the model cannot be run: {}", cannot.reason);
                let summary = format!("nothing was repaired: {text}");
                let remark = Remark { node: cannot.node, rule: CANNOT_RUN.into(), text };
                return Ok(Outcome { summary, remarks: vec![remark], ..Outcome::default() });
            }
        };
        if report.drift[1] > report.drift[0] {
            let text = format!(
                "fitted layers would move the outputs by {:.3}, and {:.3} is what the cut does",
                report.drift[1], report.drift[0]
            );
            let summary = format!("nothing was repaired: {text}");
            let remark = Remark { node: None, rule: "no-better".into(), text };
            return Ok(Outcome { summary, remarks: vec![remark], ..Outcome::default() });
        }
        *model = repaired;
        let remarks = report.unrepaired.iter().map(|u| Remark {
            node: Some(u.node.clone()),
            rule: "not-repaired".into(),
            text: u.reason.clone(),
        });
        Ok(Outcome {
            changes: report.repaired.len(),
            summary: format!(
                "{} fitted on {} inputs ({}); the outputs differ by {:.3}, by {:.3} before",
                super::counted(report.repaired.len(), "layer"),
                report.samples,
                report.data,
                report.drift[1],
                report.drift[0]
            ),
            remarks: remarks.collect(),
            repair: Some(report),
            ..Outcome::default()
        })
    }
}
