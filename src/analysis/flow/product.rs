//! Sums of products of two activations, and the weights whose zeros mask them.

use super::super::field::Field;
use super::Flow;
use crate::ir::{NodeId, ValueId};
use crate::ops::Contraction;

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
                    Ok(leaves) if view.input == c.operands[0].input => {
                        leaves.into_iter().for_each(|leaf| self.add_reads(n, leaf, &classes));
                    }
                    Ok(_) => {}
                    Err(_) => {
                        let text =
                            "the channels of a product of two activations are not made by weights that could be zero";
                        let reason = self.coupling.atoms.reason(Some(n), "product", text);
                        self.pin(f, reason);
                    }
                }
            }
        }
    }
}
