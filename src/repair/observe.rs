//! What a contraction is fitted on: what it reads in the pruned model, and what it should compute.

use super::linear::Linear;
use super::solve::{self, Observations};
use super::target::Ending;
use super::{LEAST_OBSERVATIONS, PER_COLUMN, Work, draw};
use crate::ir::Model;
use crate::onnx::tensor::Tensor;
use std::borrow::Cow;

/// What a contraction's output should be, batch by batch: as in the original, as far as the channels are still there,
/// and what the sum that it ends in has lost elsewhere.
pub struct Goals<'a> {
    ending: &'a Ending,
    /// The original's output.
    targets: Vec<Cow<'a, Tensor>>,
    /// The other operand of the sum, in the original and now.
    others: Option<(Vec<Cow<'a, Tensor>>, Vec<&'a Tensor>)>,
}

impl Goals<'_> {
    /// Whether something is not seen.
    pub fn is_limited(&self) -> bool {
        self.ending.is_limited()
    }

    /// The output of a batch, and by how much each element may be more than that without being seen (less, where negative),
    /// because limits follow; empty where there are none.
    pub fn of(&self, batch: usize) -> Option<(Vec<f32>, Vec<f32>)> {
        let ending = self.ending;
        let output = &self.targets[batch];
        let mut target = output.to_f32()?.into_owned();
        let run: usize = output.shape().get(ending.axis + 1..).map_or(1, |s| s.iter().product());
        let other = match &self.others {
            Some((was, is)) => Some((was[batch].to_f32()?, is[batch].to_f32()?)),
            None => None,
        };
        if other.as_ref().is_some_and(|(was, is)| was.len() != target.len() || is.len() != target.len()) {
            return None;
        }
        let (low, high) = (ending.limits.0 as f32, ending.limits.1 as f32);
        let mut slack = vec![0.0; if ending.is_limited() { target.len() } else { 0 }];
        for (i, t) in target.iter_mut().enumerate() {
            let c = i / run.max(1) % ending.scale.len();
            let (scale, offset, factor) = (ending.scale[c] as f32, ending.offset[c] as f32, ending.factor[c] as f32);
            if scale == 0.0 {
                continue;
            }
            let (was, is) = other.as_ref().map_or((0.0, 0.0), |(was, is)| (factor * was[i], factor * is[i]));
            let end = scale * *t + offset + was;
            *t += (was - is) / scale;
            if end < low {
                slack[i] = (low - end) / scale;
            } else if end > high {
                slack[i] = (high - end) / scale;
            }
        }
        Some((target, slack))
    }
}

impl Work<'_> {
    /// What a contraction should compute; `None` where that is not at hand.
    pub(super) fn goals<'a>(&'a self, linear: &Linear, ending: &'a Ending) -> Option<Goals<'a>> {
        let targets = self.original_kept(linear.output)?;
        let others = match ending.other {
            Some(other) => Some((self.original_kept(other)?, self.pruned_run.value(other)?)),
            None => None,
        };
        Some(Goals { ending, targets, others })
    }

    /// For each group, its columns and what its outputs should be, at some places of every batch, and the slack of each.
    pub(super) fn observe(
        &self,
        pruned: &Model,
        linear: &Linear,
        ending: &Ending,
    ) -> Option<Vec<(Observations, Vec<f32>)>> {
        let (data, goals) = (self.pruned_run.value(linear.data)?, self.goals(linear, ending)?);
        let batches = data.len();
        let variables = linear.columns() + linear.outs;
        let wanted = solve::observations(linear.columns(), variables, PER_COLUMN, LEAST_OBSERVATIONS);
        let places = wanted.div_ceil(batches).min(linear.rows);
        let samples = places * batches;
        let slacks = if ending.is_limited() { linear.outs * samples } else { 0 };
        let mut out: Vec<(Observations, Vec<f32>)> = (0..linear.groups)
            .map(|_| (Observations { data: vec![0.0; variables * samples], samples }, vec![0.0; slacks]))
            .collect();
        for (b, x) in data.iter().enumerate() {
            let (target, slack) = goals.of(b)?;
            if !linear.fits(x, target.len()) {
                return None;
            }
            let rows = draw(linear.rows, places, &pruned.label(linear.node), self.options.seed ^ b as u64);
            let x = x.to_f32()?;
            let split = linear.columns() * samples;
            for (g, (observations, slacks)) in out.iter_mut().enumerate() {
                let (columns, outs) = observations.data.split_at_mut(split);
                linear.gather(&x, g, &rows, columns, samples, b * places);
                linear.outputs(&target, g, &rows, outs, samples, b * places);
                if ending.is_limited() {
                    linear.outputs(&slack, g, &rows, slacks, samples, b * places);
                }
            }
        }
        Some(out)
    }
}
