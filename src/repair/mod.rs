//! Making good what a cut has lost, without training: every contraction that reads less than before gets the weights
//! with which it computes, from what is left, most nearly what it computed in the original.
//!
//! Guarantees: the graph stays as it is, but for biases that a convolution may gain; what a repair did is told node by
//! node, with the error before and after, and so is what was not repaired and why. The same bytes for any number of
//! threads.
//! Refuses: models that the interpreter cannot run ([`CannotRun`], with the node).
//! How: the original and the cut model are run side by side on calibration data ([`Stepwise`]), from contraction to
//! contraction, in an order in which both branches of a sum are known as early as can be. At each the cut model's own
//! inputs, as repaired so far, are regressed on the original's output, and on what the sum that it ends in has lost
//! elsewhere (`target`): ridge regression with a constant, in closed form (`solve`). Where one layer alone reads what was cut, both are then fitted as one, in a few steps (`pair`, `refine`).

mod linear;
mod observe;
mod outputs;
mod pair;
mod refine;
pub mod response;
mod solve;
mod store;
mod target;

pub use linear::Linear;
pub use solve::{Moments, Observations, relative};
pub use target::statistics;

use crate::analysis::{Atom, Coupling, Shapes, fed_inputs, infer, node_costs};
use crate::ir::{Model, NodeId, ValueId};
use crate::onnx::tensor::Tensor;
use crate::run::{Batches, CannotRun, Stepwise, admit_size, generator, lightest_first, varying};
use nalgebra::DMatrix;
use outputs::Outputs;
use rand_chacha::rand_core::Rng;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// What was removed from which model.
#[derive(Debug, Clone)]
pub struct Removal {
    /// As it was before; ids are those of the cut model.
    pub original: Model,
    pub coupling: Coupling,
    pub removed: BTreeSet<Atom>,
}

/// How to repair.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How strongly new weights are held to what the cut left of the old ones, relative to the mean variance of what a
    /// weight is multiplied with.
    pub ridge: f64,
    /// Whether contractions that lost nothing, but read what has changed, are repaired as well.
    pub downstream: bool,
    /// Whether a residual branch makes good what the other branch lost.
    pub residual: bool,
    /// How often at most a layer that was cut is fitted together with the one that reads it.
    pub steps: usize,
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { ridge: 1e-3, downstream: true, residual: true, steps: 3, seed: 0 }
    }
}

/// What became of one contraction.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Repaired {
    pub node: String,
    /// Channels that it reads, before and after the cut.
    pub channels: [usize; 2],
    /// Squared error of its output, relative to the variance of what it should be: with the weights that the cut left,
    /// and with the new ones.
    pub error: [f64; 2],
    /// Places of the output that the weights were fitted on.
    pub places: usize,
    /// Whether a constant was fitted as well.
    pub constant: bool,
    /// Whether it makes good what the other branch of a sum has lost.
    pub residual: bool,
    /// The layer that was fitted together with it, because it alone reads what that computes.
    pub writer: Option<String>,
}

/// A contraction that reads less, or something else, and stayed as the cut left it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Unrepaired {
    pub node: String,
    pub reason: String,
}

/// What a repair did.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Report {
    pub repaired: Vec<Repaired>,
    pub unrepaired: Vec<Unrepaired>,
    /// Inputs that it ran on, and where they came from.
    pub samples: usize,
    pub data: String,
    pub ridge: f64,
    /// Difference of the outputs (of a softmax: of the scores that it reads) from the original's, relative to their
    /// spread: of the cut model, and of the repaired one.
    pub drift: [f64; 2],
}

/// Repairs `pruned`, which is `removal.original` without what was removed.
pub fn repair(
    removal: &Removal,
    pruned: &mut Model,
    batches: &Batches,
    options: &Options,
) -> Result<Report, CannotRun> {
    let mut work = Work::new(removal, pruned, batches, options);
    admit_size(&removal.original, &work.original_shapes)?;
    let few = batches.first(DRIFT_ROWS);
    let expected = Outputs::of(&removal.original, &few)?;
    let before = expected.drift(pruned)?;
    (work.writers, work.steps) = refine::pairs(&work, pruned, &infer(pruned, batches.sizes(pruned)));
    let order = work.pruned_run.order().to_vec();
    let mut report = Report {
        repaired: Vec::new(),
        unrepaired: Vec::new(),
        samples: batches.samples,
        data: batches.origin.clone(),
        ridge: options.ridge,
        drift: [0.0; 2],
    };
    let mut changed: BTreeSet<ValueId> = BTreeSet::new();
    for &n in &order {
        let reads_change = pruned.reads_of(n).iter().any(|v| changed.contains(v));
        let loses = work.loses_inputs(pruned, n);
        if reads_change || loses {
            changed.extend(pruned.node(n).outputs().iter().flatten());
        }
        let asked = loses || (options.downstream && reads_change);
        if asked && work.is_contraction(n) {
            match work.one(pruned, n)? {
                Ok(repaired) => report.repaired.push(repaired),
                Err(Skip::Nothing) => {}
                Err(Skip::Because(reason)) => {
                    let node = pruned.label(n);
                    report.unrepaired.push(Unrepaired { node, reason });
                }
            }
        }
        work.remember(pruned, n)?;
    }
    report.drift = [before, expected.drift(pruned)?];
    Ok(report)
}

enum Skip {
    /// There is nothing to repair.
    Nothing,
    Because(String),
}

struct Work<'a> {
    removal: &'a Removal,
    options: &'a Options,
    batches: &'a Batches,
    original_shapes: Shapes,
    original_run: Stepwise,
    pruned_run: Stepwise,
    varies: BTreeSet<ValueId>,
    /// For each of the original's nodes the one that runs after it.
    next: BTreeMap<NodeId, NodeId>,
    /// By its reader, the other layer of each pair that is fitted together, and how often.
    writers: BTreeMap<NodeId, refine::Writer>,
    steps: usize,
}

/// New weights of a contraction, as they were stored.
struct Fitted {
    /// `[groups][outs][columns]`, and a constant for each output.
    weights: Vec<f64>,
    constants: Vec<f64>,
    /// Of the output, before and after, relative to its variance.
    error: [f64; 2],
    places: usize,
    /// Whether there were too few observations to fit each column.
    few: bool,
    /// The layer before it, where that was changed too.
    writer: Option<String>,
}

/// Weights of more columns are not fitted: the matrix of their products would be too large.
const MOST_COLUMNS: usize = 2400;
/// Observations for each column of the weight.
const PER_COLUMN: usize = 24;
const LEAST_OBSERVATIONS: usize = 8192;
/// Rows of data that outputs are compared on.
const DRIFT_ROWS: usize = 256;

impl<'a> Work<'a> {
    fn new(removal: &'a Removal, pruned: &Model, batches: &'a Batches, options: &'a Options) -> Self {
        let original = &removal.original;
        let varies = varying(original, fed_inputs(original).into_iter().map(|(v, _)| v));
        let original_shapes = infer(original, batches.sizes(original));
        let macs: BTreeMap<NodeId, u64> =
            node_costs(original, &original_shapes).into_iter().map(|(n, c)| (n, c.macs)).collect();
        // By the original's costs in both, so that one order is that of the other.
        let order = |model: &Model| lightest_first(model, &|n| macs.get(&n).copied().unwrap_or(0));
        let first = order(original);
        let next = first.iter().zip(first.iter().skip(1)).map(|(&a, &b)| (a, b)).collect();
        Self {
            removal,
            options,
            batches,
            original_run: Stepwise::in_order(original, &batches.batches, first),
            pruned_run: Stepwise::in_order(pruned, &batches.batches, order(pruned)),
            original_shapes,
            varies,
            next,
            writers: BTreeMap::new(),
            steps: 0,
        }
    }

    fn constant(&self, v: ValueId) -> bool {
        self.removal.coupling.constant.get(v.index()).copied().unwrap_or(true)
    }

    fn is_contraction(&self, n: NodeId) -> bool {
        let effect = self.original_shapes.effect(n).and_then(|e| e.as_ref().ok());
        effect.and_then(crate::analysis::contraction).is_some()
    }

    /// Whether a node reads a value that has fewer channels than in the original, and sums over them.
    fn loses_inputs(&self, pruned: &Model, n: NodeId) -> bool {
        self.is_contraction(n)
            && pruned.node(n).inputs().iter().flatten().any(|&v| !self.constant(v) && self.kept(v).is_some())
    }

    /// What stays of the axes of a value that lose something: axis and positions. `None` where nothing goes.
    fn kept(&self, v: ValueId) -> Option<Vec<(usize, Vec<usize>)>> {
        if v.index() >= self.removal.original.value_count() {
            return None;
        }
        let kept = self.removal.coupling.kept(0, v, &self.removal.removed)?;
        let axes: Vec<(usize, Vec<usize>)> = kept
            .iter()
            .enumerate()
            .filter(|(_, k)| k.loses())
            .filter_map(|(a, k)| {
                let stays: Option<Vec<bool>> = (0..k.extent()).map(|p| k.stays(p)).collect();
                Some((a, stays?.iter().enumerate().filter(|s| *s.1).map(|s| s.0).collect()))
            })
            .collect();
        (!axes.is_empty()).then_some(axes)
    }

    /// A value of the original, as far as the pruned model still has it, batch by batch.
    fn original_kept(&self, v: ValueId) -> Option<Vec<Cow<'_, Tensor>>> {
        let all = self.original_run.value(v)?;
        let Some(kept) = self.kept(v) else { return Some(all.into_iter().map(Cow::Borrowed).collect()) };
        let axes: Vec<(usize, &[usize])> = kept.iter().map(|(a, k)| (*a, &k[..])).collect();
        all.into_iter().map(|t| Some(Cow::Owned(t.take_all(&axes)?))).collect()
    }

    fn one(&mut self, pruned: &mut Model, n: NodeId) -> Result<Result<Repaired, Skip>, CannotRun> {
        let original = &self.removal.original;
        let shapes = infer(pruned, self.batches.sizes(pruned));
        let linear = match Linear::of(pruned, &shapes, &|v| self.constant(v), n) {
            Ok(linear) => linear,
            Err("it is constant") | Err("both of its factors depend on the input") => return Ok(Err(Skip::Nothing)),
            Err(why) => return Ok(Err(Skip::Because(why.to_owned()))),
        };
        let before = Linear::of(original, &self.original_shapes, &|v| self.constant(v), n);
        let read = before.as_ref().map_or(linear.data, |b| b.data);
        let channels = [before.map_or(linear.channels, |b| b.channels * b.groups), linear.channels * linear.groups];
        let next = self.next.get(&n).copied();
        self.original_run.run_to(original, next, &BTreeSet::from([read, linear.output]))?;
        self.pruned_run.run_to(pruned, Some(n), &BTreeSet::from([linear.data]))?;

        let uses = pruned.uses();
        let mut ending = target::ending(pruned, &shapes, &uses, &|v| self.varies.contains(&v), linear.output);
        let at_hand = |v: ValueId| self.pruned_run.value(v).is_some() && self.original_run.value(v).is_some();
        // What is not computed yet cannot be told.
        if !self.options.residual || ending.other.is_some_and(|o| !at_hand(o)) {
            ending = ending.alone();
        }
        let home = store::home(pruned, &shapes, &uses, &linear);
        let fitted = match self.regress(pruned, &shapes, &linear, &ending, home) {
            Ok(fitted) => fitted,
            Err(why) => return Ok(Err(Skip::Because(why.to_owned()))),
        };
        let fitted = match home {
            Some(home) if !fitted.few => self.refine(pruned, &linear, &ending, home, fitted)?,
            _ => {
                self.writers.remove(&n);
                fitted
            }
        };
        Ok(Ok(Repaired {
            node: pruned.label(n),
            channels,
            error: fitted.error,
            places: fitted.places,
            constant: home.is_some(),
            residual: ending.other.is_some(),
            writer: fitted.writer,
        }))
    }

    /// Fits a contraction to its target, and stores its new weights.
    fn regress(
        &self,
        pruned: &mut Model,
        shapes: &Shapes,
        linear: &Linear,
        ending: &target::Ending,
        home: Option<store::Home>,
    ) -> Result<Fitted, &'static str> {
        let observed =
            self.observe(pruned, linear, ending).ok_or("its channels do not stay in step with the original's")?;
        let old = linear.weights(pruned, shapes).ok_or("its weights cannot be evaluated")?;
        let old: Vec<f64> = old.iter().map(|w| w * linear.addend.of_sum).collect();
        let (columns, per_group) = (linear.columns(), linear.outs * linear.columns());
        let (mut weights, mut constants) = (Vec::new(), Vec::new());
        let (mut error, mut total, mut places, mut few) = ([0.0; 2], 0.0, 0, false);
        for (g, ((observations, slack), old)) in observed.iter().zip(old.chunks_exact(per_group)).enumerate() {
            places = observations.samples;
            few = columns > MOST_COLUMNS || places < response::LEAST_A_COLUMN * columns;
            let (fitted, fit) = match few {
                true => {
                    let fitted = self.by_channels(linear, g).unwrap_or_else(|| old.to_vec());
                    let fit = solve::Fit::of(observations, columns, home.is_some(), [old, &fitted]);
                    (fitted, fit)
                }
                false => {
                    let moments = Moments::of(observations, columns, home.is_some());
                    let slack = ending.is_limited().then_some(&slack[..]).filter(|_| home.is_some());
                    let found = solve::fit(observations, &moments, old, self.options.ridge, slack);
                    let (fitted, constants) = found.map_or_else(|| (old.to_vec(), None), |(w, c)| (w, Some(c)));
                    let mut fit = moments.fit([old, &fitted]);
                    fit.constants = constants.unwrap_or(fit.constants);
                    (fitted, fit)
                }
            };
            (0..2).for_each(|i| error[i] += fit.error[i]);
            total += fit.variance;
            constants.extend(fit.constants);
            weights.extend(fitted);
        }
        let unscaled: Vec<f64> = weights.iter().map(|w| w / linear.addend.of_sum).collect();
        store::store_weights(pruned, shapes, linear, &unscaled)
            .ok_or("the new weights are no numbers of their type")?;
        if let Some(home) = home {
            store::store_constants(pruned, shapes, home, &constants);
        }
        let share = |e: f64| if total > 0.0 { e / total } else { 0.0 };
        Ok(Fitted { weights, constants, error: error.map(share), places, few, writer: None })
    }

    /// New weights of one group where its columns are too many to fit: each channel of the original is made of those that
    /// are left, the same way at every tap.
    fn by_channels(&self, linear: &Linear, group: usize) -> Option<Vec<f64>> {
        let original = &self.removal.original;
        let before = Linear::of(original, &self.original_shapes, &|v| self.constant(v), linear.node).ok()?;
        let coupling = &self.removal.coupling;
        let classes = response::column_classes(original, coupling, &before)?;
        let classes = &classes[group * before.channels..(group + 1) * before.channels];
        let all = response::channel_columns(&before, classes);
        let stays = |c: &Vec<usize>| !self.removal.removed.contains(&classes[c[0] / before.taps]);
        let kept: Vec<bool> = all.iter().map(stays).collect();
        // Columns are numbered anew without those that are gone.
        let mut left = vec![usize::MAX; before.columns()];
        let mut staying: Vec<usize> = all.iter().zip(&kept).filter(|k| *k.1).flat_map(|k| k.0.clone()).collect();
        staying.sort_unstable();
        staying.iter().enumerate().for_each(|(i, &c)| left[c] = i);
        let now: Vec<Vec<usize>> =
            all.iter().zip(&kept).filter(|k| *k.1).map(|k| k.0.iter().map(|&c| left[c]).collect()).collect();
        if staying.len() != linear.columns() || before.groups != linear.groups || now.is_empty() {
            return None;
        }
        let (was, is) = (self.original_run.value(before.data)?, self.pruned_run.value(linear.data)?);
        // Every tap of a place is an observation.
        let wanted = solve::observations(all.len(), all.len() + now.len(), PER_COLUMN, LEAST_OBSERVATIONS);
        let taps = before.columns() / all.len().max(1);
        let places = wanted.div_ceil(taps.max(1) * is.len()).min(before.rows).min(linear.rows);
        let samples = places * is.len();
        let gathered = |l: &Linear, data: &[&Tensor]| -> Option<Vec<f32>> {
            let mut out = vec![0.0; l.columns() * samples];
            for (b, x) in data.iter().enumerate() {
                let rows = draw(l.rows, places, "channels", self.options.seed ^ b as u64);
                l.gather(&x.to_f32()?, group, &rows, &mut out, samples, b * places);
            }
            Some(out)
        };
        let regressors = response::by_channel(&gathered(linear, &is)?, samples, &now);
        let targets = response::by_channel(&gathered(&before, &was)?, samples, &all);
        let together = Observations { samples: regressors.samples, data: [regressors.data, targets.data].concat() };
        let moments = Moments::of(&together, now.len(), true);
        let mut identity = vec![0.0; all.len() * now.len()];
        let numbers = kept.iter().enumerate().filter(|k| *k.1).map(|k| k.0);
        numbers.enumerate().for_each(|(i, c)| identity[c * now.len() + i] = 1.0);
        let made = moments.regress(&identity, self.options.ridge)?;
        // The outputs that are left, each with all channels of the original.
        let weights = self.outputs_left(&before, linear, group)?;
        let weights = response::transposed(&weights, before.columns(), &all);
        // One column of these an output and tap.
        let weights = DMatrix::from_vec(all.len(), weights.len() / all.len(), weights);
        let new = DMatrix::from_vec(now.len(), all.len(), made) * weights;
        Some(response::straightened(new.as_slice(), linear.columns(), &now))
    }

    /// The original's weights of one group, `[outs][columns]`, for the outputs that are left.
    fn outputs_left(&self, before: &Linear, now: &Linear, group: usize) -> Option<Vec<f64>> {
        let weights = before.weights(&self.removal.original, &self.original_shapes)?;
        let size = before.outs * before.columns();
        let own = &weights[group * size..(group + 1) * size];
        let shape = self.original_shapes.shape(before.output)?;
        let axis = before.output_axis(shape)?;
        let kept = self.kept(before.output).unwrap_or_default();
        let kept = kept.iter().find(|(a, _)| *a == axis).map(|k| &k.1);
        let outs: Vec<usize> = match kept {
            Some(kept) => {
                let first = group * before.outs;
                kept.iter().filter(|&&k| (first..first + before.outs).contains(&k)).map(|k| k - first).collect()
            }
            None => (0..before.outs).collect(),
        };
        let scale = before.addend.of_sum;
        let rows = outs.iter().flat_map(|&o| &own[o * before.columns()..(o + 1) * before.columns()]);
        (outs.len() == now.outs).then(|| rows.map(|w| w * scale).collect())
    }
}

/// Some of `count` places, ascending, the same for the same name and seed.
fn draw(count: usize, wanted: usize, name: &str, seed: u64) -> Vec<usize> {
    if wanted >= count {
        return (0..count).collect();
    }
    let mut rng = generator(name, seed);
    // One from each of equal stretches: spread over the map, and none twice.
    (0..wanted)
        .map(|i| {
            let (low, high) = (i * count / wanted, (i + 1) * count / wanted);
            low + (rng.next_u64() % (high - low) as u64) as usize
        })
        .collect()
}
