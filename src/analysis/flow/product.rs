//! Sums of products of two activations, and the weights whose zeros mask them.

use super::super::field::Field;
use super::super::label::{Atom, Origin, PINNED};
use super::Flow;
use crate::ir::{NodeId, ValueId};
use crate::ops::{Action, Contraction, Zero};
use std::collections::BTreeSet;

/// Nodes that are visited to see where zeros come from.
const MOST_TRACED: usize = 4096;
/// Nodes on one way to them.
const MOST_DEEP: usize = 64;

impl Flow<'_> {
    /// Two activations multiplied: the masked original is stated on the constants that make one of them, if zero
    /// there reaches the product as zero; otherwise the summed channels stay.
    pub(super) fn mask_products(&mut self, n: NodeId, c: &Contraction, seen: &[Vec<Field>]) {
        let inputs: Vec<ValueId> = c.operands.iter().filter_map(|o| self.model.node(n).input(o.input)).collect();
        if inputs.iter().any(|v| self.coupling.constant[v.index()]) {
            return;
        }
        for (view, fields) in c.operands.iter().zip(seen) {
            let Some(v) = self.model.node(n).input(view.input) else { continue };
            for f in fields {
                let summed = f.axes.iter().any(|&a| !c.output.letters.contains(&view.letters[a]));
                if !summed {
                    continue;
                }
                let classes = self.classes(f);
                match self.zero_leaves(v, &classes) {
                    // One zero factor is enough; the first operand's is taken.
                    Some(leaves) if view.input == c.operands[0].input => {
                        leaves.into_iter().for_each(|leaf| self.add_reads(n, leaf, &classes));
                    }
                    Some(_) => {}
                    None => {
                        let text =
                            "the channels of a product of two activations are not made by weights that could be zero";
                        let reason = self.coupling.atoms.reason(Some(n), "product", text);
                        self.pin(f, reason);
                    }
                }
            }
        }
    }

    /// The classes of a field's labels, those that stay left out.
    pub(super) fn classes(&self, f: &Field) -> BTreeSet<Atom> {
        f.atoms.iter().map(|&a| self.coupling.atoms.find(a)).filter(|&root| root != PINNED).collect()
    }

    /// The stored constants whose zeros, at labels of these classes, make `v` zero there. `None` where nothing stored
    /// does.
    pub(super) fn zero_leaves(&self, v: ValueId, classes: &BTreeSet<Atom>) -> Option<Vec<ValueId>> {
        let mut leaves = self.trace_zero(v, classes, MOST_DEEP, &mut MOST_TRACED.clone())?;
        leaves.sort_unstable();
        leaves.dedup();
        (!leaves.is_empty()).then_some(leaves)
    }

    fn trace_zero(
        &self,
        v: ValueId,
        classes: &BTreeSet<Atom>,
        depth: usize,
        budget: &mut usize,
    ) -> Option<Vec<ValueId>> {
        *budget = budget.checked_sub(1)?;
        if self.model.constant(v).is_some() {
            // Without labels of these classes, a scalar addend say, it would not become zero.
            return self.labelled_axes(v, classes).next().map(|_| vec![v]);
        }
        let n = self.maker(v).filter(|_| depth > 0)?;
        let node = self.model.node(n);
        let effect = self.world.shapes.effect(n)?.as_ref().ok()?;
        let (row, _) = crate::ops::lookup(self.model, node).ok()?;
        let constant = |v: ValueId| self.coupling.constant[v.index()];
        let mut all = |inputs: &mut dyn Iterator<Item = ValueId>| {
            let mut out = Vec::new();
            for v in inputs {
                out.extend(self.trace_zero(v, classes, depth - 1, budget)?);
            }
            Some(out)
        };
        if let Action::Contract(c) = &effect.action {
            let inputs = |views: &mut dyn Iterator<Item = usize>| -> Option<Vec<ValueId>> {
                views.map(|i| node.input(i)).collect()
            };
            let operands = inputs(&mut c.operands.iter().map(|o| o.input))?;
            let [weight] = operands.into_iter().filter(|&v| constant(v)).collect::<Vec<_>>()[..] else { return None };
            let also = inputs(&mut c.also.iter().map(|o| o.input))?;
            return all(&mut std::iter::once(weight).chain(also));
        }
        match row.zero {
            Zero::Kept => all(&mut node.input(0).into_iter()),
            Zero::AnyOperand => {
                let mut inputs = node.inputs().iter().flatten().copied();
                // An activation carries the zeros of what made it; of constants alone the first that can be zero.
                match inputs.clone().find(|&v| !constant(v)) {
                    Some(v) => all(&mut std::iter::once(v)),
                    None => inputs.find_map(|v| all(&mut std::iter::once(v))),
                }
            }
            Zero::AllOperands => all(&mut node.inputs().iter().flatten().copied()),
            Zero::Parts => all(&mut node.inputs().iter().flatten().copied().filter(|&v| self.has(v, classes))),
            Zero::Lost => None,
        }
    }

    fn has(&self, v: ValueId, classes: &BTreeSet<Atom>) -> bool {
        let mut labels = self.world.fields[v.index()].iter().flat_map(|f| &f.atoms);
        labels.any(|&a| classes.contains(&self.coupling.atoms.find(a)))
    }

    /// The axes of a stored constant that have labels of these classes, each with its number of blocks.
    pub(super) fn labelled_axes<'b>(
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
