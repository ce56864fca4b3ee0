//! Axes of a constant that a reshape merges into one.
//!
//! Positions of the merged axis belong to a position of each of the axes, but only one of these can have its freedom:
//! a weight of 16 x 4 x 4 x 10, seen as 256 x 10, loses either channels or rows. Which one is decided by the first
//! contraction that reads the value: the axis whose positions lie as the channels of its other operand do. Where
//! nothing decides, it is the axis with most positions. The others are pinned.

use super::super::field::Field;
use super::Flow;
use crate::ir::{NodeId, ValueId};
use crate::ops::step::Step;
use crate::ops::{Action, Contraction, View};
use std::collections::BTreeSet;

impl Flow<'_> {
    /// Takes fields that run along the same axis apart. Those of a constant that only contractions read are put aside
    /// until the first of them decides.
    pub(super) fn separate(&mut self, n: NodeId, out: Option<ValueId>, fields: Vec<Field>) -> Vec<Field> {
        let mut alone: Vec<Field> = Vec::new();
        let mut groups: Vec<Vec<Field>> = Vec::new();
        for field in fields {
            let meets = |g: &[Field]| g.iter().any(|f| f.axes.iter().any(|&a| field.varies(a)));
            if let Some(group) = groups.iter_mut().find(|g| meets(g)) {
                group.push(field);
            } else if let Some(at) = alone.iter().position(|f| meets(std::slice::from_ref(f))) {
                groups.push(vec![alone.remove(at), field]);
            } else {
                alone.push(field);
            }
        }
        if groups.is_empty() {
            return alone;
        }
        let waits = |v: &ValueId| {
            let contraction = |r: NodeId| matches!(self.world.shapes.effect(r), Some(Ok(e)) if matches!(e.action, Action::Contract(_)));
            self.coupling.constant[v.index()] && self.uses.readers(*v).iter().all(|&(r, _)| contraction(r))
        };
        if let Some(v) = out.filter(waits) {
            self.undecided.insert(v, groups);
            return alone;
        }
        for group in groups {
            let none = vec![0; group.len()];
            alone.push(self.choose(n, group, &none));
        }
        alone
    }

    /// Decides for the operands of a contraction which of their merged axes keeps its freedom.
    pub(super) fn decide(&mut self, n: NodeId, c: &Contraction) {
        for (k, view) in c.operands.iter().enumerate() {
            let Some(v) = self.model.node(n).input(view.input) else { continue };
            let Some(groups) = self.undecided.remove(&v) else { continue };
            let partners: Vec<(&View, Field)> = (0..c.operands.len())
                .filter(|&j| j != k)
                .flat_map(|j| self.viewed(n, &c.operands[j]).into_iter().map(move |f| (j, f)))
                .map(|(j, f)| (&c.operands[j], f))
                .collect();
            let own = self.world.shapes.shape(v).unwrap_or(&[]).to_vec();
            for group in groups {
                let views: Vec<Field> = group.iter().map(|f| self.seen_as(n, f.clone(), view, &own)).collect();
                let strain: Vec<usize> =
                    views.iter().map(|g| partners.iter().map(|(p, f)| strain(view, g, p, f)).sum()).collect();
                let chosen = self.choose(n, group, &strain);
                self.world.fields[v.index()].push(chosen);
            }
        }
    }

    fn viewed(&mut self, n: NodeId, view: &View) -> Vec<Field> {
        let Some(v) = self.model.node(n).input(view.input) else { return Vec::new() };
        let Some(own) = self.world.shapes.shape(v).map(<[usize]>::to_vec) else { return Vec::new() };
        self.fields(v).into_iter().map(|f| self.seen_as(n, f, view, &own)).collect()
    }

    fn seen_as(&mut self, n: NodeId, field: Field, view: &View, own: &[usize]) -> Field {
        self.steps(n, field, &[Step::Reshape(view.shape.clone())], own)
    }

    /// Keeps the field of least strain, of equals that with most positions, of these the first; pins the others.
    fn choose(&mut self, n: NodeId, mut group: Vec<Field>, strain: &[usize]) -> Field {
        let distinct = |f: &Field| f.atoms.iter().collect::<BTreeSet<_>>().len();
        let best = (0..group.len()).min_by_key(|&i| (strain[i], std::cmp::Reverse(distinct(&group[i])), i));
        let chosen = group.remove(best.expect("a group has two fields at least"));
        let text = "it merges several axes into one, which loses positions of one of them only";
        let reason = self.coupling.atoms.reason(Some(n), "merged-axes", text);
        group.iter().for_each(|f| self.pin(f, reason));
        chosen
    }
}

/// How many joins two operands' labels would come to along the letters that they share, beyond one for one.
fn strain(view: &View, field: &Field, other: &View, partner: &Field) -> usize {
    let ([a], [b]) = (&field.axes[..], &partner.axes[..]) else { return 0 };
    if view.letters[*a] != other.letters[*b] {
        return 0;
    }
    let pairs: BTreeSet<_> = field.atoms.iter().zip(&partner.atoms).collect();
    let distinct = |f: &Field| f.atoms.iter().collect::<BTreeSet<_>>().len();
    2 * pairs.len() - distinct(field) - distinct(partner)
}
