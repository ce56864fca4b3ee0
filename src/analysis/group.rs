//! Groups: the classes that share their filters' layers, and what can be done with each.
//!
//! Guarantees: every contraction with filters is a member of exactly one group, and every group has a verdict; what
//! pins a group is named by node, rule and reason.

use super::balance::{Cell, lowest};
use super::coupling::{Coupling, Source};
use super::infer::Shapes;
use super::label::{Atom, PINNED};
use crate::ir::{Def, Model, NodeId};
use crate::ops::Kind;
use std::collections::{BTreeMap, BTreeSet};

/// A set of filters (and all that belongs to them) that can only be removed together.
#[derive(Debug, Clone)]
pub struct Class {
    /// Representative in the union-find.
    pub root: Atom,
    /// For each member of the group the positions of the class's filters.
    pub filters: Vec<Vec<u32>>,
    /// Of each cell of a family as many classes have to go; `None` for a class that goes by itself.
    pub cell: Option<Cell>,
}

/// One contraction of a group.
#[derive(Debug, Clone)]
pub struct Member {
    pub node: NodeId,
    /// Index into [`Coupling::sources`]; `None` where the weight is not a stored constant.
    pub source: Option<usize>,
    pub kind: Kind,
}

/// Why a group cannot be cut at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub node: Option<NodeId>,
    pub rule: &'static str,
    pub text: String,
}

/// Contractions whose channels are coupled with each other.
#[derive(Debug, Clone)]
pub struct Group {
    pub members: Vec<Member>,
    /// Removable classes, in the order of their first filter.
    pub classes: Vec<Class>,
    /// Number of classes that are pinned, and why the first of them is.
    pub pinned: usize,
    pub pin: Option<Verdict>,
}

impl Group {
    /// Whether any member is a convolution.
    pub fn has_convolution(&self) -> bool {
        self.members.iter().any(|m| m.kind == Kind::Conv)
    }

    /// Channels of the group, removable or not.
    pub fn channels(&self) -> usize {
        self.classes.len() + self.pinned
    }
}

/// All groups, in execution order of their first member.
pub fn groups(model: &Model, coupling: &Coupling) -> Vec<Group> {
    let atoms = &coupling.atoms;
    let pins = atoms.pin_reasons();
    // Sources that share a removable class, or a family whose cells lose equally many, are in one group.
    let mut group_of: Vec<usize> = (0..coupling.sources.len()).collect();
    let mut first: BTreeMap<Atom, usize> = BTreeMap::new();
    let mut first_of_family: BTreeMap<u32, usize> = BTreeMap::new();
    for (i, source) in coupling.sources.iter().enumerate() {
        for root in roots(coupling, source).into_iter().filter(|&r| r != PINNED) {
            let with = *first.entry(root).or_insert(i);
            let family = coupling.cells.get(&root).map(|c| *first_of_family.entry(c.family).or_insert(i));
            for j in [with].into_iter().chain(family) {
                let (a, b) = (lowest(&mut group_of, i), lowest(&mut group_of, j));
                group_of[a.max(b)] = a.min(b);
            }
        }
    }
    let group_of: Vec<usize> = (0..group_of.len()).map(|i| lowest(&mut group_of, i)).collect();
    let mut out = Vec::new();
    let mut members_of: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (i, &g) in group_of.iter().enumerate() {
        members_of.entry(g).or_default().push(i);
    }
    for sources in members_of.into_values() {
        let mut classes: BTreeMap<Atom, Class> = BTreeMap::new();
        let mut order = Vec::new();
        let mut pinned: BTreeSet<(usize, usize)> = BTreeSet::new();
        let mut pin = None;
        for (m, &s) in sources.iter().enumerate() {
            for (filter, &atom) in coupling.sources[s].atoms.iter().enumerate() {
                let root = atoms.find(atom);
                if root == PINNED {
                    pinned.insert((m, filter));
                    pin = pin.or(pins[atom as usize]);
                    continue;
                }
                let class = classes.entry(root).or_insert_with(|| {
                    order.push(root);
                    Class { root, filters: vec![Vec::new(); sources.len()], cell: coupling.cells.get(&root).copied() }
                });
                class.filters[m].push(filter as u32);
            }
        }
        let member = |&s: &usize| {
            let source = &coupling.sources[s];
            Member { node: source.node, source: Some(s), kind: source.kind }
        };
        let pin = pin.map(|r| {
            let reason = atoms.reason_at(r);
            Verdict { node: reason.node, rule: reason.rule, text: reason.text.clone() }
        });
        out.push(Group {
            members: sources.iter().map(member).collect(),
            classes: order.iter().filter_map(|r| classes.remove(r)).collect(),
            pinned: pinned.len(),
            pin,
        });
    }
    out.extend(without_weights(model, coupling));
    let position: BTreeMap<NodeId, usize> = model.walk().into_iter().enumerate().map(|(i, n)| (n, i)).collect();
    out.sort_by_key(|g| g.members.first().map(|m| position[&m.node]));
    out
}

fn roots(coupling: &Coupling, source: &Source) -> BTreeSet<Atom> {
    source.atoms.iter().map(|&a| coupling.atoms.find(a)).collect()
}

/// Convolutions without filters of their own to choose from: their weight is not a stored constant, or they are
/// unknown to the table.
fn without_weights(model: &Model, coupling: &Coupling) -> Vec<Group> {
    let known: BTreeSet<NodeId> = coupling.sources.iter().map(|s| s.node).collect();
    let Some(world) = coupling.worlds.first() else { return Vec::new() };
    let mut out = Vec::new();
    for n in model.walk() {
        let node = model.node(n);
        let layer = crate::ops::row_of(node).and_then(|row| row.layer);
        if layer != Some(Kind::Conv) || known.contains(&n) {
            continue;
        }
        let pinned = node.output(0).and_then(|v| world.shapes.shape(v)?.get(1).copied()).unwrap_or(0);
        let stored = node.input(1).is_some_and(|w| model.constant(w).is_some());
        let (rule, text) = match world.shapes.effect(n) {
            Some(Ok(effect)) => match super::infer::contraction(effect) {
                Some(c) if depthwise(c) => continue,
                Some(_) if stored && pinned == 1 => ("single-filter", "a layer keeps at least one filter".into()),
                Some(_) => ("weight-not-stored", weight_text(model, n)),
                None => continue,
            },
            Some(Err(_)) if node.input(1).is_some_and(|w| model.value(w).def() == Def::Sparse) => {
                ("weight-not-stored", weight_text(model, n))
            }
            Some(Err(refusal)) => ("opaque", refusal.to_string()),
            None => continue,
        };
        let lost = shape_lost_at(model, &world.shapes, n);
        let (at, text) = match lost.filter(|&at| at != n) {
            Some(at) => {
                let why = match world.shapes.effect(at) {
                    Some(Err(refusal)) => refusal.to_string(),
                    _ => "its outputs depend on data".to_owned(),
                };
                (at, format!("from here on the shapes are not known ({}): {why}", model.node(at).op_type()))
            }
            None => (n, text),
        };
        let pin = Some(Verdict { node: Some(at), rule, text });
        let members = vec![Member { node: n, source: None, kind: Kind::Conv }];
        out.push(Group { members, classes: Vec::new(), pinned, pin });
    }
    out
}

/// The first node, going up from `n`, whose outputs have no known shape though its inputs have.
fn shape_lost_at(model: &Model, shapes: &Shapes, n: NodeId) -> Option<NodeId> {
    let mut at = n;
    let mut seen = BTreeSet::from([n]);
    loop {
        let unknown = model.node(at).inputs().iter().flatten().find_map(|&v| match model.value(v).def() {
            Def::Node(by, _) if shapes.shape(v).is_none() => Some(by),
            _ => None,
        });
        match unknown.filter(|&by| seen.insert(by)) {
            Some(by) => at = by,
            None => return (at != n).then_some(at),
        }
    }
}

fn depthwise(c: &crate::ops::Contraction) -> bool {
    c.operands.iter().skip(1).any(|o| {
        o.letters.iter().zip(&o.shape).any(|(&l, &d)| l == 'c' && d == 1)
            && o.letters.iter().zip(&o.shape).any(|(&l, &d)| l == 'g' && d > 1)
    })
}

fn weight_text(model: &Model, n: NodeId) -> String {
    let Some(v) = model.node(n).input(1) else { return "the weight is left out".into() };
    let name = model.value(v).name();
    match model.value(v).def() {
        Def::Node(by, _) => {
            let (maker, op) = (model.label(by), model.node(by).op_type());
            format!("the weight '{name}' is computed by node '{maker}' ({op}), so there is no stored tensor to cut")
        }
        Def::Sparse => format!("the weight '{name}' is a sparse tensor, which is carried along as it is"),
        _ => format!("the weight '{name}' is not a stored constant"),
    }
}
