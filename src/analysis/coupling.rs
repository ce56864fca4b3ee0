//! The coupling of channels over the whole model.
//!
//! Guarantees: if a class of atoms that is not pinned is removed (every constant loses the class's positions), every
//! node still computes, for all positions that are left, what it computed before with the class's contribution to
//! every contraction set to zero (with [`Inexact::Norm`], and with its statistics over channels being those of the
//! channels that stay). Anything that would break this joins the class with [`PINNED`], with the reason.
//! Refuses: nothing; unknown operators pin what they touch.
//! How: [`flow`](super) gives every node's output its label fields from those of its inputs, for each assignment of
//! sizes; all joins go into one union-find, so that a class is valid under every assignment. Afterwards classes that
//! spread over several axes of a tensor are merged until what is kept of it is a whole slice along one axis, or equally
//! many positions of every row along the last.

use super::balance::{Balance, Cells, resolve};
use super::field::Field;
use super::fixed::Fixed;
use super::flow::Flow;
use super::infer::Shapes;
use super::label::{Atom, Atoms, Origin, PINNED};
use crate::ir::{Model, NodeId, ValueId};
use crate::ops::Kind;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// A contraction stops reading removed channels by these positions of a constant being set to zero.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Read {
    pub node: NodeId,
    pub value: ValueId,
    pub axis: usize,
    /// Blocks along axis 0 of the constant that have positions of their own (1: none have).
    pub blocks: usize,
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
    /// Of which classes equally many have to go.
    pub cells: Cells,
    /// Constants of which each block along axis 0 loses positions of its own along another axis.
    pub blocked: BTreeMap<ValueId, Blocked>,
    /// Demands of contractions; those of tensors follow from their labels.
    pub(super) balances: Vec<Balance>,
    /// Whether rows that have to lose equally many may lose different positions.
    pub(super) rows_choose: bool,
    /// What a removal may change beyond what is no longer read.
    pub allowed: Inexact,
    /// By value: computed from constants alone.
    pub constant: Vec<bool>,
    /// By value: a small tensor that is the same for every input and every size of the symbolic dimensions.
    pub fixed: Vec<bool>,
    known_reads: HashSet<Read>,
    known_sources: HashSet<(NodeId, usize)>,
}

/// How a constant is seen whose blocks lose positions of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocked {
    pub axis: usize,
    pub blocks: usize,
}

/// What a removal may change beyond what is no longer read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Inexact {
    /// Nothing: the theorem holds as it stands.
    #[default]
    None,
    /// Statistics over channels (means, and what norms divide by) become those of the channels that stay.
    Norm,
}

impl Inexact {
    pub const ALL: &'static [Self] = &[Self::None, Self::Norm];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Norm => "norm",
        }
    }
}

/// What stays of one axis of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    extent: usize,
    /// Positions that go, ascending, in each row along the axis: one row where all lose the same. Few axes lose any,
    /// and extents in space may be large.
    gone: Vec<Vec<usize>>,
}

impl Kept {
    fn whole(extent: usize) -> Self {
        Self { extent, gone: vec![Vec::new()] }
    }

    /// From flags of what goes, row by row. `None` where the rows do not lose equally many.
    fn of_rows<'a>(extent: usize, rows: impl Iterator<Item = &'a [bool]>) -> Option<Self> {
        let gone = |row: &[bool]| row.iter().enumerate().filter(|(_, g)| **g).map(|(i, _)| i).collect::<Vec<_>>();
        let mut rows: Vec<Vec<usize>> = rows.map(gone).collect();
        let count = rows.first()?.len();
        if rows.iter().all(|r| *r == rows[0]) {
            rows.truncate(1);
        }
        rows.iter().all(|r| r.len() == count).then_some(Self { extent, gone: rows })
    }

    /// Positions before the cut.
    pub fn extent(&self) -> usize {
        self.extent
    }

    /// Positions after it.
    pub fn count(&self) -> usize {
        self.extent - self.gone[0].len()
    }

    /// Whether any position goes.
    pub fn loses(&self) -> bool {
        !self.gone[0].is_empty()
    }

    /// Whether a position stays. `None` where the rows along the axis differ.
    pub fn stays(&self, position: usize) -> Option<bool> {
        self.same(|gone| gone.binary_search(&position).is_err())
    }

    /// How many positions before this one stay. `None` where the rows along the axis differ.
    pub fn before(&self, position: usize) -> Option<usize> {
        self.same(|gone| position - gone.partition_point(|&g| g < position))
    }

    fn same<T: PartialEq>(&self, f: impl Fn(&[usize]) -> T) -> Option<T> {
        let first = f(&self.gone[0]);
        self.gone.iter().all(|row| f(row) == first).then_some(first)
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
        Self::allowing(Inexact::None, model, worlds, pins)
    }

    /// [`Coupling::new`], of a removal that may also change what `allowed` says.
    pub fn allowing(allowed: Inexact, model: &Model, worlds: Vec<Shapes>, pins: &Pins) -> Self {
        Self::with_rows(true, allowed, model, worlds, pins)
    }

    /// Couples the channels of a model so that any classes may be removed, whatever others are: where rows have to lose
    /// equally many, the same positions go in all of them.
    pub fn in_step(model: &Model, worlds: Vec<Shapes>) -> Self {
        Self::with_rows(false, Inexact::None, model, worlds, &Vec::new())
    }

    fn with_rows(rows_choose: bool, allowed: Inexact, model: &Model, worlds: Vec<Shapes>, pins: &Pins) -> Self {
        let mut coupling = Self {
            atoms: Atoms::default(),
            worlds: Vec::new(),
            sources: Vec::new(),
            reads: Vec::new(),
            cells: Cells::new(),
            blocked: BTreeMap::new(),
            balances: Vec::new(),
            rows_choose,
            allowed,
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

    /// Merges classes until every field, seen through the classes, varies along one axis, or along several of which
    /// the last loses equally many positions in every row.
    fn boxes(&mut self, model: &Model) {
        let makers = makers(model);
        loop {
            let mut balances = self.balances.clone();
            let mut known: BTreeSet<Vec<Vec<Atom>>> = BTreeSet::new();
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
                    if self.rows_choose && seen.is_ragged(shape) {
                        let rows = seen.rows(shape);
                        if known.insert(rows.clone()) {
                            let text = format!("every row along axis {best} of {shape:?} keeps equally many channels");
                            balances.push(Balance { node, text, rows });
                        }
                        continue;
                    }
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
            if changed {
                continue;
            }
            match resolve(&self.atoms, &balances) {
                Ok(cells) => {
                    self.cells = cells;
                    return;
                }
                Err(failing) => failing.into_iter().for_each(|k| self.same_in_every_row(&balances[k])),
            }
        }
    }

    /// Where the rows of a balance cannot choose for themselves, the same positions go in all of them.
    fn same_in_every_row(&mut self, balance: &Balance) {
        let text = format!("{}, and they cannot differ from row to row", balance.text);
        let reason = self.atoms.reason(balance.node, "whole-slices", text);
        for pair in balance.rows.windows(2) {
            for (&a, &b) in pair[0].iter().zip(&pair[1]) {
                self.atoms.join(a, b, reason);
            }
        }
    }

    /// For each axis of a value what stays when the given classes (by representative) go. `None` where that is not a
    /// tensor: slices of several axes, or rows that lose different numbers.
    pub fn kept(&self, world: usize, value: ValueId, removed: &BTreeSet<Atom>) -> Option<Vec<Kept>> {
        let world = &self.worlds[world];
        let shape = world.shapes.shape(value)?;
        let mut kept: Vec<Kept> = shape.iter().map(|&extent| Kept::whole(extent)).collect();
        let goes = |a: Atom| removed.contains(&self.atoms.find(a));
        for field in &world.fields[value.index()] {
            let gone: Vec<Atom> = field.atoms.iter().map(|&a| Atom::from(goes(a))).collect();
            if gone.iter().all(|&g| g == 0) {
                continue;
            }
            let seen = Field { axes: field.axes.clone(), atoms: gone }.squeezed(shape);
            // Fields of one tensor vary along axes of their own, so no other has been here.
            let axis = *seen.axes.last().unwrap_or(&field.axes[0]);
            let flags: Vec<bool> = match seen.axes[..] {
                [] => vec![true; shape[axis]],
                _ => seen.atoms.iter().map(|&g| g == 1).collect(),
            };
            kept[axis] = Kept::of_rows(shape[axis], flags.chunks(shape[axis]))?;
        }
        if let Some(&Blocked { axis, blocks }) = self.blocked.get(&value)
            && let Some(atoms) = self.atoms.get(Origin::Constant { value, axis, blocks })
        {
            let flags: Vec<bool> = atoms.map(goes).collect();
            kept[axis] = Kept::of_rows(shape[axis], flags.chunks(shape[axis]))?;
        }
        Some(kept)
    }

    /// Every class that touches a value, pinned ones left out.
    pub fn classes_of(&self, value: ValueId) -> BTreeSet<Atom> {
        let fields = self.worlds.iter().flat_map(|w| &w.fields[value.index()]).flat_map(|f| f.atoms.iter().copied());
        let blocked = self
            .blocked
            .get(&value)
            .and_then(|&Blocked { axis, blocks }| self.atoms.get(Origin::Constant { value, axis, blocks }));
        fields.chain(blocked.into_iter().flatten()).map(|a| self.atoms.find(a)).filter(|&r| r != PINNED).collect()
    }

    pub(super) fn add_read(&mut self, read: Read) {
        if self.known_reads.insert(read.clone()) {
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
        axes.map(|axis| {
            Field::along(axis, self.atoms.of(Origin::Constant { value, axis, blocks: 1 }, shape[axis]).collect())
        })
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
