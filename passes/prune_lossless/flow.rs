//! Numbers of every value, node by node, under one assignment of sizes.
//!
//! Guarantees: what [`Table`] says of numbers holds for those given here, as long as no element is infinite or NaN.
//! How: along the axes that labels run along (those of the coupling), the number of a slice of the output is made of
//! the numbers of the slices that it is computed from, as the node's action says which these are. A node that is not
//! known gives numbers that equal nothing else.

use super::number::{Number, Numbers, Reals, Table, place, spread};
use crate::analysis::{Coupling, World, evaluate_constant, matching_axes};
use crate::ir::{Def, Model, NodeId, ValueId};
use crate::onnx::tensor::Tensor;
use crate::ops::step::Step;
use crate::ops::{Action, Effect, Operand, Row, array};
use std::collections::BTreeMap;

/// Slices of one tensor beyond which they are not told apart.
const MOST_SLICES: usize = 1 << 16;

/// Numbers of one model beyond which no more slices are told apart.
const MOST_NUMBERS: usize = 1 << 20;

pub(super) struct Numbering<'a> {
    pub model: &'a Model,
    pub world: &'a World,
    pub table: Table,
    /// By [`ValueId::index`]: computed from constants that no caller can override.
    known: Vec<bool>,
    values: Vec<Option<Numbers>>,
    contents: BTreeMap<ValueId, Option<Tensor>>,
}

/// One operand of a place-by-place computation.
struct Seen {
    input: usize,
    /// Its axes that the output's numbered axes come from: own axis, index among the numbered axes.
    from: Vec<(usize, usize)>,
    /// For every slice of the output the operand's slice.
    ids: Vec<Number>,
}

impl<'a> Numbering<'a> {
    pub fn of(model: &'a Model, coupling: &Coupling, world: &'a World) -> Self {
        let mut numbering = Self {
            model,
            world,
            table: Table::default(),
            known: known(model, coupling),
            values: vec![None; model.value_count()],
            contents: BTreeMap::new(),
        };
        for n in model.walk() {
            numbering.node(n);
        }
        numbering
    }

    pub fn shape(&self, v: ValueId) -> Option<&'a [usize]> {
        self.world.shapes.shape(v)
    }

    /// The content of a value that is computed from constants.
    pub fn content(&mut self, v: ValueId) -> Option<Tensor> {
        if !self.known[v.index()] {
            return None;
        }
        let (model, shapes) = (self.model, &self.world.shapes);
        let fits = |t: &Tensor| shapes.shape(v) == Some(t.shape());
        self.contents.entry(v).or_insert_with(|| evaluate_constant(model, shapes, v).filter(fits)).clone()
    }

    pub(super) fn numbers(&mut self, v: ValueId) -> Numbers {
        match &self.values[v.index()] {
            Some(numbers) => numbers.clone(),
            None => self.table.whole(v),
        }
    }

    /// The numbers of a value's slices over some of its axes.
    pub fn over(&mut self, v: ValueId, axes: &[usize]) -> Vec<Number> {
        let shape = self.shape(v).unwrap_or(&[]);
        if let Some(tensor) = self.content(v)
            && let Some(reals) = Reals::of(&tensor)
        {
            let axes: Vec<usize> = axes.iter().copied().filter(|&a| shape[a] > 1).collect();
            return self.table.content(&reals, shape, &axes);
        }
        let numbers = self.numbers(v);
        self.table.over(&numbers, shape, axes)
    }

    /// The same of a value seen under another shape.
    pub fn over_view(&mut self, v: ValueId, view: &[usize], axes: &[usize]) -> Vec<Number> {
        let shape = self.shape(v).unwrap_or(&[]);
        if let Some(tensor) = self.content(v)
            && let Some(reals) = Reals::of(&tensor)
        {
            let axes: Vec<usize> = axes.iter().copied().filter(|&a| view[a] > 1).collect();
            return self.table.content(&reals, view, &axes);
        }
        let numbers = self.numbers(v);
        let seen = self.reshaped(numbers, shape, view);
        self.table.over(&seen, view, axes)
    }

    /// How many slices of one tensor are told apart.
    pub(super) fn most_slices(&self) -> usize {
        if self.table.len() < MOST_NUMBERS { MOST_SLICES } else { 1 }
    }

    /// The axes along which the slices of a value are told apart: those that labels run along.
    fn wanted(&self, v: ValueId, shape: &[usize]) -> Vec<usize> {
        let mut axes: Vec<usize> = self.world.fields[v.index()].iter().flat_map(|f| f.axes.clone()).collect();
        axes.retain(|&a| shape[a] > 1);
        axes.sort_unstable();
        axes.dedup();
        let count = axes.iter().map(|&a| shape[a]).fold(1, usize::saturating_mul);
        if count <= self.most_slices() { axes } else { Vec::new() }
    }

    fn node(&mut self, n: NodeId) {
        let node = self.model.node(n);
        if crate::ops::is_random(node.op_type()) || !node.bodies().is_empty() {
            return;
        }
        if node.outputs().iter().flatten().all(|v| self.known[v.index()]) {
            return;
        }
        let Ok((row, _)) = crate::ops::lookup(self.model, node) else { return };
        let world = self.world;
        let Some(Ok(effect)) = world.shapes.effect(n) else { return };
        let shaped = |v: &ValueId| world.shapes.shape(*v).is_some_and(|s| !s.contains(&0));
        let sound = effect.outputs.iter().all(|f| f.shape.as_ref().is_some_and(|s| !s.contains(&0)));
        if !sound || !node.inputs().iter().flatten().all(shaped) {
            return;
        }
        match &effect.action {
            Action::ShapeOnly | Action::Opaque(_) => {}
            Action::Map(operands) => self.map(n, row, effect, operands),
            Action::Layout { input, outputs } => self.layout(n, *input, outputs),
            Action::Concat { axis, inputs } => self.concat(n, effect, *axis, inputs),
            Action::Contract(c) => self.contract(n, row, effect, c),
        }
    }

    pub(super) fn set(&mut self, v: Option<ValueId>, numbers: Numbers) {
        if let Some(v) = v {
            self.values[v.index()] = Some(numbers);
        }
    }

    /// What kind of computation a node is, names of values apart.
    pub(super) fn signature(&mut self, n: NodeId) -> u32 {
        let node = self.model.node(n);
        let facts = self.world.shapes.inputs(node);
        let inputs: Vec<_> = facts.iter().map(|f| f.map(|f| (f.dtype, f.shape.clone()))).collect();
        let text = format!("{}:{}{:?}{inputs:?}", node.domain(), node.op_type(), node.attributes());
        self.table.signature(text)
    }

    /// Inputs that a rule does not mention are parameters: all of each counts.
    pub(super) fn parameters(&mut self, n: NodeId, mentioned: &[usize]) -> Vec<Number> {
        let inputs: Vec<(usize, ValueId)> =
            self.model.node(n).inputs().iter().enumerate().filter_map(|(i, v)| Some((i, (*v)?))).collect();
        inputs.into_iter().filter(|(i, _)| !mentioned.contains(i)).flat_map(|(_, v)| self.over(v, &[])).collect()
    }

    fn map(&mut self, n: NodeId, row: &Row, effect: &Effect, operands: &[Operand]) {
        let Some(out) = self.model.node(n).output(0) else { return };
        // Scales of blocks: what a block has in common is not followed here.
        if operands.iter().any(|o| !o.steps.is_empty()) {
            return;
        }
        let shape = effect.outputs[0].shape.clone().unwrap_or_default();
        let axes = self.wanted(out, &shape);
        let extents: Vec<usize> = axes.iter().map(|&a| shape[a]).collect();
        let mut seen = Vec::new();
        let mut mixes = false;
        // Axes along which the result may depend on the place itself.
        let mut placed: Vec<bool> = vec![true; axes.len()];
        let mut never = vec![false; axes.len()];
        for operand in operands {
            let Some(v) = self.model.node(n).input(operand.input) else { continue };
            let own = self.shape(v).unwrap_or(&[]).to_vec();
            let from: Vec<(usize, usize)> = (0..own.len())
                .filter(|&a| own[a] > 1)
                .filter_map(|a| Some((a, axes.iter().position(|&x| Some(x) == operand.axes[a])?)))
                .collect();
            let mixing = (0..own.len()).any(|a| own[a] > 1 && operand.axes[a].is_none());
            mixes |= mixing;
            for i in 0..axes.len() {
                let sliced = from.iter().any(|f| f.1 == i);
                placed[i] &= !sliced;
                never[i] |= mixing && !sliced;
            }
            let own_axes: Vec<usize> = from.iter().map(|f| f.0).collect();
            let ids = self.over(v, &own_axes);
            seen.push(Seen { input: operand.input, ids: aligned(&ids, &own, &from, &extents), from });
        }
        let placed: Vec<usize> = (0..axes.len()).filter(|&i| placed[i] || never[i]).collect();
        let mentioned: Vec<usize> = operands.iter().map(|o| o.input).collect();
        let parameters = self.parameters(n, &mentioned);
        let by = self.signature(n);
        let count: usize = extents.iter().product();
        let constants = match placed.is_empty() {
            true => self.constants(n, row, &seen, &axes, &shape, mixes),
            false => vec![None; count],
        };
        let ids = (0..count)
            .map(|r| match constants[r] {
                Some(x) => self.table.constant(x),
                None => {
                    let of = seen.iter().map(|s| s.ids[r]).chain(parameters.iter().copied()).collect();
                    let at = place(r, &extents);
                    self.table.made(by, of, placed.iter().map(|&i| at[i]).collect())
                }
            })
            .collect();
        self.set(Some(out), Numbers { axes, ids });
    }

    /// The constants among the slices of a result: those whose operands are constant, or do not count.
    fn constants(
        &mut self,
        n: NodeId,
        row: &Row,
        seen: &[Seen],
        axes: &[usize],
        shape: &[usize],
        mixes: bool,
    ) -> Vec<Option<f64>> {
        let count = seen.first().map_or(0, |s| s.ids.len()).max(1);
        let mut candidates = vec![true; count];
        let mut contents: Vec<Vec<f64>> = Vec::new();
        for s in seen {
            let values = (0..count).map(|r| {
                let ignored = row.ignores.iter().any(|&(zero, other)| {
                    other == s.input
                        && seen.iter().any(|z| z.input == zero && self.table.as_constant(z.ids[r]) == Some(0.0))
                });
                let x = self.table.as_constant(s.ids[r]);
                candidates[r] &= ignored || x.is_some();
                // One, so that nothing is divided by zero.
                x.unwrap_or(1.0)
            });
            contents.push(values.collect());
        }
        if seen.is_empty() || !candidates.contains(&true) {
            return vec![None; count];
        }
        let mut tensors = Vec::new();
        for (s, values) in seen.iter().zip(&contents) {
            let Some(v) = self.model.node(n).input(s.input) else { return vec![None; count] };
            let own = self.shape(v).unwrap_or(&[]);
            // Where nothing is mixed, one position along the other axes stands for all.
            let extent = |a: usize| if mixes || s.from.iter().any(|f| f.0 == a) { own[a] } else { 1 };
            let small: Vec<usize> = (0..own.len()).map(extent).collect();
            let strides = array::strides(&axes.iter().map(|&a| shape[a]).collect::<Vec<_>>());
            let stride: Vec<usize> =
                (0..own.len()).map(|a| s.from.iter().find(|f| f.0 == a).map_or(0, |f| strides[f.1])).collect();
            tensors.push((s.input, small.clone(), array::strided(values, &small, &stride)));
        }
        let found = self.evaluate(n, row, tensors, axes).unwrap_or_else(|| vec![None; count]);
        found.into_iter().zip(candidates).map(|(x, constant)| x.filter(|_| constant)).collect()
    }

    fn layout(&mut self, n: NodeId, input: usize, outputs: &[Vec<Step>]) {
        let Some(v) = self.model.node(n).input(input) else { return };
        let shape = self.shape(v).unwrap_or(&[]).to_vec();
        let axes = match self.known[v.index()] {
            true => self.wanted(v, &shape),
            false => self.numbers(v).axes,
        };
        let from = Numbers { ids: self.over(v, &axes), axes };
        for (k, steps) in outputs.iter().enumerate() {
            let (mut numbers, mut shape) = (from.clone(), shape.clone());
            for step in steps {
                numbers = self.step(n, numbers, step, &shape);
                shape = step.shape(&shape);
            }
            self.set(self.model.node(n).output(k), numbers);
        }
    }

    fn step(&mut self, n: NodeId, mut numbers: Numbers, step: &Step, shape: &[usize]) -> Numbers {
        let varies = |a: &usize| numbers.axes.contains(a);
        match step {
            Step::Reshape(to) => self.reshaped(numbers, shape, to),
            Step::Permute(perm) => {
                let moved: Vec<usize> = perm.iter().copied().filter(varies).collect();
                let order: Vec<usize> =
                    moved.iter().map(|m| numbers.axes.iter().position(|a| a == m).expect("filtered")).collect();
                let extents: Vec<usize> = numbers.axes.iter().map(|&a| shape[a]).collect();
                let rest: Vec<usize> = perm.iter().copied().filter(|a| !varies(a) && shape[*a] > 1).collect();
                let axes = (0..perm.len()).filter(|&a| varies(&perm[a])).collect();
                let ids = array::permute(&numbers.ids, &extents, &order);
                let moved = Numbers { axes, ids };
                if rest.is_sorted() { moved } else { self.changed(moved, format!("permute {rest:?} {shape:?}"), None) }
            }
            Step::Take { axis, indices } => match numbers.axes.iter().position(|a| a == axis) {
                Some(at) => {
                    let extents: Vec<usize> = numbers.axes.iter().map(|&a| shape[a]).collect();
                    numbers.ids = array::take(&numbers.ids, &extents, at, indices);
                    if indices.len() == 1 {
                        numbers.axes.remove(at);
                    }
                    numbers
                }
                None => self.changed(numbers, format!("take {axis} {indices:?} {shape:?}"), None),
            },
            Step::Expand(to) => self.changed(numbers, format!("expand {shape:?} {to:?}"), None),
            Step::Pad { axis, before, after } => {
                let filler = self.filler(n);
                let Some(at) = numbers.axes.iter().position(|a| a == axis) else {
                    let text = format!("pad {axis} {before} {after} {shape:?}");
                    return self.changed(numbers, text, Some(filler));
                };
                let extents: Vec<usize> = numbers.axes.iter().map(|&a| shape[a]).collect();
                let run: usize = extents[at + 1..].iter().product();
                let block = extents[at] * run;
                let around = |count: usize| std::iter::repeat_n(filler, count * run);
                let blocks = numbers.ids.chunks(block);
                numbers.ids = blocks
                    .flat_map(|b| around(*before).chain(b.iter().copied()).chain(around(*after)).collect::<Vec<_>>())
                    .collect();
                numbers
            }
        }
    }

    /// What a `Pad` fills with.
    fn filler(&mut self, n: NodeId) -> Number {
        let node = self.model.node(n);
        match node.input(2) {
            Some(v) => self.over(v, &[])[0],
            None => self.table.constant(f64::from(node.float("value").unwrap_or(0.0))),
        }
    }

    /// The slices are rearranged within: a constant stays what it is, if it is not filled up with another.
    fn changed(&mut self, numbers: Numbers, text: String, filler: Option<Number>) -> Numbers {
        let by = self.table.signature(format!("{text} {:?}", numbers.axes));
        let keep = |t: &Table, id: Number| t.as_constant(id).is_some() && filler.is_none_or(|f| f == id);
        let ids = numbers.ids.into_iter().map(|id| match keep(&self.table, id) {
            true => id,
            false => self.table.made(by, std::iter::once(id).chain(filler).collect(), Vec::new()),
        });
        Numbers { ids: ids.collect(), axes: numbers.axes }
    }

    /// A reshape splits into runs of axes with equal products. Where numbered axes are in a run, all of it is
    /// numbered; where others change, the slices do.
    pub(super) fn reshaped(&mut self, numbers: Numbers, from: &[usize], to: &[usize]) -> Numbers {
        if from == to {
            return numbers;
        }
        let (mut old, mut new) = (Vec::new(), Vec::new());
        let mut rest = Vec::new();
        let real = |axes: &[usize], shape: &[usize]| axes.iter().map(|&a| shape[a]).collect::<Vec<_>>();
        for (a, b) in matching_axes(from, to) {
            if a.iter().any(|x| numbers.axes.contains(x)) {
                old.extend(a);
                new.extend(b);
            } else if real(&a, from) != real(&b, to) {
                rest.push((real(&a, from), real(&b, to)));
            }
        }
        if old.iter().map(|&a| from[a]).fold(1, usize::saturating_mul) > self.most_slices() {
            let whole = self.table.over(&numbers, from, &[]);
            let whole = Numbers { axes: Vec::new(), ids: whole };
            return self.changed(whole, format!("reshape {from:?} {to:?}"), None);
        }
        let ids = self.table.over(&numbers, from, &old);
        let numbers = Numbers { axes: new, ids };
        if rest.is_empty() { numbers } else { self.changed(numbers, format!("reshape {from:?} {to:?}"), None) }
    }

    fn concat(&mut self, n: NodeId, effect: &Effect, axis: usize, parts: &[usize]) {
        let node = self.model.node(n);
        let Some(out) = node.output(0) else { return };
        let shape = effect.outputs[0].shape.clone().unwrap_or_default();
        let axes = self.wanted(out, &shape);
        let inputs: Vec<ValueId> = parts.iter().filter_map(|&i| node.input(i)).collect();
        let parts: Vec<Vec<Number>> = inputs.iter().map(|&v| self.over(v, &axes)).collect();
        let count: usize = axes.iter().map(|&a| shape[a]).product();
        let ids = match axes.iter().position(|&a| a == axis) {
            Some(at) => {
                let outer = axes[..at].iter().map(|&a| shape[a]).product();
                let run = axes[at + 1..].iter().map(|&a| shape[a]).product();
                let extent = |v: &ValueId| self.shape(*v).map_or(0, |s| s[axis]);
                let blocks: Vec<(&[Number], usize)> =
                    parts.iter().zip(&inputs).map(|(p, v)| (&p[..], extent(v))).collect();
                array::concat(&blocks, outer, run)
            }
            None => {
                let by = self.signature(n);
                let one = |r: usize| {
                    let of: Vec<Number> = parts.iter().map(|p| p[r]).collect();
                    match self.table.as_constant(of[0]) {
                        Some(_) if of.iter().all(|o| *o == of[0]) => of[0],
                        _ => self.table.made(by, of, Vec::new()),
                    }
                };
                (0..count).map(one).collect()
            }
        };
        self.set(Some(out), Numbers { axes, ids });
    }
}

/// For every slice of the output the slice of an operand, which runs along some of the output's numbered axes.
pub(super) fn aligned(ids: &[Number], own: &[usize], from: &[(usize, usize)], extents: &[usize]) -> Vec<Number> {
    let to: Vec<usize> = from.iter().map(|f| f.1).collect();
    if to.is_sorted() {
        return spread(ids, &to, &(0..extents.len()).collect::<Vec<_>>(), extents);
    }
    // The operand's axes come in another order: put them into that of the output first.
    let sizes: Vec<usize> = from.iter().map(|f| own[f.0]).collect();
    let mut order: Vec<usize> = (0..from.len()).collect();
    order.sort_by_key(|&i| to[i]);
    let ids = array::permute(ids, &sizes, &order);
    let axes: Vec<usize> = order.iter().map(|&i| to[i]).collect();
    spread(&ids, &axes, &(0..extents.len()).collect::<Vec<_>>(), extents)
}

/// Which values are the same on every run, whatever the caller feeds.
fn known(model: &Model, coupling: &Coupling) -> Vec<bool> {
    let mut out = vec![false; model.value_count()];
    for v in model.values().filter(|&v| model.value(v).def() == Def::Initializer && !model.is_overridable(v)) {
        out[v.index()] = true;
    }
    for n in model.walk() {
        let node = model.node(n);
        if node.inputs().iter().flatten().all(|v| out[v.index()]) {
            for v in node.outputs().iter().flatten().filter(|v| coupling.constant[v.index()]) {
                out[v.index()] = true;
            }
        }
    }
    out
}
