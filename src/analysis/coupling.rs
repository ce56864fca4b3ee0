//! The coupling of channels over the whole model.
//!
//! Guarantees: if a class of atoms that is not pinned is removed (every constant loses the class's positions), every
//! node still computes, for all positions that are left, what it computed before with the class's contribution to
//! every contraction set to zero. Anything that would break this joins the class with [`PINNED`], with the reason.
//! Refuses: nothing; unknown operators pin what they touch.
//! How: [`flow`](super) gives every node's output its label fields from those of its inputs, for each assignment of
//! sizes; all joins go into one union-find, so that a class is valid under every assignment. Afterwards classes that
//! spread over several axes of a tensor are merged until what is kept of it is a whole slice along one axis.

use super::field::Field;
use super::fixed::Fixed;
use super::flow::Flow;
use super::infer::Shapes;
use super::label::{Atom, Atoms, Origin, PINNED};
use crate::ir::{Model, NodeId, ValueId};
use crate::ops::Kind;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// A contraction stops reading removed channels by these positions of a constant being set to zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    pub node: NodeId,
    pub value: ValueId,
    pub axis: usize,
}

/// A contraction that makes channels: its filters.
#[derive(Debug, Clone)]
pub struct Source {
    pub node: NodeId,
    /// Which input of the node the weight is.
    pub input: usize,
    pub kind: Kind,
    /// The constant that holds the filters, perhaps behind layout nodes, and its filter axis.
    pub value: ValueId,
    pub axis: usize,
    /// The atom of each filter, in the order of the contraction's output channels.
    pub atoms: Vec<Atom>,
}

/// Labels of everything, and who makes and reads them.
#[derive(Debug, Clone)]
pub struct Coupling {
    pub atoms: Atoms,
    /// Shapes and label fields, one for each assignment of sizes.
    pub worlds: Vec<World>,
    pub sources: Vec<Source>,
    pub reads: Vec<Read>,
    /// By value: computed from constants alone.
    pub constant: Vec<bool>,
    /// By value: a small tensor that is the same for every input and every size of the symbolic dimensions.
    pub fixed: Vec<bool>,
    known_reads: HashSet<(NodeId, ValueId, usize)>,
    known_sources: HashSet<(NodeId, usize)>,
}

/// What stays of one axis of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    extent: usize,
    /// Positions that go, ascending. Few axes lose any, and extents in space may be large.
    gone: Vec<usize>,
}

impl Kept {
    /// Positions before the cut.
    pub fn extent(&self) -> usize {
        self.extent
    }

    /// Positions after it.
    pub fn count(&self) -> usize {
        self.extent - self.gone.len()
    }

    /// Whether any position goes.
    pub fn loses(&self) -> bool {
        !self.gone.is_empty()
    }

    pub fn stays(&self, position: usize) -> bool {
        self.gone.binary_search(&position).is_err()
    }

    /// How many positions before this one stay.
    pub fn before(&self, position: usize) -> usize {
        position - self.gone.partition_point(|&g| g < position)
    }
}

/// What holds under one assignment.
#[derive(Debug, Clone)]
pub struct World {
    pub shapes: Shapes,
    /// By [`ValueId::index`].
    pub fields: Vec<Vec<Field>>,
    /// Fields of views that exist inside a contraction only; they take part in the boxes.
    pub(super) views: Vec<(Vec<usize>, Field, NodeId)>,
}

/// Atoms that an earlier attempt has shown to be unremovable: a node and the atoms.
pub type Pins = Vec<(Option<NodeId>, String, Vec<Atom>)>;

impl Coupling {
    /// Couples the channels of a model. `pins` are left alone with the reason given, as an earlier attempt on the
    /// same model has numbered them (numbering is deterministic).
    pub fn new(model: &Model, worlds: Vec<Shapes>, pins: &Pins) -> Self {
        let mut coupling = Self {
            atoms: Atoms::default(),
            worlds: Vec::new(),
            sources: Vec::new(),
            reads: Vec::new(),
            constant: constants(model),
            fixed: vec![false; model.value_count()],
            known_reads: HashSet::new(),
            known_sources: HashSet::new(),
        };
        if let Some(shapes) = worlds.first() {
            let fixed = Fixed::within(model, shapes.clone());
            coupling.fixed = model.values().map(|v| fixed.value(v).is_some()).collect();
        }
        let uses = model.uses();
        for shapes in worlds {
            let world = Flow::run(model, &uses, shapes, &mut coupling);
            coupling.worlds.push(world);
        }
        for (node, text, atoms) in pins {
            let reason = coupling.atoms.reason(*node, "checked-after-cut", text.clone());
            for &a in atoms {
                coupling.atoms.pin(a, reason);
            }
        }
        coupling.boxes(model);
        coupling
    }

    /// Merges classes until every field, seen through the classes, varies along one axis.
    fn boxes(&mut self, model: &Model) {
        let makers = makers(model);
        loop {
            let mut changed = false;
            for world in &self.worlds {
                let values = world.fields.iter().enumerate().filter_map(|(v, fields)| {
                    let shape = world.shapes.facts[v].as_ref()?.shape.as_deref()?;
                    Some((shape, fields, makers.get(&v).copied()))
                });
                let all = values.flat_map(|(shape, fields, node)| fields.iter().map(move |f| (shape, f, node)));
                let views = world.views.iter().map(|(shape, f, node)| (&shape[..], f, Some(*node)));
                for (shape, field, node) in all.chain(views).filter(|(_, f, _)| f.axes.len() > 1) {
                    let classes: Vec<Atom> = field.atoms.iter().map(|&a| self.atoms.find(a)).collect();
                    let seen = Field { axes: field.axes.clone(), atoms: classes }.squeezed(shape);
                    if seen.axes.len() < 2 {
                        continue;
                    }
                    // The only policy: the axis with most positions keeps its freedom, the first of equals.
                    let best = seen.axes.iter().copied().max_by_key(|&a| (shape[a], std::cmp::Reverse(a)));
                    let best = best.expect("two axes at least");
                    let text = format!(
                        "channels spread over axes {:?} of {shape:?} go as whole slices of axis {best}",
                        seen.axes
                    );
                    let reason = self.atoms.reason(node, "whole-slices", text);
                    for slice in seen.slices(best, shape) {
                        for pair in slice.windows(2) {
                            self.atoms.join(pair[0], pair[1], reason);
                        }
                    }
                    changed = true;
                }
            }
            if !changed {
                return;
            }
        }
    }

    /// For each axis of a value which positions stay when the given classes (by representative) go.
    pub fn kept(&self, world: usize, value: ValueId, removed: &BTreeSet<Atom>) -> Option<Vec<Kept>> {
        let world = &self.worlds[world];
        let shape = world.shapes.shape(value)?;
        let mut kept: Vec<Kept> = shape.iter().map(|&extent| Kept { extent, gone: Vec::new() }).collect();
        for field in &world.fields[value.index()] {
            let gone: Vec<Atom> =
                field.atoms.iter().map(|&a| Atom::from(removed.contains(&self.atoms.find(a)))).collect();
            if gone.iter().all(|&g| g == 0) {
                continue;
            }
            let seen = Field { axes: field.axes.clone(), atoms: gone }.squeezed(shape);
            match seen.axes[..] {
                [] => kept[field.axes[0]].gone = (0..shape[field.axes[0]]).collect(),
                [axis] => {
                    // Fields of one tensor vary along axes of their own, so no other has been here.
                    let gone = seen.atoms.iter().enumerate().filter(|(_, g)| **g == 1);
                    kept[axis].gone = gone.map(|(i, _)| i).collect();
                }
                // Boxes leave no class that is not a union of whole slices.
                _ => return None,
            }
        }
        Some(kept)
    }

    /// Every class that touches a value, pinned ones left out.
    pub fn classes_of(&self, value: ValueId) -> BTreeSet<Atom> {
        let fields = self.worlds.iter().flat_map(|w| &w.fields[value.index()]);
        fields.flat_map(|f| &f.atoms).map(|&a| self.atoms.find(a)).filter(|&r| r != PINNED).collect()
    }

    pub(super) fn add_read(&mut self, read: Read) {
        if self.known_reads.insert((read.node, read.value, read.axis)) {
            self.reads.push(read);
        }
    }

    /// Adds a source, unless that input of the node is one already.
    pub(super) fn add_source(&mut self, node: NodeId, input: usize, source: impl FnOnce() -> Source) {
        if self.known_sources.insert((node, input)) {
            self.sources.push(source());
        }
    }

    /// Atoms of all axes of a constant: fields along every axis with more than one position.
    pub(super) fn leaf_fields(&mut self, value: ValueId, shape: &[usize]) -> Vec<Field> {
        let axes = (0..shape.len()).filter(|&a| shape[a] > 1);
        axes.map(|axis| Field::along(axis, self.atoms.of(Origin::Constant { value, axis }, shape[axis]).collect()))
            .collect()
    }
}

/// Which values are computed from constants alone, by nodes that always give the same.
fn constants(model: &Model) -> Vec<bool> {
    let mut out = vec![false; model.value_count()];
    for g in model.live_graphs() {
        for &v in model.graph(g).initializers() {
            out[v.index()] = true;
        }
    }
    for n in model.walk() {
        let node = model.node(n);
        let literal = node.is_standard() && node.op_type() == "Constant";
        let known = literal || crate::ops::lookup(model, node).is_ok_and(|(row, _)| !row.random);
        if known && node.bodies().is_empty() && node.inputs().iter().flatten().all(|v| out[v.index()]) {
            for v in node.outputs().iter().flatten() {
                out[v.index()] = true;
            }
        }
    }
    out
}

/// The node that computes each value, by value index.
fn makers(model: &Model) -> BTreeMap<usize, NodeId> {
    let nodes = model.walk().into_iter();
    nodes.flat_map(|n| model.node(n).outputs().iter().flatten().map(move |v| (v.index(), n))).collect()
}
