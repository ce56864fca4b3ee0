//! The stored constants whose zeros make a value zero.
//!
//! A removal is stated on stored tensors: those positions become zero. A contraction's weight may be computed from
//! several of them (an update added to a weight, two halves end to end, a product of two factors), and one factor of a
//! product of activations is made by weights further up. Guarantees: with the constants that are found zeroed at the
//! labels asked for, the value is zero there. Refuses: with [`ZeroLost`], ways on which a zero does not stay one.

use super::super::coupling::Read;
use super::super::field::Field;
use super::super::label::{Atom, Origin, PINNED};
use super::Flow;
use crate::ir::{NodeId, ValueId};
use crate::ops::{Action, Zero};
use std::collections::BTreeSet;

/// Nodes that are visited to see where zeros come from.
const MOST_TRACED: usize = 4096;
/// Nodes on one way to them.
const MOST_DEEP: usize = 64;

/// Why zeros in what is stored would not be zeros of the value.
pub(super) enum ZeroLost {
    /// Integers of which another than 0 stands for zero.
    ZeroPoint,
    /// A constant of which no plan can speak.
    Unnamed(ValueId),
    /// A node does not give zero for zero; `None` where nothing that is stored is found.
    At(Option<NodeId>),
}

type Leaves = Result<Vec<ValueId>, ZeroLost>;

impl Flow<'_> {
    /// What has to be zero so that the weight, an input of a contraction, is at the labels of `f`: stored constants, which
    /// the masked original zeroes there. Where zeros of what is stored do not arrive as zeros, the labels are pinned.
    pub(super) fn note_read(&mut self, n: NodeId, input: usize, f: &Field) {
        let classes = self.classes(f);
        let Some(v) = self.model.node(n).input(input).filter(|_| !classes.is_empty()) else { return };
        let leaves = match self.zero_is_zero(n, input) {
            true => self.zero_leaves(v, &classes),
            false => Err(ZeroLost::ZeroPoint),
        };
        let (at, rule, text) = match leaves {
            Ok(leaves) => return leaves.into_iter().for_each(|leaf| self.add_reads(n, leaf, &classes)),
            Err(ZeroLost::ZeroPoint) => {
                let text = "the zero point of the weight is not 0, so zeroed weights would not be zero";
                (Some(n), "zero-point", text.to_owned())
            }
            Err(ZeroLost::Unnamed(leaf)) => {
                let name = self.model.value(leaf).name();
                let text = format!(
                    "the weight '{name}' is no tensor of the file, so a plan cannot say what of it is no longer read"
                );
                (Some(n), "unnamed-constant", text)
            }
            Err(ZeroLost::At(at)) => {
                let by = at.map_or("nothing that is stored", |at| self.model.node(at).op_type());
                (at.or(Some(n)), "zero-lost", format!("the weight is made by {by}, through which zeros are not kept"))
            }
        };
        let reason = self.coupling.atoms.reason(at, rule, text);
        self.pin(f, reason);
    }

    /// Zeroes a stored constant wherever it has labels of these classes.
    pub(super) fn add_reads(&mut self, node: NodeId, value: ValueId, classes: &BTreeSet<Atom>) {
        let axes: Vec<(usize, usize)> = self.labelled_axes(value, classes).collect();
        for (axis, blocks) in axes {
            self.coupling.add_read(Read { node, value, axis, blocks });
        }
    }

    /// The classes of a field's labels, those that stay left out.
    pub(super) fn classes(&self, f: &Field) -> BTreeSet<Atom> {
        f.atoms.iter().map(|&a| self.coupling.atoms.find(a)).filter(|&root| root != PINNED).collect()
    }

    /// The stored constants whose zeros, at labels of these classes, make `v` zero there.
    pub(super) fn zero_leaves(&self, v: ValueId, classes: &BTreeSet<Atom>) -> Leaves {
        let mut leaves = self.trace_zero(v, classes, MOST_DEEP, &mut MOST_TRACED.clone())?;
        leaves.sort_unstable();
        leaves.dedup();
        if leaves.is_empty() { Err(ZeroLost::At(None)) } else { Ok(leaves) }
    }

    fn trace_zero(&self, v: ValueId, classes: &BTreeSet<Atom>, depth: usize, budget: &mut usize) -> Leaves {
        if self.model.constant(v).is_some() {
            return self.zero_leaf(v, classes);
        }
        let maker = self.maker(v);
        let lost = || ZeroLost::At(maker);
        *budget = budget.checked_sub(1).ok_or_else(lost)?;
        let n = maker.filter(|_| depth > 0).ok_or_else(lost)?;
        let node = self.model.node(n);
        let effect = self.world.shapes.effect(n).and_then(|e| e.as_ref().ok()).ok_or_else(lost)?;
        let (row, _) = crate::ops::lookup(self.model, node).map_err(|_| lost())?;
        let constant = |v: ValueId| self.coupling.constant[v.index()];
        // Zeros of these inputs, all of them.
        let mut all = |inputs: &mut dyn Iterator<Item = usize>| {
            let mut out = Vec::new();
            for (i, v) in inputs.filter_map(|i| Some((i, node.input(i)?))) {
                if !self.zero_is_zero(n, i) {
                    return Err(ZeroLost::ZeroPoint);
                }
                out.extend(self.trace_zero(v, classes, depth - 1, budget)?);
            }
            Ok(out)
        };
        // Zeros of one of these inputs: an activation carries the zeros of what made it; of constants alone the first
        // that can be zero.
        let is_constant = |&i: &usize| node.input(i).is_some_and(constant);
        let labelled = |i: &usize| node.input(*i).is_some_and(|v| self.has(v, classes));
        let mut any = |inputs: Vec<usize>| match inputs.iter().find(|i| !is_constant(i)) {
            Some(&i) => all(&mut std::iter::once(i)),
            None => inputs.into_iter().find_map(|i| all(&mut std::iter::once(i)).ok()).ok_or_else(lost),
        };
        let inputs = 0..node.inputs().len();
        if let Action::Contract(c) = &effect.action {
            // What follows the sum in a fused operator may make something of zero.
            if row.zero != Zero::AllOperands {
                return Err(lost());
            }
            let operands: Vec<usize> = c.operands.iter().map(|o| o.input).collect();
            let also: Vec<usize> = c.also.iter().map(|o| o.input).collect();
            let weights: Vec<usize> = operands.iter().copied().filter(is_constant).collect();
            // A product of stored factors is zero where the one that has the labels is.
            if weights.len() == operands.len() {
                let mut out = any(weights.into_iter().filter(labelled).collect())?;
                out.extend(all(&mut also.into_iter())?);
                return Ok(out);
            }
            let [weight] = weights[..] else { return Err(lost()) };
            return all(&mut std::iter::once(weight).chain(also));
        }
        match row.zero {
            Zero::Kept => all(&mut std::iter::once(0)),
            Zero::AnyOperand => any(inputs.collect()),
            Zero::AllOperands => all(&mut inputs.clone()),
            Zero::Parts => all(&mut inputs.filter(labelled)),
            Zero::Lost => Err(lost()),
        }
    }

    /// A stored constant as the one to be zeroed.
    fn zero_leaf(&self, v: ValueId, classes: &BTreeSet<Atom>) -> Leaves {
        // Without labels of these classes, a scalar addend say, it would not become zero.
        if self.labelled_axes(v, classes).next().is_none() {
            return Err(ZeroLost::At(None));
        }
        match self.model.unnamed(v) {
            None => Ok(vec![v]),
            // Zeros need not be said again; other numbers that the file does not name cannot be.
            Some(_) if self.is_zero(v) => Ok(Vec::new()),
            Some(_) => Err(ZeroLost::Unnamed(v)),
        }
    }

    fn is_zero(&self, value: ValueId) -> bool {
        let stored = super::super::infer::stored(self.model, value);
        stored.and_then(|t| t.to_f64()).is_some_and(|v| v.iter().all(|&x| x == 0.0))
    }

    /// Whether a zero at this input of a node stands for the number zero: not so for integers with another zero point.
    fn zero_is_zero(&self, n: NodeId, input: usize) -> bool {
        let node = self.model.node(n);
        let pairs = crate::ops::lookup(self.model, node).map_or(&[][..], |(row, _)| row.zero_points);
        let zero_point = pairs.iter().find(|(x, _)| *x == input).and_then(|(_, zero)| node.input(*zero));
        zero_point.is_none_or(|v| self.is_zero(v))
    }

    fn has(&self, v: ValueId, classes: &BTreeSet<Atom>) -> bool {
        let mut labels = self.world.fields[v.index()].iter().flat_map(|f| &f.atoms);
        labels.any(|&a| classes.contains(&self.coupling.atoms.find(a)))
    }

    /// The axes of a stored constant that have labels of these classes, each with its number of blocks.
    fn labelled_axes<'b>(
        &'b self,
        value: ValueId,
        classes: &'b BTreeSet<Atom>,
    ) -> impl Iterator<Item = (usize, usize)> + 'b {
        let rank = self.world.shapes.shape(value).map_or(0, <[usize]>::len);
        let blocked = self.coupling.blocked.get(&value).map(|b| (b.axis, b.blocks));
        (0..rank).map(|axis| (axis, 1)).chain(blocked).filter(move |&(axis, blocks)| {
            let atoms = self.coupling.atoms.get(Origin::Constant { value, axis, blocks });
            atoms.is_some_and(|mut atoms| atoms.any(|a| classes.contains(&self.coupling.atoms.find(a))))
        })
    }
}
