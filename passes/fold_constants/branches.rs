//! Nodes that choose between two graphs where the choice is constant.

use crate::analysis::Fixed;
use crate::ir::{Body, Model, NodeId};
use std::collections::BTreeMap;

/// Replaces every `If` of a constant condition by its branch, until there is none: what a branch hands on may be the
/// condition of another. Returns what is fixed then, and how many there were.
pub(super) fn take_branches(model: &mut Model, sizes: &BTreeMap<String, usize>) -> (Fixed, usize) {
    let mut taken = 0;
    loop {
        let fixed = Fixed::of(model, sizes);
        let choice = |n: NodeId| {
            let node = model.node(n);
            let holds = node.is_standard().then(|| fixed.value(node.input(0)?)?.to_i64()?.first().copied())?? != 0;
            let branch = if holds { "then_branch" } else { "else_branch" };
            let is_it = |b: &&Body| node.attributes()[b.attribute].name() == branch;
            (node.op_type() == "If").then(|| node.bodies().iter().find(is_it).map(|b| (n, b.graph)))?
        };
        let chosen: Vec<_> = model.walk().into_iter().filter_map(choice).collect();
        let before = taken;
        for (n, branch) in chosen {
            taken += usize::from(model.take_branch(n, branch));
        }
        if taken == before {
            return (fixed, taken);
        }
    }
}
