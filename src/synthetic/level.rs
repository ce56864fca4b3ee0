//! The mean and the spread that a model's first layer expects of its input.
//!
//! Nothing in a file says whether a model reads pictures from 0 to 255 or from -1 to 1, but its first layer does. Where
//! a batch normalisation follows, it knows the mean and the deviation of every output. Where it was folded, or never
//! there, outputs of trained layers still have about unit size, and a bias that undoes the mean of the input: over six
//! trained models of pictures and sounds, with inputs that spread by 1 to 70, the median deviation of the first layer's
//! outputs was 0.56 to 1.03.
//!
//! Guarantees: each real input gets one mean and one spread. Refuses: models whose first layers cannot be run. An input
//! that no linear layer reads stays as it was made.

use super::is_real;
use crate::analysis::{Shapes, fed_inputs, infer};
use crate::ir::{Model, NodeId, ValueId};
use crate::onnx::tensor::Tensor;
use crate::repair::{Linear, statistics};
use crate::run::{CannotRun, Stepwise, admit_size, batch_sizes, varying};
use std::collections::BTreeSet;

/// The deviation that outputs of a first layer without batch normalisation are given.
const DEVIATION: f64 = 0.65;
/// A mean is at most so many spreads from zero: that of pictures from 0 to 255 is about two.
const MOST_MEAN: f64 = 2.5;
/// Batches that levels are measured on.
const MEASURED: usize = 2;
/// How often a level is set anew, for layers behind something that is not linear.
const TRIALS: usize = 4;

/// Shifts and scales every real input to the level that the first layer behind it expects.
pub(super) fn level(model: &Model, batches: &mut [Vec<Tensor>]) -> Result<(), CannotRun> {
    let inputs: Vec<ValueId> = fed_inputs(model).into_iter().map(|(v, _)| v).collect();
    let shapes = infer(model, batch_sizes(model, batches));
    admit_size(model, &shapes)?;
    for (i, &input) in inputs.iter().enumerate() {
        if !batches.first().is_some_and(|b| is_real(b[i].dtype())) {
            continue;
        }
        standardise(batches, i);
        let Some(first) = First::of(model, &shapes, input) else { continue };
        for trial in 0..TRIALS {
            let Some((mean, spread)) = first.wanted(model, batches, i)? else { break };
            let close = (spread - 1.0).abs() < 0.1;
            // The second time around only the spread is corrected: the mean was found where the layer is linear.
            let (shift, scale) = if trial == 0 { (mean, spread) } else { (0.0, spread) };
            if !(scale.is_finite() && scale > 0.0 && shift.is_finite()) {
                break;
            }
            change(batches, i, shift, scale);
            if trial > 0 && close {
                break;
            }
        }
    }
    Ok(())
}

/// Gives an input mean 0 and spread 1 over all batches.
fn standardise(batches: &mut [Vec<Tensor>], input: usize) {
    let all = || batches.iter().filter_map(|b| b[input].to_f64()).flatten();
    let count = all().count().max(1) as f64;
    let mean = all().sum::<f64>() / count;
    let spread = (all().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt();
    if spread > 0.0 {
        change(batches, input, -mean / spread, 1.0 / spread);
    }
}

/// Every number becomes `scale` times itself plus `shift`.
fn change(batches: &mut [Vec<Tensor>], input: usize, shift: f64, scale: f64) {
    for batch in batches {
        let t = &batch[input];
        let values = t.to_f64().map(|v| v.into_iter().map(|x| x * scale + shift).collect::<Vec<_>>());
        if let Some(new) = values.and_then(|v| Tensor::from_f64(t.dtype(), t.shape(), &v)) {
            batch[input] = new;
        }
    }
}

/// The first linear layer behind an input.
struct First {
    linear: Linear,
    /// What runs after it.
    next: Option<NodeId>,
    /// Mean and deviation of each of its outputs, where a batch normalisation says so.
    known: Option<(Vec<f64>, Vec<f64>)>,
}

impl First {
    fn of(model: &Model, shapes: &Shapes, input: ValueId) -> Option<Self> {
        let behind = varying(model, [input]);
        let varies = varying(model, fed_inputs(model).into_iter().map(|(v, _)| v));
        let nodes = model.graph(model.main()).nodes();
        let linear = |&n: &NodeId| Linear::of(model, shapes, &|v| !varies.contains(&v), n).ok();
        let (at, linear) =
            nodes.iter().enumerate().find_map(|(i, n)| Some((i, linear(n).filter(|l| behind.contains(&l.data))?)))?;
        let known = statistics(model, shapes, &model.uses(), linear.output);
        let outputs = linear.groups * linear.outs;
        let known = known.filter(|k| k.0.len() == outputs && k.1.len() == outputs);
        Some(Self { linear, next: nodes.get(at + 1).copied(), known })
    }

    /// The mean that the input should have, and what its spread should be multiplied with; `None` where nothing that is
    /// fed reaches the layer.
    fn wanted(&self, model: &Model, batches: &[Vec<Tensor>], input: usize) -> Result<Option<(f64, f64)>, CannotRun> {
        let constant = |value: f64| -> Option<Vec<Tensor>> {
            let mut batch = batches.first()?.clone();
            let t = &batch[input];
            batch[input] = Tensor::from_f64(t.dtype(), t.shape(), &vec![value; t.elements()])?;
            Some(batch)
        };
        let (Some(zero), Some(one)) = (constant(0.0), constant(1.0)) else { return Ok(None) };
        let mut all = vec![zero, one];
        all.extend(batches.iter().take(MEASURED).cloned());
        let mut run = Stepwise::new(model, &all);
        run.run_to(model, self.next, &BTreeSet::from([self.linear.output]))?;
        let Some(outputs) = run.value(self.linear.output) else { return Ok(None) };
        Ok(self.fit(&outputs))
    }

    /// From the outputs for an input of zeros, of ones, and of what there is.
    fn fit(&self, outputs: &[&Tensor]) -> Option<(f64, f64)> {
        let at_zero = self.moments(&outputs[..1])?;
        let at_one = self.moments(&outputs[1..2])?;
        let now = self.moments(&outputs[2..])?;
        let (mut pull, mut gain, mut ratios) = (0.0, 0.0, Vec::new());
        for (o, &(mean, deviation)) in now.iter().enumerate() {
            let (centre, expected) = match &self.known {
                Some((means, deviations)) => (means[o], deviations[o]),
                None => (0.0, DEVIATION),
            };
            if !(expected > 0.0 && mean.is_finite() && deviation.is_finite()) {
                continue;
            }
            let step = (at_one[o].0 - at_zero[o].0) / expected;
            pull += step * (at_zero[o].0 - centre) / expected;
            gain += step * step;
            ratios.push(deviation / expected);
        }
        ratios.sort_by(f64::total_cmp);
        let ratio = ratios.get(ratios.len() / 2).copied().filter(|r| *r > 0.0)?;
        let spread = 1.0 / ratio;
        let mean = if gain > 0.0 { -pull / gain } else { 0.0 };
        Some((mean.clamp(-MOST_MEAN * spread, MOST_MEAN * spread), spread))
    }

    /// Mean and deviation of each output over all places.
    fn moments(&self, outputs: &[&Tensor]) -> Option<Vec<(f64, f64)>> {
        let (rows, places) = (self.linear.rows, (0..self.linear.rows).collect::<Vec<_>>());
        let samples = rows * outputs.len();
        let mut out = Vec::new();
        for group in 0..self.linear.groups {
            let mut values = vec![0f32; self.linear.outs * samples];
            for (b, t) in outputs.iter().enumerate() {
                self.linear.outputs(&t.to_f32()?, group, &places, &mut values, samples, b * rows);
            }
            for output in values.chunks_exact(samples.max(1)) {
                let mean = output.iter().map(|&v| f64::from(v)).sum::<f64>() / samples as f64;
                let square = output.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / samples as f64;
                out.push((mean, square.sqrt()));
            }
        }
        Some(out)
    }
}
