//! A repair on its way through a model: the original, a cut model, and where the runs of both stand.

use super::linear::Linear;
use super::outputs::{compared, of_run};
use super::solve::{self, Moments};
use super::{Options, Removal, Repaired, Unrepaired, refine, response, store, target};
use crate::analysis::{Shapes, fed_inputs, infer, node_costs};
use crate::ir::{Model, NodeId, ValueId};
use crate::onnx::tensor::Tensor;
use crate::run::{Batches, CannotRun, Stepwise, lightest_first, varying};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Weights of more columns are not fitted: the matrix of their products would be too large.
const MOST_COLUMNS: usize = 2400;

/// Observations for each column of a weight, as far as the data has so many.
pub const PER_COLUMN: usize = 24;

/// The original, run along with what was made of it.
pub struct Original<'a> {
    model: &'a Model,
    pub shapes: Shapes,
    pub run: Stepwise,
    /// What outputs are compared by, which stays at hand.
    outputs: BTreeSet<ValueId>,
    /// For each node the one that runs after it.
    next: BTreeMap<NodeId, NodeId>,
    /// Of each node, by which the order goes.
    macs: BTreeMap<NodeId, u64>,
    /// Values that depend on the input.
    varies: BTreeSet<ValueId>,
}

impl<'a> Original<'a> {
    pub fn new(model: &'a Model, batches: &Batches) -> Self {
        let shapes = infer(model, batches.sizes(model));
        let macs: BTreeMap<NodeId, u64> = node_costs(model, &shapes).into_iter().map(|(n, c)| (n, c.macs)).collect();
        let order = in_order(model, &macs);
        let next = order.iter().zip(order.iter().skip(1)).map(|(&a, &b)| (a, b)).collect();
        Self {
            model,
            shapes,
            run: Stepwise::in_order(model, &batches.batches, order),
            outputs: compared(model).into_iter().collect(),
            next,
            macs,
            varies: varying(model, fed_inputs(model).into_iter().map(|(v, _)| v)),
        }
    }

    /// A run of a model that was made of this one, in the same order as far as their nodes are the same: from where
    /// this one's stands, so that must be before what was changed.
    pub fn start(&self, pruned: &Model, batches: &Batches) -> Stepwise {
        let order = in_order(pruned, &self.macs);
        match order == self.run.order() {
            true => self.run.clone(),
            false => Stepwise::in_order(pruned, &batches.batches, order),
        }
    }

    fn contracts(&self, n: NodeId) -> bool {
        let effect = self.shapes.effect(n).and_then(|e| e.as_ref().ok());
        effect.and_then(crate::analysis::contraction).is_some()
    }

    fn run_to(&mut self, stop: Option<NodeId>, keep: &[ValueId]) -> Result<(), CannotRun> {
        let keep = keep.iter().chain(&self.outputs).copied().collect();
        self.run.run_to(self.model, stop, &keep)
    }

    /// Runs all that comes before a node.
    pub fn run_before(&mut self, node: NodeId) -> Result<(), CannotRun> {
        self.run_to(Some(node), &[])
    }

    /// Runs a node, too; what it reads and writes is at hand until the next one is run.
    pub fn run_through(&mut self, node: NodeId) -> Result<(), CannotRun> {
        let mut keep = self.model.reads_of(node);
        keep.extend(self.model.node(node).outputs().iter().flatten());
        self.run_to(self.next.get(&node).copied(), &keep)
    }

    /// The outputs of some batches, when all has run.
    pub fn outputs(&mut self, batches: Range<usize>) -> Result<Vec<Vec<f64>>, CannotRun> {
        self.run_to(None, &[])?;
        Ok(of_run(self.model, &self.run, batches))
    }
}

/// By the original's costs in any model, so that one order is that of the other.
fn in_order(model: &Model, macs: &BTreeMap<NodeId, u64>) -> Vec<NodeId> {
    lightest_first(model, &|n| macs.get(&n).copied().unwrap_or(0))
}

enum Skip {
    /// There is nothing to repair.
    Nothing,
    Because(String),
}

/// The repair of one cut model.
pub struct Work<'a> {
    pub removal: &'a Removal,
    pub options: &'a Options,
    pub batches: &'a Batches,
    /// How many of them layers are fitted on; the others run along.
    pub fitted: usize,
    /// The run of the cut model.
    pub run: Stepwise,
    /// By its reader, the other layer of each pair that is fitted together, and how often.
    pub writers: BTreeMap<NodeId, refine::Writer>,
    pub steps: usize,
    /// Values that are not what they were.
    pub changed: BTreeSet<ValueId>,
    pub repaired: Vec<Repaired>,
    pub unrepaired: Vec<Unrepaired>,
}

/// New weights of a contraction, as they were stored.
pub struct Fitted {
    /// `[groups][outs][columns]`, and a constant for each output.
    pub weights: Vec<f64>,
    pub constants: Vec<f64>,
    /// Of the output, before and after, relative to its variance.
    pub error: [f64; 2],
    pub places: usize,
    /// Whether there were too few observations to fit each column.
    pub few: bool,
    /// The layer before it, where that was changed too.
    pub writer: Option<String>,
}

impl<'a> Work<'a> {
    /// `run` stands before the first node that a cut changes.
    pub fn new(removal: &'a Removal, run: Stepwise, batches: &'a Batches, options: &'a Options) -> Self {
        Self {
            removal,
            options,
            batches,
            fitted: batches.batches.len(),
            run,
            writers: BTreeMap::new(),
            steps: 0,
            changed: BTreeSet::new(),
            repaired: Vec::new(),
            unrepaired: Vec::new(),
        }
    }

    /// Whether the next node in order is to be fitted: where it reads less than before, or something else.
    pub fn asks(&mut self, original: &Original, pruned: &Model, n: NodeId) -> bool {
        let reads_change = pruned.reads_of(n).iter().any(|v| self.changed.contains(v));
        let contracts = original.contracts(n);
        let loses = contracts && self.loses_inputs(pruned, n);
        if reads_change || loses {
            self.changed.extend(pruned.node(n).outputs().iter().flatten());
        }
        contracts && (loses || (self.options.downstream && reads_change))
    }

    /// Fits a node that the original has just run.
    pub fn fit(&mut self, original: &Original, pruned: &mut Model, n: NodeId) -> Result<(), CannotRun> {
        match self.one(original, pruned, n)? {
            Ok(repaired) => self.repaired.push(repaired),
            Err(Skip::Nothing) => {}
            Err(Skip::Because(reason)) => {
                let node = pruned.label(n);
                self.unrepaired.push(Unrepaired { node, reason });
            }
        }
        Ok(())
    }

    /// The outputs of some batches of the cut model, when all nodes were visited.
    pub fn outputs(&mut self, pruned: &Model, batches: Range<usize>) -> Result<Vec<Vec<f64>>, CannotRun> {
        self.run_to(pruned, None, &[])?;
        Ok(of_run(pruned, &self.run, batches))
    }

    pub(super) fn run_to(&mut self, pruned: &Model, stop: Option<NodeId>, keep: &[ValueId]) -> Result<(), CannotRun> {
        let keep = keep.iter().copied().chain(compared(pruned)).collect();
        self.run.run_to(pruned, stop, &keep)
    }

    /// Whether a node reads a value that has fewer channels than in the original.
    fn loses_inputs(&self, pruned: &Model, n: NodeId) -> bool {
        pruned.node(n).inputs().iter().flatten().any(|&v| !self.removal.constant(v) && self.removal.kept(v).is_some())
    }

    /// A value of the original, as far as the pruned model still has it, batch by batch.
    pub(super) fn original_kept<'b>(&self, original: &'b Original, v: ValueId) -> Option<Vec<Cow<'b, Tensor>>> {
        let all = original.run.value(v)?;
        let Some(kept) = self.removal.kept(v) else { return Some(all.into_iter().map(Cow::Borrowed).collect()) };
        let axes: Vec<(usize, &[usize])> = kept.iter().map(|(a, k)| (*a, &k[..])).collect();
        all.into_iter().map(|t| Some(Cow::Owned(t.take_all(&axes)?))).collect()
    }

    fn one(&mut self, original: &Original, pruned: &mut Model, n: NodeId) -> Result<Result<Repaired, Skip>, CannotRun> {
        let shapes = infer(pruned, self.batches.sizes(pruned));
        let linear = match Linear::of(pruned, &shapes, &|v| self.removal.constant(v), n) {
            Ok(linear) => linear,
            Err("it is constant") | Err("both of its factors depend on the input") => return Ok(Err(Skip::Nothing)),
            Err(why) => return Ok(Err(Skip::Because(why.to_owned()))),
        };
        let before = Linear::of(original.model, &original.shapes, &|v| self.removal.constant(v), n);
        let channels = [before.map_or(linear.channels, |b| b.channels * b.groups), linear.channels * linear.groups];
        self.run_to(pruned, Some(n), &[linear.data])?;

        let uses = pruned.uses();
        let mut ending = target::ending(pruned, &shapes, &uses, &|v| original.varies.contains(&v), linear.output);
        let at_hand = |v: ValueId| self.run.value(v).is_some() && original.run.value(v).is_some();
        // What is not computed yet cannot be told.
        if !self.options.residual || ending.other.is_some_and(|o| !at_hand(o)) {
            ending = ending.alone();
        }
        let home = store::home(pruned, &shapes, &uses, &linear);
        let fitted = match self.regress(original, pruned, &shapes, &linear, &ending, home) {
            Ok(fitted) => fitted,
            Err(why) => return Ok(Err(Skip::Because(why.to_owned()))),
        };
        let fitted = match home {
            Some(home) if !fitted.few => self.refine(original, pruned, &linear, &ending, home, fitted)?,
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
    pub(super) fn regress(
        &self,
        original: &Original,
        pruned: &mut Model,
        shapes: &Shapes,
        linear: &Linear,
        ending: &target::Ending,
        home: Option<store::Home>,
    ) -> Result<Fitted, &'static str> {
        let observed = self
            .observe(original, pruned, linear, ending)
            .ok_or("its channels do not stay in step with the original's")?;
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
                    let fitted = self.by_channels(original, linear, g).unwrap_or_else(|| old.to_vec());
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
}
