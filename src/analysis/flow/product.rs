//! Sums of products of two activations, and the weights whose zeros mask them.

use super::super::coupling::Read;
use super::super::field::Field;
use super::super::label::Origin;
use super::Flow;
use crate::ir::{NodeId, ValueId};
use crate::ops::step::Step;
use crate::ops::{Action, Contraction, View, Zero};

/// Nodes that are visited to see where zeros come from.
const MOST_TRACED: usize = 4096;

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
                let traced = self.zero_sources(v, 64, &mut MOST_TRACED.clone());
                match traced.filter(|t| !t.is_empty()) {
                    // One zero factor is enough; the first operand's is taken.
                    Some(constants) if view.input == c.operands[0].input => {
                        for (value, axis) in constants {
                            self.coupling.add_read(Read { node: n, value, axis });
                        }
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

    /// Constants (and axes) whose zeros make the channels of `v` zero.
    pub(super) fn zero_sources(&self, v: ValueId, depth: usize, budget: &mut usize) -> Option<Vec<(ValueId, usize)>> {
        *budget = budget.checked_sub(1)?;
        let n = self.maker(v).filter(|_| depth > 0)?;
        let node = self.model.node(n);
        let effect = self.world.shapes.effect(n)?.as_ref().ok()?;
        let (row, _) = crate::ops::lookup(self.model, node).ok()?;
        let constant = |i: usize| node.input(i).filter(|v| self.coupling.constant[v.index()]);
        if let Action::Contract(c) = &effect.action {
            // What follows the sum in a fused operator may make something of zero.
            (row.zero == Zero::AllOperands).then_some(())?;
            let weights: Vec<&View> = c.operands.iter().filter(|o| constant(o.input).is_some()).collect();
            let [weight] = weights[..] else { return None };
            let mut out = self.origins(constant(weight.input)?, Some((weight, c)))?;
            for bias in &c.also {
                out.extend(self.origins(constant(bias.input)?, None)?);
            }
            return Some(out);
        }
        match row.zero {
            Zero::Kept if constant(0).is_none() => self.zero_sources(node.input(0)?, depth - 1, budget),
            Zero::AnyOperand => {
                let i = (0..node.inputs().len()).find(|&i| constant(i).is_none())?;
                self.zero_sources(node.input(i)?, depth - 1, budget)
            }
            Zero::AllOperands => {
                let mut out = Vec::new();
                for (i, v) in node.inputs().iter().enumerate() {
                    match constant(i) {
                        Some(c) => out.extend(self.origins(c, None)?),
                        None => out.extend(self.zero_sources((*v)?, depth - 1, budget)?),
                    }
                }
                Some(out)
            }
            _ => None,
        }
    }

    /// The stored constants behind a constant operand that has labels; of a contraction's weight, those along the
    /// axes that reach the output.
    pub(super) fn origins(&self, v: ValueId, weight: Option<(&View, &Contraction)>) -> Option<Vec<(ValueId, usize)>> {
        let own = self.world.shapes.shape(v)?;
        let mut out = Vec::new();
        for f in &self.world.fields[v.index()] {
            let reaches = weight.is_none_or(|(view, c)| {
                let seen = f.clone().step(&Step::Reshape(view.shape.clone()), own, &mut |_, _, _| Vec::new());
                seen.axes.iter().any(|&a| c.output.letters.contains(&view.letters[a]))
            });
            if let Some((Origin::Constant { value, axis }, _)) =
                f.atoms.first().and_then(|&a| self.coupling.atoms.origin(a))
                && reaches
            {
                out.push((value, axis));
            }
        }
        // A scalar addend has no labels: zero would not stay zero.
        (!out.is_empty()).then_some(out)
    }
}
