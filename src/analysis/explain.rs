//! The chain of operators that couples or pins a channel.

use super::coupling::Coupling;
use super::label::{Atom, Origin, PINNED};
use crate::ir::{Model, NodeId};

/// One step of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The node whose meaning joins the two sides; `None` for a tensor's own shape.
    pub node: Option<NodeId>,
    pub rule: &'static str,
    pub text: String,
    /// What the step leads from and to, as `tensor axis A [i]`.
    pub from: String,
    pub to: String,
}

/// What a channel of a contraction belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The chain to what pins it; empty if it can be removed.
    pub pinned_by: Vec<Link>,
    /// Everything that goes with it: for each place the chain that leads there, nearest first.
    pub coupled: Vec<(String, Vec<Link>)>,
}

/// Explains filter `channel` of the contraction `node`. `None` if the node has no filters of its own.
pub fn explain(model: &Model, coupling: &Coupling, node: NodeId, channel: usize) -> Option<Explanation> {
    let source = coupling.sources.iter().find(|s| s.node == node)?;
    let atom = *source.atoms.get(channel)?;
    let atoms = &coupling.atoms;
    if atoms.is_pinned(atom) {
        return Some(Explanation { pinned_by: chain(model, coupling, atom, PINNED), coupled: Vec::new() });
    }
    let root = atoms.find(atom);
    let mut coupled = Vec::new();
    for (_, range) in atoms.origins() {
        // One atom of a range stands for the others of the class in it: the chains are alike.
        if let Some(other) = range.clone().find(|&a| a != atom && atoms.find(a) == root)
            && !range.contains(&atom)
        {
            coupled.push((place(model, coupling, other), chain(model, coupling, atom, other)));
        }
    }
    coupled.sort_by_key(|(_, links)| links.len());
    Some(Explanation { pinned_by: Vec::new(), coupled })
}

fn chain(model: &Model, coupling: &Coupling, from: Atom, to: Atom) -> Vec<Link> {
    let mut at = from;
    coupling
        .atoms
        .path(from, to)
        .iter()
        .map(|join| {
            let next = if join.a == at { join.b } else { join.a };
            let reason = coupling.atoms.why(join);
            let link = Link {
                node: reason.node,
                rule: reason.rule,
                text: reason.text.clone(),
                from: place(model, coupling, at),
                to: place(model, coupling, next),
            };
            at = next;
            link
        })
        .collect()
}

fn place(model: &Model, coupling: &Coupling, atom: Atom) -> String {
    match coupling.atoms.origin(atom) {
        None => "pinned".to_owned(),
        Some((Origin::Constant { value, axis, blocks: 1 }, i)) => {
            format!("{} axis {axis} [{i}]", model.value(value).name())
        }
        Some((origin @ Origin::Constant { value, axis, blocks }, i)) => {
            let extent = coupling.atoms.get(origin).map_or(1, |atoms| atoms.len() / blocks);
            format!("{} axis {axis} [{}] of block {}", model.value(value).name(), i % extent, i / extent)
        }
        Some((Origin::Padding { node, axis, .. }, i)) => format!("padding of {} axis {axis} [{i}]", model.label(node)),
    }
}
