//! Which layers are fitted together with the one that reads them, and when.
//!
//! A layer whose filters were cut, and whose outputs one other layer alone reads through nothing but what is affine
//! within limits, is the writer of a pair (`pair`). The pruned run is kept as it was before the writer ran; when the
//! reader has its weights, the writer takes a step, the run starts anew from there, and the reader is fitted again.

use super::linear::Linear;
use super::observe::Goals;
use super::pair::{self, Observed, Weights};
use super::target::{Ending, between};
use super::work::{Fitted, Original, Work};
use super::{draw, store};
use crate::analysis::{Shapes, infer};
use crate::ir::{Model, NodeId, Uses, ValueId};
use crate::onnx::tensor::Tensor;
use crate::run::{CannotRun, Stepwise};
use nalgebra::{DMatrix, DVector};
use std::collections::{BTreeMap, BTreeSet};

/// Multiply-accumulates that may be spent on all steps.
const MOST_WORK: f64 = 2.5e11;
/// Numbers of what the writer reads at all places of one problem.
const MOST_NUMBERS: usize = 1 << 24;
/// Observations of the reader, if there are no more numbers then.
const MOST_OBSERVATIONS: usize = 1 << 15;
/// Observations that lie side by side: they see the same places.
const STRETCH: usize = 128;
/// One of so many batches (observations, where there are few batches) is not fitted on.
const HELD: usize = 5;

/// A writer, and the run before it.
pub struct Writer {
    pub node: NodeId,
    run: Option<Stepwise>,
}

/// A writer, its reader, and what that is to compute.
struct Pair<'a> {
    original: &'a Original<'a>,
    writer: NodeId,
    reader: &'a Linear,
    ending: &'a Ending,
    /// The run before the writer.
    before: &'a Stepwise,
}

/// The pairs of a pruned model by their readers, and how many steps of all of them there is time for.
pub fn pairs(work: &Work, pruned: &Model, shapes: &Shapes) -> (BTreeMap<NodeId, Writer>, usize) {
    let uses = pruned.uses();
    let (mut found, mut each) = (BTreeMap::new(), 0.0);
    for &node in pruned.graph(pruned.main()).nodes() {
        let cut = pruned.node(node).output(0).is_some_and(|v| work.removal.kept(v).is_some());
        let Some((writer, reader)) = cut.then(|| work.linear(pruned, shapes, node)).flatten().and_then(|writer| {
            let reader = target_of(pruned, &uses, writer.output)?;
            Some((writer, work.linear(pruned, shapes, reader)?))
        }) else {
            continue;
        };
        if reader.reads_output_of(&writer) && between(pruned, shapes, &uses, writer.output, reader.data).is_some() {
            let n = observations(&writer) as f64;
            let per = 2 * writer.columns() * writer.outs + reader.columns() * reader.outs;
            each += 2.0 * pair::PASSES as f64 * n * per as f64;
            found.insert(reader.node, Writer { node, run: None });
        }
    }
    let count = (MOST_WORK / each.max(1.0)) as usize;
    (found, count.min(work.options.steps))
}

/// The next contraction behind a value, along its only readers.
fn target_of(model: &Model, uses: &Uses, mut at: ValueId) -> Option<NodeId> {
    loop {
        let [(reader, _)] = uses.readers(at)[..] else { return None };
        if crate::ops::row_of(model.node(reader))?.layer.is_some() {
            return Some(reader);
        }
        at = model.node(reader).output(0)?;
    }
}

/// Side by side, observations see about two places each.
fn observations(writer: &Linear) -> usize {
    MOST_OBSERVATIONS.min(MOST_NUMBERS / (2 * writer.columns()).max(1))
}

/// Some of `count` rows, in stretches.
fn stretches(count: usize, wanted: usize, name: &str, seed: u64) -> Vec<usize> {
    let drawn = draw(count.div_ceil(STRETCH), wanted.div_ceil(STRETCH), name, seed);
    drawn.into_iter().flat_map(|s| s * STRETCH..count.min((s + 1) * STRETCH)).collect()
}

impl Work<'_> {
    fn linear(&self, model: &Model, shapes: &Shapes, node: NodeId) -> Option<Linear> {
        Linear::of(model, shapes, &|v| self.removal.constant(v), node).ok()
    }

    /// Keeps the run before a node that is the writer of a pair.
    pub(super) fn remember(&mut self, pruned: &Model, node: NodeId) -> Result<(), CannotRun> {
        if self.steps == 0 {
            return Ok(());
        }
        let Some((&reader, _)) = self.writers.iter().find(|w| w.1.node == node) else { return Ok(()) };
        self.run_to(pruned, Some(node), &[])?;
        self.writers.insert(reader, Writer { node, run: Some(self.run.clone()) });
        Ok(())
    }

    /// Fits the writer of a pair and its reader in turn, as long as that helps.
    pub(super) fn refine(
        &mut self,
        original: &Original,
        pruned: &mut Model,
        reader: &Linear,
        ending: &Ending,
        home: store::Home,
        mut fitted: Fitted,
    ) -> Result<Fitted, CannotRun> {
        let Some(Writer { node, run: Some(before) }) = self.writers.remove(&reader.node) else { return Ok(fitted) };
        let pair = Pair { original, writer: node, reader, ending, before: &before };
        for _ in 0..self.steps {
            let shapes = infer(pruned, self.batches.sizes(pruned));
            let (known, after) = (pruned.clone(), self.run.clone());
            let mut again = None;
            if self.step(pruned, &shapes, &pair, &fitted).is_some() {
                self.run = before.clone();
                self.run_to(pruned, Some(reader.node), &[reader.data])?;
                again = self.regress(original, pruned, &shapes, reader, ending, Some(home)).ok();
            }
            let Some(again) = again.filter(|again| again.error[1] < fitted.error[1]) else {
                // A part of the step may have been stored.
                (*pruned, self.run) = (known, after);
                break;
            };
            let writer = Some(pruned.label(node));
            fitted = Fitted { error: [fitted.error[0], again.error[1]], writer, ..again };
        }
        Ok(fitted)
    }

    /// Gives the writer of a pair new weights; `None` where that does not help.
    fn step(&self, pruned: &mut Model, shapes: &Shapes, pair: &Pair, fitted: &Fitted) -> Option<()> {
        let Pair { reader, .. } = *pair;
        let uses = pruned.uses();
        let writer = self.linear(pruned, shapes, pair.writer)?;
        let activation = between(pruned, shapes, &uses, writer.output, reader.data)?;
        let axis = writer.output_axis(shapes.shape(writer.output)?)?;
        let lists = activation.scale.len();
        if !(lists == 1 || (lists == writer.outs && activation.axis == axis)) {
            return None;
        }
        let home = store::home(pruned, shapes, &uses, &writer);
        let constants = match home {
            Some(home) => store::constants(pruned, shapes, home, writer.outs)?,
            None => vec![0.0; writer.outs],
        };
        let scale = writer.addend.of_sum;
        let own: Vec<f32> = writer.weights(pruned, shapes)?.iter().map(|w| (w * scale) as f32).collect();
        let weights = Weights {
            writer: DMatrix::from_vec(writer.columns(), writer.outs, own),
            writer_constants: DVector::from_iterator(writer.outs, constants.iter().map(|&c| c as f32)),
            reader: DMatrix::from_iterator(reader.columns(), reader.outs, fitted.weights.iter().map(|&w| w as f32)),
            reader_constants: DVector::from_iterator(reader.outs, fitted.constants.iter().map(|&c| c as f32)),
        };
        let [fit, held] = self.observations_of(pruned, &writer, pair)?;
        let (new, constants) = pair::step(&fit, &held, &weights, &activation, home.is_some())?;
        let unscaled: Vec<f64> = new.iter().map(|&w| f64::from(w) / scale).collect();
        let shift: Vec<f64> = constants.iter().zip(&weights.writer_constants).map(|(a, b)| f64::from(a - b)).collect();
        store::store_weights(pruned, shapes, &writer, &unscaled)?;
        match home {
            Some(home) => store::shift_constants(pruned, shapes, home, &shift),
            None => Some(()),
        }
    }

    /// Observations of a pair: those that are fitted on, and those that are not.
    fn observations_of(&self, pruned: &Model, writer: &Linear, pair: &Pair) -> Option<[Observed; 2]> {
        let Pair { original, reader, ending, before, .. } = *pair;
        let data = before.value(writer.data)?;
        let (data, batches) = (&data[..self.fitted], self.fitted);
        let places = observations(writer).div_ceil(batches).min(reader.rows);
        let goals = self.goals(original, reader, ending)?;
        let name = pruned.label(reader.node);
        let writes = writer.writes();
        let mut row_at = vec![u32::MAX; writes.iter().max()? + 1];
        writes.iter().enumerate().for_each(|(row, &at)| row_at[at] = row as u32);
        // For each batch and each part the reader's rows, and the writer's that they see.
        let [fit, held] = [false, true].map(|held| {
            let of = |b: usize| -> Option<Seen> {
                let mut rows = stretches(reader.rows, places, &name, self.options.seed ^ b as u64);
                let (mut at, by_batch) = (0, batches >= HELD);
                rows.retain(|_| {
                    at += 1;
                    let is_held = if by_batch { b % HELD == HELD - 1 } else { (at / STRETCH).is_multiple_of(HELD) };
                    is_held == held
                });
                let see = |at: Option<usize>| -> Option<Option<u32>> {
                    let Some(at) = at else { return Some(None) };
                    Some(Some(*row_at.get(at).filter(|&&r| r != u32::MAX)?))
                };
                let sees = reader.reads(&rows).into_iter().map(see).collect::<Option<_>>()?;
                Some((rows, sees))
            };
            let by_batch: Option<Vec<_>> = (0..batches).map(of).collect();
            observed(writer, reader, data, &goals, &by_batch?)
        });
        let (fit, held) = (fit?, held?);
        (fit.target.nrows() > 0 && held.target.nrows() > 0).then_some([fit, held])
    }
}

/// The reader's rows of a batch, and for each of their taps the writer's row.
type Seen = (Vec<usize>, Vec<Option<u32>>);

fn observed(writer: &Linear, reader: &Linear, data: &[&Tensor], goals: &Goals, by_batch: &[Seen]) -> Option<Observed> {
    // Each row of the writer once.
    let rows: Vec<Vec<usize>> = by_batch
        .iter()
        .map(|(_, sees)| sees.iter().flatten().map(|&r| r as usize).collect::<BTreeSet<_>>().into_iter().collect())
        .collect();
    let places: usize = rows.iter().map(Vec::len).sum();
    let samples: usize = by_batch.iter().map(|b| b.0.len()).sum();
    let mut x = vec![0.0; writer.columns() * places];
    let mut target = vec![0.0; reader.outs * samples];
    let limited = goals.is_limited();
    let mut slack = vec![0.0; if limited { reader.outs * samples } else { 0 }];
    let mut sees = Vec::with_capacity(samples * reader.taps);
    let (mut first, mut sample) = (0, 0);
    for (b, (own, seen)) in by_batch.iter().enumerate() {
        if own.is_empty() {
            continue;
        }
        let (goal, room) = goals.of(b)?;
        writer.gather(&data[b].to_f32()?, 0, &rows[b], &mut x, places, first);
        reader.outputs(&goal, 0, own, &mut target, samples, sample);
        if limited {
            reader.outputs(&room, 0, own, &mut slack, samples, sample);
        }
        let place: BTreeMap<usize, u32> = rows[b].iter().enumerate().map(|(i, &r)| (r, (first + i) as u32)).collect();
        sees.extend(seen.iter().map(|s| s.map(|row| place[&(row as usize)])));
        (first, sample) = (first + rows[b].len(), sample + own.len());
    }
    Some(Observed {
        x: DMatrix::from_vec(places, writer.columns(), x),
        sees,
        taps: reader.taps,
        target: DMatrix::from_vec(samples, reader.outs, target),
        slack,
    })
}
