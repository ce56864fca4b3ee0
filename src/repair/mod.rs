//! Making good what a cut has lost, without training: every contraction that reads less than before gets the weights
//! with which it computes, from what is left, most nearly what it computed in the original.
//!
//! Guarantees: the graph stays as it is, but for biases that a convolution may gain; what a repair did is told node by
//! node, with the error before and after, and so is what was not repaired and why. The same bytes for any number of
//! threads.
//! Refuses: models that the interpreter cannot run ([`CannotRun`], with the node).
//! How: the original and the cut model are run side by side on calibration data ([`crate::run::Stepwise`]), from
//! contraction to contraction (`work`), in an order in which both branches of a sum are known as early as can be. At each
//! the cut model's own inputs, as repaired so far, are regressed on the original's output, and on what the sum that it
//! ends in has lost elsewhere (`target`): ridge regression with a constant, in closed form (`solve`). Where one layer
//! alone reads what was cut, both are then fitted as one, in a few steps (`pair`, `refine`).

mod channels;
mod linear;
mod observe;
mod outputs;
mod pair;
mod refine;
pub mod response;
mod solve;
mod store;
mod target;
pub mod trial;
mod work;

pub use linear::Linear;
pub use solve::{Moments, Observations, relative};
pub use target::statistics;

use crate::analysis::{Atom, Coupling, infer};
use crate::ir::{Model, ValueId};
use crate::run::{Batches, CannotRun, admit_size, generator};
use outputs::{computed, drift};
use rand_chacha::rand_core::Rng;
use std::collections::BTreeSet;
use std::sync::Arc;
use work::{Original, Work};

/// What was removed from which model.
#[derive(Debug, Clone)]
pub struct Removal {
    /// As it was before; ids are those of the cut model.
    pub original: Arc<Model>,
    pub coupling: Arc<Coupling>,
    pub removed: BTreeSet<Atom>,
}

impl Removal {
    fn constant(&self, v: ValueId) -> bool {
        self.coupling.constant.get(v.index()).copied().unwrap_or(true)
    }

    /// What stays of the axes of a value that lose something: axis and positions. `None` where nothing goes.
    fn kept(&self, v: ValueId) -> Option<Vec<(usize, Vec<usize>)>> {
        if v.index() >= self.original.value_count() {
            return None;
        }
        let kept = self.coupling.kept(0, v, &self.removed)?;
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
    let mut original = Original::new(&removal.original, batches);
    admit_size(&removal.original, &original.shapes)?;
    let few = batches.first(DRIFT_ROWS);
    let cut = computed(pruned, &few)?;
    let mut work = Work::new(removal, original.start(pruned, batches), batches, options);
    (work.writers, work.steps) = refine::pairs(&work, pruned, &infer(pruned, batches.sizes(pruned)));
    for n in work.run.order().to_vec() {
        if work.asks(&original, pruned, n) {
            original.run_through(n)?;
            work.fit(&original, pruned, n)?;
        }
        work.remember(pruned, n)?;
    }
    let count = 0..few.batches.len();
    let (expected, found) = (original.outputs(count.clone())?, work.outputs(pruned, count)?);
    Ok(Report {
        drift: [drift(&expected, &cut), drift(&expected, &found)],
        repaired: work.repaired,
        unrepaired: work.unrepaired,
        samples: batches.samples,
        data: batches.origin.clone(),
        ridge: options.ridge,
    })
}

/// Rows of data that outputs are compared on.
const DRIFT_ROWS: usize = 256;

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
