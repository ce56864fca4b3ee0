//! What a contraction is fitted on: what it reads in the pruned model, and what it should compute.

use super::draw;
use super::linear::Linear;
use super::solve::{self, Observations};
use super::target::Ending;
use super::work::{Original, PER_COLUMN, Work};
use crate::ir::Model;
use crate::onnx::tensor::Tensor;
use rayon::prelude::*;
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

/// Batches that are read side by side.
const AT_ONCE: usize = 16;

impl Work<'_> {
    /// What a contraction should compute; `None` where that is not at hand.
    pub(super) fn goals<'a>(
        &'a self,
        original: &'a Original,
        linear: &Linear,
        ending: &'a Ending,
    ) -> Option<Goals<'a>> {
        let targets = self.original_kept(original, linear.output)?;
        let others = match ending.other {
            Some(other) => Some((self.original_kept(original, other)?, self.run.value(other)?)),
            None => None,
        };
        Some(Goals { ending, targets, others })
    }

    /// For each group, its columns and what its outputs should be, at some places of every batch, and the slack of each.
    pub(super) fn observe(
        &self,
        original: &Original,
        pruned: &Model,
        linear: &Linear,
        ending: &Ending,
    ) -> Option<Vec<(Observations, Vec<f32>)>> {
        let (data, goals) = (self.run.value(linear.data)?, self.goals(original, linear, ending)?);
        let (data, batches) = (&data[..self.fitted], self.fitted);
        let variables = linear.columns() + linear.outs;
        let wanted = solve::observations(linear.columns(), variables, PER_COLUMN);
        let places = wanted.div_ceil(batches).min(linear.rows);
        let samples = places * batches;
        let slacks = if ending.is_limited() { linear.outs } else { 0 };
        let label = pruned.label(linear.node);
        // Of one batch, group by group: columns and outputs, and the slack of each output.
        let of = |(b, x): (usize, &&Tensor)| -> Option<Vec<[Vec<f32>; 2]>> {
            let (target, slack) = goals.of(b)?;
            if !linear.fits(x, target.len()) {
                return None;
            }
            let rows = draw(linear.rows, places, &label, self.options.seed ^ b as u64);
            let x = x.to_f32()?;
            let one = |g: usize| {
                let mut seen = vec![0.0; variables * places];
                let (columns, outs) = seen.split_at_mut(linear.columns() * places);
                linear.gather(&x, g, &rows, columns, places, 0);
                linear.outputs(&target, g, &rows, outs, places, 0);
                let mut free = vec![0.0; slacks * places];
                if slacks > 0 {
                    linear.outputs(&slack, g, &rows, &mut free, places, 0);
                }
                [seen, free]
            };
            Some((0..linear.groups).map(one).collect())
        };
        let mut out: Vec<(Observations, Vec<f32>)> = (0..linear.groups)
            .map(|_| (Observations { data: vec![0.0; variables * samples], samples }, vec![0.0; slacks * samples]))
            .collect();
        for (first, some) in data.chunks(AT_ONCE).enumerate() {
            let found: Option<Vec<_>> =
                some.par_iter().enumerate().map(|(i, x)| of((first * AT_ONCE + i, x))).collect();
            for (i, groups) in found?.into_iter().enumerate() {
                let at = (first * AT_ONCE + i) * places;
                for ((observations, free), [seen, slack]) in out.iter_mut().zip(groups) {
                    for (all, own) in [(&mut observations.data, seen), (free, slack)] {
                        let own = own.chunks_exact(places.max(1));
                        all.chunks_exact_mut(samples.max(1))
                            .zip(own)
                            .for_each(|(a, o)| a[at..at + places].copy_from_slice(o));
                    }
                }
            }
        }
        Some(out)
    }
}
