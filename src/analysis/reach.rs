//! How much of a model channels run through.
//!
//! A class of channels runs through a node if it occurs among the labels of the node's inputs or outputs: for a
//! contraction, among the channels that it reads or among those that it makes. All that the node costs, its
//! multiply-accumulates and its parameters, is then within the class's reach, for removing the class makes the node
//! cheaper. What no removable class reaches cannot become cheaper at all.

use super::cost::node_costs;
use super::coupling::Coupling;
use super::label::Atom;
use crate::ir::{Model, NodeId, ValueId};
use std::collections::BTreeSet;

/// A part of a model's cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reach {
    pub params: u64,
    /// For one item of the batch.
    pub macs: u64,
}

/// What lies within reach of the given classes (by representative).
pub fn reach(model: &Model, coupling: &Coupling, classes: &BTreeSet<Atom>) -> Reach {
    let Some(world) = coupling.worlds.first() else { return Reach::default() };
    let nodes = reached(model, coupling, classes);
    let within = node_costs(model, &world.shapes).into_iter().filter(|(n, _)| nodes.contains(n));
    within.fold(Reach::default(), |sum, (_, cost)| Reach {
        params: sum.params + cost.params,
        macs: sum.macs.saturating_add(cost.macs),
    })
}

/// The nodes that any of the given classes (by representative) runs through.
pub fn reached(model: &Model, coupling: &Coupling, classes: &BTreeSet<Atom>) -> BTreeSet<NodeId> {
    let Some(world) = coupling.worlds.first() else { return BTreeSet::new() };
    let hit: Vec<bool> = (0..coupling.atoms.len()).map(|a| classes.contains(&coupling.atoms.find(a as Atom))).collect();
    let carries = |v: ValueId| world.fields[v.index()].iter().any(|f| f.atoms.iter().any(|&a| hit[a as usize]));
    let carrying: Vec<bool> = model.values().map(carries).collect();
    let runs_through = |n: &NodeId| {
        let node = model.node(*n);
        node.inputs().iter().chain(node.outputs()).flatten().any(|v| carrying[v.index()])
    };
    model.walk().into_iter().filter(runs_through).collect()
}

/// What pins the channels of a node, as an index of a reason: those of its constants first, then all others. `pins`
/// are those of [`Atoms::pin_reasons`](super::Atoms::pin_reasons); `None` where no channels are known.
pub fn pinned_by(model: &Model, coupling: &Coupling, pins: &[Option<u32>], node: NodeId) -> Option<u32> {
    let world = coupling.worlds.first()?;
    let node = model.node(node);
    let values = || node.inputs().iter().chain(node.outputs()).flatten().copied();
    let (constants, others): (Vec<ValueId>, Vec<ValueId>) = values().partition(|v| coupling.constant[v.index()]);
    let atoms = constants.into_iter().chain(others).flat_map(|v| &world.fields[v.index()]).flat_map(|f| &f.atoms);
    atoms.copied().find_map(|a| pins[a as usize])
}
