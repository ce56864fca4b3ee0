//! How far a model's outputs are from those of another.

use super::solve::relative;
use crate::analysis::{infer, node_costs};
use crate::ir::{Def, Model, ValueId};
use crate::ops::row_of;
use crate::run::{Batches, CannotRun, Stepwise, admit_whole};
use std::collections::BTreeSet;

/// A model's outputs on some data.
pub struct Outputs<'a> {
    batches: &'a Batches,
    /// Each output over all batches; empty where it is not of numbers.
    values: Vec<Vec<f64>>,
}

impl<'a> Outputs<'a> {
    /// Runs a model.
    pub fn of(model: &Model, batches: &'a Batches) -> Result<Self, CannotRun> {
        Ok(Self { batches, values: computed(model, batches)? })
    }

    /// The relative difference of another model's outputs from these: the root of the squared differences over the squared
    /// deviations of these from their mean, the largest of all outputs.
    pub fn drift(&self, model: &Model) -> Result<f64, CannotRun> {
        let found = computed(model, self.batches)?;
        Ok(self.values.iter().zip(&found).filter_map(|(was, is)| relative(was, is)).fold(0.0, f64::max))
    }
}

fn computed(model: &Model, batches: &Batches) -> Result<Vec<Vec<f64>>, CannotRun> {
    let mut run = Stepwise::new(model, &batches.batches);
    let shapes = infer(model, batches.sizes(model));
    if admit_whole(model, &shapes).is_err() {
        // A stop at each contraction, so that what lies before it can go.
        for (n, _) in node_costs(model, &shapes).iter().filter(|c| c.1.macs > 0) {
            run.run_to(model, Some(*n), &BTreeSet::new())?;
        }
    }
    run.run_to(model, None, &compared(model).into_iter().collect())?;
    Ok(of_run(model, &run))
}

/// The outputs of a run that is over, each over all batches; empty where they are not of numbers.
pub(super) fn of_run(model: &Model, run: &Stepwise) -> Vec<Vec<f64>> {
    let of = |v| Some(run.value(v)?.iter().map(|t| t.to_f64()).collect::<Option<Vec<_>>>()?.concat());
    compared(model).into_iter().map(|v| of(v).unwrap_or_default()).collect()
}

/// The values that are compared: the outputs, but what a softmax reads in place of what it makes of it.
pub(super) fn compared(model: &Model) -> Vec<ValueId> {
    let of = |v: ValueId| match model.value(v).def() {
        Def::Node(n, 0) if row_of(model.node(n)).is_some_and(|row| row.of_scores) => {
            model.node(n).input(0).unwrap_or(v)
        }
        _ => v,
    };
    model.graph(model.main()).outputs().iter().map(|p| of(p.value)).collect()
}
