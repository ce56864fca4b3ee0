//! How far a model's outputs are from those of another.

use super::solve::relative;
use crate::analysis::{infer, node_costs};
use crate::ir::{Def, Model, ValueId};
use crate::ops::row_of;
use crate::run::{Batches, CannotRun, Stepwise, admit_whole};
use std::collections::BTreeSet;
use std::ops::Range;

/// The relative difference of outputs from others: the root of the squared differences over the squared deviations of
/// those from their mean, the largest of all outputs.
pub fn drift(was: &[Vec<f64>], is: &[Vec<f64>]) -> f64 {
    was.iter().zip(is).filter_map(|(was, is)| relative(was, is)).fold(0.0, f64::max)
}

/// The outputs of a model, as [`of_run`] gives them.
pub fn computed(model: &Model, batches: &Batches) -> Result<Vec<Vec<f64>>, CannotRun> {
    let mut run = Stepwise::new(model, &batches.batches);
    let shapes = infer(model, batches.sizes(model));
    if admit_whole(model, &shapes).is_err() {
        // A stop at each contraction, so that what lies before it can go.
        for (n, _) in node_costs(model, &shapes).iter().filter(|c| c.1.macs > 0) {
            run.run_to(model, Some(*n), &BTreeSet::new())?;
        }
    }
    run.run_to(model, None, &compared(model).into_iter().collect())?;
    Ok(of_run(model, &run, 0..batches.batches.len()))
}

/// The outputs of a run that is over, each over some batches; empty where they are not of numbers.
pub fn of_run(model: &Model, run: &Stepwise, batches: Range<usize>) -> Vec<Vec<f64>> {
    let of = |v| {
        let all = run.value(v)?;
        Some(all.get(batches.clone())?.iter().map(|t| t.to_f64()).collect::<Option<Vec<_>>>()?.concat())
    };
    compared(model).into_iter().map(|v| of(v).unwrap_or_default()).collect()
}

/// The values that are compared: the outputs, but what a softmax reads in place of what it makes of it.
pub fn compared(model: &Model) -> Vec<ValueId> {
    let of = |v: ValueId| match model.value(v).def() {
        Def::Node(n, 0) if row_of(model.node(n)).is_some_and(|row| row.of_scores) => {
            model.node(n).input(0).unwrap_or(v)
        }
        _ => v,
    };
    model.graph(model.main()).outputs().iter().map(|p| of(p.value)).collect()
}
