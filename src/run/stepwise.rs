//! Running a model a stretch of nodes at a time, on many batches, with the values between stretches at hand.
//!
//! Guarantees: every batch goes through the same stretches; what lies between them is kept as long as a later node
//! reads it, or a caller asks for it, and no longer. Nodes that have not run may be changed at any time, and constants
//! may: what depends on no input is computed anew in each stretch that reads it.
//! Refuses: what [`Runner`] refuses, with the node.
//! How: each stretch is a model of its own, whose inputs are the values that live across its start. Values that are
//! the same for all batches (shapes) are stored in it as constants, for the interpreter wants to know shapes
//! beforehand. Half precision is computed in single.

use super::{CannotRun, Runner, widen};
use crate::analysis::fed_inputs;
use crate::ir::{Model, NodeId, ValueId};
use crate::onnx::tensor::{DataType, Tensor};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Integer values of more elements than this are data, not shapes.
const MOST_SHAPE_ELEMENTS: usize = 1024;

/// A value between two stretches.
#[derive(Debug, Clone)]
enum Live {
    /// The same for all batches.
    Fixed(Tensor),
    /// One tensor a batch.
    Batched(Vec<Tensor>),
}

/// Where a run over all batches stands.
#[derive(Debug, Clone)]
pub struct Stepwise {
    live: BTreeMap<ValueId, Live>,
    batches: usize,
    /// Nodes of the main graph, in the order in which they run.
    order: Vec<NodeId>,
    /// How many of them have run.
    done: usize,
    /// Values that depend on what is fed.
    varies: BTreeSet<ValueId>,
}

impl Stepwise {
    /// Nothing has run yet. Each batch holds a tensor for every input of the model, in the order of
    /// [`fed_inputs`]. Nodes run in the order of the graph.
    ///
    /// # Panics
    /// If a batch has another number of tensors.
    pub fn new(model: &Model, batches: &[Vec<Tensor>]) -> Self {
        Self::in_order(model, batches, model.graph(model.main()).nodes().to_vec())
    }

    /// [`Stepwise::new`], with the nodes of the main graph in another order in which each follows those that it reads
    /// from.
    pub fn in_order(model: &Model, batches: &[Vec<Tensor>], order: Vec<NodeId>) -> Self {
        let fed: Vec<ValueId> = fed_inputs(model).into_iter().map(|(v, _)| v).collect();
        assert!(batches.iter().all(|b| b.len() == fed.len()), "a tensor for every input");
        let of = |i: usize| Live::Batched(batches.iter().map(|b| widen::tensor(&b[i])).collect());
        let varies = varying(model, fed.iter().copied());
        Self {
            live: fed.iter().enumerate().map(|(i, &v)| (v, of(i))).collect(),
            batches: batches.len(),
            order,
            done: 0,
            varies,
        }
    }

    /// The nodes of the main graph, in the order in which they run.
    pub fn order(&self) -> &[NodeId] {
        &self.order
    }

    /// How many batches there are.
    pub fn batches(&self) -> usize {
        self.batches
    }

    /// A value of every batch, where it is at hand.
    pub fn value(&self, value: ValueId) -> Option<Vec<&Tensor>> {
        Some(match self.live.get(&value)? {
            Live::Fixed(t) => vec![t; self.batches],
            Live::Batched(all) => all.iter().collect(),
        })
    }

    /// Runs all nodes of the main graph that come before `stop` and have not run yet, or all where it is `None`. `keep`
    /// stays at hand though nothing reads it any more.
    pub fn run_to(&mut self, model: &Model, stop: Option<NodeId>, keep: &BTreeSet<ValueId>) -> Result<(), CannotRun> {
        let end = match stop {
            Some(stop) => self.order.iter().position(|&n| n == stop).unwrap_or(self.order.len()),
            None => self.order.len(),
        };
        if end > self.done {
            self.run_part(model, end, keep)?;
            self.done = end;
        }
        Ok(())
    }

    fn run_part(&mut self, model: &Model, end: usize, keep: &BTreeSet<ValueId>) -> Result<(), CannotRun> {
        let outside: BTreeSet<ValueId> =
            keep.iter().copied().chain(model.graph(model.main()).outputs().iter().map(|p| p.value)).collect();
        let mut wanted: BTreeSet<ValueId> = self.order[end..].iter().flat_map(|&n| model.reads_of(n)).collect();
        wanted.retain(|v| self.varies.contains(v));
        wanted.extend(outside);
        let outputs: Vec<ValueId> = self.order[self.done..end]
            .iter()
            .flat_map(|&n| model.node(n).outputs().iter().flatten().copied())
            .filter(|v| wanted.contains(v) && model.constant(*v).is_none())
            .collect();
        let needed = self.needed(model, end, &outputs);
        let reads: BTreeSet<ValueId> = needed.iter().flat_map(|&n| model.reads_of(n)).collect();
        let inputs: Vec<ValueId> = reads.into_iter().filter(|v| self.live.contains_key(v)).collect();
        let computed = if outputs.is_empty() { Vec::new() } else { self.compute(model, &needed, &inputs, &outputs)? };
        self.live.retain(|v, _| wanted.contains(v));
        for (v, all) in outputs.into_iter().zip(computed) {
            self.live.insert(v, self.settled(v, all));
        }
        Ok(())
    }

    /// The nodes that the outputs of the stretch up to `end` depend on: its own, and those of all before it that depend
    /// on no input.
    fn needed(&self, model: &Model, end: usize, outputs: &[ValueId]) -> Vec<NodeId> {
        let mut wanted: BTreeSet<ValueId> = outputs.iter().copied().collect();
        let mut needed = Vec::new();
        for (i, &n) in self.order[..end].iter().enumerate().rev() {
            let mut made = model.node(n).outputs().iter().flatten();
            if made.any(|v| wanted.contains(v) && (i >= self.done || !self.varies.contains(v))) {
                wanted.extend(model.reads_of(n));
                needed.push(n);
            }
        }
        needed.reverse();
        needed
    }

    /// The outputs of a stretch, each for all batches.
    fn compute(
        &self,
        model: &Model,
        part: &[NodeId],
        inputs: &[ValueId],
        outputs: &[ValueId],
    ) -> Result<Vec<Vec<Tensor>>, CannotRun> {
        let mut stored: Vec<(ValueId, &Tensor)> = Vec::new();
        let mut fed: Vec<(ValueId, &[Tensor])> = Vec::new();
        for &v in inputs {
            match &self.live[&v] {
                Live::Fixed(t) => stored.push((v, t)),
                Live::Batched(all) => fed.push((v, all)),
            }
        }
        // What depends on no input is computed once.
        let batches = if fed.is_empty() { 1 } else { self.batches };
        let shape = |b: usize| fed.iter().map(|(_, all)| all[b].shape().to_vec()).collect::<Vec<_>>();
        let mut runners: BTreeMap<Vec<Vec<usize>>, Runner> = BTreeMap::new();
        for b in 0..batches {
            if runners.contains_key(&shape(b)) {
                continue;
            }
            let typed: Vec<(ValueId, DataType, Vec<usize>)> =
                fed.iter().map(|(v, all)| (*v, all[b].dtype(), all[b].shape().to_vec())).collect();
            let mut proto = model.export_part(part, &typed, &stored, outputs);
            widen::model(&mut proto);
            let named: Vec<(String, DataType, Vec<usize>)> =
                typed.into_iter().map(|(v, t, s)| (model.value(v).name().to_owned(), t, s)).collect();
            let runner = Runner::load_optimized(&proto, &named).or_else(|_| Runner::load(&proto, &named))?;
            runners.insert(shape(b), runner);
        }
        let run = |b: usize| {
            let given: Vec<Tensor> = fed.iter().map(|(_, all)| all[b].clone()).collect();
            runners[&shape(b)].run(&given)
        };
        let by_batch: Vec<Vec<Tensor>> = (0..batches).into_par_iter().map(run).collect::<Result<_, _>>()?;
        let mut by_output: Vec<Vec<Tensor>> = outputs.iter().map(|_| Vec::with_capacity(batches)).collect();
        for values in by_batch {
            by_output.iter_mut().zip(values).for_each(|(all, t)| all.push(t));
        }
        Ok(by_output)
    }

    fn settled(&self, value: ValueId, mut all: Vec<Tensor>) -> Live {
        let shape_like = |t: &Tensor| {
            !matches!(t.dtype(), DataType::Float | DataType::Double) && t.elements() <= MOST_SHAPE_ELEMENTS
        };
        let one = all.len() == 1 && self.batches > 1;
        let fixed = one || !self.varies.contains(&value) || (shape_like(&all[0]) && all.iter().all(|t| *t == all[0]));
        match fixed {
            true => Live::Fixed(all.swap_remove(0)),
            false => Live::Batched(all),
        }
    }
}

/// These values of the main graph, and all that depend on them.
pub fn varying(model: &Model, from: impl IntoIterator<Item = ValueId>) -> BTreeSet<ValueId> {
    let mut varies: BTreeSet<ValueId> = from.into_iter().collect();
    for &n in model.graph(model.main()).nodes() {
        if model.reads_of(n).iter().any(|v| varies.contains(v)) {
            varies.extend(model.node(n).outputs().iter().flatten());
        }
    }
    varies
}
