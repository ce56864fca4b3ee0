//! What was removed and what was left, in terms of the original.
//!
//! Guarantees: positions are those of the original, whichever round removed them. The plan has no reads: nothing is
//! masked, the reference is the original itself.

use super::super::prune::{ids, members};
use super::super::{Context, Remark};
use super::choose::{Choice, Forbidden, Study};
use super::flow::Numbering;
use crate::analysis::{Atom, Coupling, Group, Origin, PINNED, Source, cost, groups, infer, infer_all};
use crate::ir::{Model, NodeId, ValueId};
use crate::ops::Kind;
use crate::plan::{
    Cost, GroupPlan, ModelRef, NEEDED, Plan, ReachPlan, ReasonPlan, Reference, TensorCut, VERSION, VerdictKind,
};
use std::collections::{BTreeMap, BTreeSet};

pub(super) struct Record {
    coupling: Coupling,
    groups: Vec<Group>,
    /// Constants of the original.
    values: usize,
    /// By constant and axis: the original positions that are left, where any has gone.
    left: BTreeMap<(ValueId, usize), Vec<usize>>,
    /// With the layer that each is about.
    remarks: Vec<(NodeId, Remark)>,
}

/// A rule, the node where it holds, and the layer whose filters it is about.
type Reason = (String, &'static str, String, Option<NodeId>);

impl Record {
    pub fn new(original: &Model, context: &Context) -> Self {
        let coupling = Coupling::in_step(original, infer_all(original, &context.sizes));
        let groups = if coupling.worlds.is_empty() { Vec::new() } else { groups(original, &coupling) };
        let values = original.value_count();
        Self { coupling, groups, values, left: BTreeMap::new(), remarks: Vec::new() }
    }

    /// Notes what a round removed.
    pub fn removed(&mut self, study: &Study, choice: &Choice) {
        for (origin, atoms) in study.coupling.atoms.origins() {
            let Origin::Constant { value, axis, .. } = origin else { continue };
            let stays = |a: Atom| !choice.removed.contains(&study.coupling.atoms.find(a));
            if value.index() >= self.values || atoms.clone().all(stays) {
                continue;
            }
            let before = self.left.remove(&(value, axis)).unwrap_or_else(|| (0..atoms.len()).collect());
            let after = before.into_iter().zip(atoms).filter(|(_, a)| stays(*a)).map(|(i, _)| i).collect();
            self.left.insert((value, axis), after);
        }
    }

    /// Notes channels that a round spared because a layer keeps one.
    pub fn spared(&mut self, model: &Model, study: &Study, choice: &Choice) {
        for &class in &choice.spared {
            let members = study.coupling.sources.iter().filter_map(|source| {
                let filter = source.atoms.iter().position(|&a| study.coupling.atoms.find(a) == class)?;
                let (Origin::Constant { value, axis, .. }, at) = study.coupling.atoms.origin(source.atoms[filter])?
                else {
                    return None;
                };
                Some((source.node, self.original(value, axis, at)))
            });
            let Some((node, filter)) = members.into_iter().next() else { continue };
            let text = format!("filter {filter}: a layer keeps a channel at least");
            let remark = Remark::at(model, node, "last-channel", text);
            if self.remarks.iter().all(|(_, r)| *r != remark) {
                self.remarks.push((node, remark));
            }
        }
    }

    /// Which position of the original a position of the present model is.
    fn original(&self, value: ValueId, axis: usize, position: usize) -> usize {
        self.left.get(&(value, axis)).map_or(position, |left| left[position])
    }

    /// The last round: what could go but for one thing.
    pub fn remark(&mut self, model: &Model, study: &Study, worlds: &mut [Numbering], forbidden: &Forbidden) {
        let pins = study.coupling.atoms.pin_reasons();
        // By reason and layer the filters, all in order.
        let mut found: BTreeMap<(usize, Reason), Vec<usize>> = BTreeMap::new();
        // What stands in the way of each class, asked for once.
        let mut obstacles: BTreeMap<Atom, bool> = BTreeMap::new();
        for (s, source) in study.coupling.sources.iter().enumerate() {
            let alike = Alike::of(model, source, worlds);
            for (filter, &atom) in source.atoms.iter().enumerate() {
                let root = study.coupling.atoms.find(atom);
                let reason = match root {
                    PINNED => alike.as_ref().and_then(|a| a.say(filter)).and_then(|what| {
                        let reason = study.coupling.atoms.reason_at(pins[atom as usize]?);
                        Some((reason.node, reason.rule, format!("{what}; {}", reason.text)))
                    }),
                    _ => {
                        let first = !obstacles.contains_key(&root);
                        let obstacle = if first { study.obstacle(root, forbidden) } else { None };
                        let obstructed = *obstacles.entry(root).or_insert(obstacle.is_some());
                        let constant = alike.as_ref().is_some_and(|a| a.constant[filter]) && !obstructed;
                        let text = "constant where it is made, but not where it is read".to_owned();
                        obstacle.or_else(|| constant.then_some((Some(source.node), "not-constant-when-read", text)))
                    }
                };
                let Some((node, rule, text)) = reason else { continue };
                let Some((Origin::Constant { value, axis, .. }, at)) = study.coupling.atoms.origin(atom) else {
                    continue;
                };
                let at = if value.index() < self.values { self.original(value, axis, at) } else { at };
                let label = node.map_or_else(String::new, |n| model.label(n));
                found.entry((s, (label, rule, text, node))).or_default().push(at);
            }
        }
        for ((s, (label, rule, text, _)), filters) in found {
            let node = study.coupling.sources[s].node;
            let layer = model.label(node);
            let text = format!("{} of '{layer}': {text}", listed(&filters));
            let remark = Remark { node: (!label.is_empty()).then_some(label), rule: rule.into(), text };
            self.remarks.push((node, remark));
        }
    }

    pub fn remarks(&self) -> Vec<Remark> {
        self.remarks.iter().map(|(_, remark)| remark.clone()).collect()
    }

    /// Classes of the original that have gone.
    pub fn channels(&self) -> usize {
        self.groups.iter().map(|g| self.gone(g).len()).sum()
    }

    /// The classes of a group that have gone, by their indices.
    fn gone(&self, group: &Group) -> Vec<usize> {
        let gone = |root: Atom| {
            let Some((Origin::Constant { value, axis, .. }, at)) = self.coupling.atoms.origin(root) else {
                return false;
            };
            self.left.get(&(value, axis)).is_some_and(|left| left.binary_search(&at).is_err())
        };
        (0..group.classes.len())
            .filter(|&i| {
                let class = &group.classes[i];
                let member = class.filters.iter().position(|f| !f.is_empty());
                let atom = member.and_then(|m| {
                    let source = &self.coupling.sources[group.members[m].source?];
                    source.atoms.get(class.filters[m][0] as usize).copied()
                });
                atom.is_some_and(gone)
            })
            .collect()
    }

    pub fn plan(&self, original: &Model, model: &Model, context: &Context) -> Plan {
        let shapes = &self.coupling.worlds[0].shapes;
        let after = infer_all(model, &context.sizes).into_iter().next();
        let after = after.unwrap_or_else(|| infer(model, shapes.sizes.clone()));
        let (before, after) = (cost(original, shapes), cost(model, &after));
        let mut tensors: Vec<TensorCut> = self
            .left
            .iter()
            .map(|(&(value, axis), kept)| {
                let size =
                    self.coupling.atoms.get(Origin::Constant { value, axis, blocks: 1 }).map_or(0, |atoms| atoms.len());
                TensorCut {
                    name: original.value(value).name().to_owned(),
                    axis,
                    size,
                    kept: kept.clone(),
                    kept_by_block: Vec::new(),
                }
            })
            .collect();
        tensors.sort_by(|a, b| (&a.name, a.axis).cmp(&(&b.name, b.axis)));
        let ids = ids(original, &self.groups);
        Plan {
            version: VERSION,
            tool: concat!("secateur ", env!("CARGO_PKG_VERSION")).to_owned(),
            model: ModelRef { sha256: None, file: None },
            options: serde_json::json!({ "lossless": true }),
            reference: Reference::Original,
            groups: self.groups.iter().zip(ids).map(|(g, id)| self.group(original, g, id)).collect(),
            tensors,
            reads: Vec::new(),
            inexact: Vec::new(),
            cost: Cost {
                params: [before.params, after.params],
                macs: [before.macs, after.macs],
                bytes: [before.bytes, after.bytes],
            },
            reach: ReachPlan::default(),
            repair: None,
            verified: None,
        }
    }

    fn group(&self, original: &Model, group: &Group, id: String) -> GroupPlan {
        let removed = self.gone(group);
        let pin = group.pin.as_ref().filter(|_| group.classes.is_empty());
        let said: Vec<&Remark> = self
            .remarks
            .iter()
            .filter(|(node, _)| group.members.iter().any(|m| m.node == *node))
            .map(|(_, remark)| remark)
            .collect();
        let note: Vec<String> = said.iter().map(|r| r.to_string()).collect();
        let (verdict, reason) = match (pin, said.first()) {
            _ if !removed.is_empty() => (VerdictKind::Pruned, None),
            (None, Some(r)) => {
                let reason = ReasonPlan { node: r.node.clone(), rule: r.rule.to_string(), text: r.text.clone() };
                (VerdictKind::Kept, Some(reason))
            }
            (Some(pin), _) => {
                let node = pin.node.map(|n| original.label(n));
                (VerdictKind::Pinned, Some(ReasonPlan { node, rule: pin.rule.to_owned(), text: pin.text.clone() }))
            }
            (None, None) => {
                let text = "no channel is constant, duplicate or unread".to_owned();
                let node = group.members.first().map(|m| original.label(m.node));
                (VerdictKind::Kept, Some(ReasonPlan { node, rule: NEEDED.to_owned(), text }))
            }
        };
        GroupPlan {
            id,
            channels: if group.classes.is_empty() { group.channels() } else { group.classes.len() },
            verdict,
            reason,
            members: members(original, &self.coupling, group),
            scores: Vec::new(),
            removed,
            representation: None,
            note: (!note.is_empty()).then(|| note.join("; ")),
        }
    }
}

/// Which filters of a layer are constant, or like an earlier one, where they are made.
struct Alike {
    constant: Vec<bool>,
    duplicate: Vec<bool>,
}

impl Alike {
    fn of(model: &Model, source: &Source, worlds: &mut [Numbering]) -> Option<Self> {
        let out = model.node(source.node).output(0)?;
        let count = source.atoms.len();
        let mut alike = Self { constant: vec![true; count], duplicate: vec![true; count] };
        for world in worlds {
            let shape = world.shape(out)?;
            let axis = if source.kind == Kind::Conv { 1 } else { shape.len().checked_sub(1)? };
            (shape.get(axis) == Some(&count)).then_some(())?;
            let ids = world.over(out, &[axis]);
            let mut seen = BTreeSet::new();
            for (i, &id) in ids.iter().enumerate() {
                alike.constant[i] &= world.table.as_constant(id).is_some();
                alike.duplicate[i] &= !seen.insert(id);
            }
        }
        Some(alike)
    }

    fn say(&self, filter: usize) -> Option<&'static str> {
        match (self.constant[filter], self.duplicate[filter]) {
            (true, _) => Some("constant"),
            (false, true) => Some("duplicate"),
            (false, false) => None,
        }
    }
}

/// `filter 3`, `filters 1, 2 and 5`, `20 filters (1, 2, 3 ...)`.
fn listed(filters: &[usize]) -> String {
    let names = |f: &[usize]| f.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    match filters {
        [one] => format!("filter {one}"),
        [most @ .., last] if filters.len() <= 8 => format!("filters {} and {last}", names(most)),
        _ => format!("{} filters ({} ...)", filters.len(), names(&filters[..4])),
    }
}
