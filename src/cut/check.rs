//! After a cut every shape is inferred afresh and compared with the one that it should have.

use super::Misfit;
use crate::analysis::{Atom, Coupling, Kept, Shapes, infer};
use crate::ir::{Def, Model, NodeId, ValueId};
use crate::ops::{Action, Narrow, Refusal};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Updates the declared shapes of what lost channels.
pub(super) fn declare(
    old: &Model,
    coupling: &Coupling,
    removed: &BTreeSet<Atom>,
    new: &mut Model,
) -> Result<(), Misfit> {
    let declared: BTreeSet<ValueId> = old
        .live_graphs()
        .into_iter()
        .flat_map(|g| old.graph(g).value_info().iter().chain(old.graph(g).inputs()).chain(old.graph(g).outputs()))
        .map(|p| p.value)
        .collect();
    let mut shapes = BTreeMap::new();
    for v in declared {
        let touched = coupling.classes_of(v);
        if touched.is_disjoint(removed) {
            continue;
        }
        let kept = coupling.kept(0, v, removed).ok_or_else(|| Misfit {
            node: None,
            text: format!("what stays of '{}' is not a whole slice", old.value(v).name()),
            classes: touched.intersection(removed).copied().collect(),
        })?;
        let shape = kept.iter().map(|k| k.loses().then(|| k.count())).collect();
        shapes.insert(v, shape);
    }
    new.declare_shapes(&shapes);
    Ok(())
}

/// Compares every shape of the new model with the old one less the removed positions, under every assignment.
pub(super) fn check(old: &Model, coupling: &Coupling, removed: &BTreeSet<Atom>, new: &Model) -> Result<(), Misfit> {
    if let Err(violation) = new.check() {
        return Err(Misfit { node: None, text: violation.to_string(), classes: removed.clone() });
    }
    if let Some(misfit) = emptied(old, coupling, removed) {
        return Err(misfit);
    }
    for (w, world) in coupling.worlds.iter().enumerate() {
        let after = infer(new, world.shapes.sizes.clone());
        for n in old.walk() {
            if let Some(text) = compare(old, coupling, removed, w, n, new, &after) {
                return Err(Misfit { node: Some(n), text, classes: involved(old, coupling, removed, n) });
            }
        }
    }
    Ok(())
}

/// Values that would be left without any channel, which runtimes refuse: of each the first class that was to go has to
/// stay.
fn emptied(old: &Model, coupling: &Coupling, removed: &BTreeSet<Atom>) -> Option<Misfit> {
    let mut stay: BTreeSet<Atom> = BTreeSet::new();
    let mut first = None;
    for n in old.walk() {
        for &v in old.node(n).outputs().iter().flatten() {
            let lost = |kept: Vec<Kept>| kept.iter().any(|k| k.loses() && k.count() == 0);
            if !(0..coupling.worlds.len()).any(|w| coupling.kept(w, v, removed).is_some_and(lost)) {
                continue;
            }
            let classes: BTreeSet<Atom> = coupling.classes_of(v).intersection(removed).copied().collect();
            if classes.is_disjoint(&stay) {
                stay.extend(classes.first());
            }
            first.get_or_insert((n, v));
        }
    }
    let (n, v) = first?;
    let text = format!("'{}' would be left without channels", old.value(v).name());
    Some(Misfit { node: Some(n), text, classes: stay })
}

/// What is wrong with a node after the cut, if anything.
fn compare(
    old: &Model,
    coupling: &Coupling,
    removed: &BTreeSet<Atom>,
    w: usize,
    n: NodeId,
    new: &Model,
    after: &Shapes,
) -> Option<String> {
    let before = &coupling.worlds[w].shapes;
    if let (Some(Ok(_)), Some(Err(refusal))) = (before.effect(n), after.effect(n)) {
        let what = if matches!(refusal, Refusal::Invalid(_)) { "contradicts itself" } else { "cannot be followed" };
        return Some(format!("after the cut it {what}: {refusal}"));
    }
    for &v in old.node(n).outputs().iter().flatten() {
        let Some(shape) = before.shape(v) else { continue };
        let expected: Vec<usize> = match coupling.kept(w, v, removed) {
            Some(kept) => kept.iter().map(Kept::count).collect(),
            None => return Some(format!("what stays of '{}' is not a whole slice", old.value(v).name())),
        };
        match after.shape(v) {
            Some(found) if found == expected => {}
            Some(found) => {
                let name = old.value(v).name();
                return Some(format!(
                    "after the cut '{name}' would have shape {found:?}, {expected:?} is expected (was {shape:?})"
                ));
            }
            None => return Some(format!("after the cut the shape of '{}' is not known", old.value(v).name())),
        }
    }
    computed_operand(old, coupling, before, new, after, n)
}

/// A number that is computed from a shape and then multiplied into the data must not change with the shape.
fn computed_operand(
    old: &Model,
    coupling: &Coupling,
    before: &Shapes,
    new: &Model,
    after: &Shapes,
    n: NodeId,
) -> Option<String> {
    let (_, v) = changed_operands(old, coupling, before, new, after, n).next()?;
    Some(format!("'{}' is computed from a shape that the cut changes", old.value(v).name()))
}

/// Inputs of a node on data, by number, that are computed from shapes and have come out otherwise.
fn changed_operands<'a>(
    old: &'a Model,
    coupling: &'a Coupling,
    before: &'a Shapes,
    new: &'a Model,
    after: &'a Shapes,
    n: NodeId,
) -> impl Iterator<Item = (usize, ValueId)> + 'a {
    let on_data = matches!(before.effect(n), Some(Ok(e)) if matches!(e.action, Action::Map(_) | Action::Contract(_)));
    let inputs = old.node(n).inputs();
    let known = |v: ValueId, s: &'a Shapes| s.fact(v).and_then(|f| f.value.as_ref());
    let computing = inputs.iter().flatten().all(|&v| known(v, before).is_some());
    // What states extents has been narrowed, and so has to come out otherwise.
    let narrowed = match crate::ops::lookup(old, old.node(n)).map(|(row, _)| row.narrow) {
        Ok(Narrow::Target { input, .. }) => Some(input),
        _ => None,
    };
    let inputs = inputs.iter().enumerate().filter_map(|(i, v)| Some((i, (*v)?)));
    inputs.filter(move |(i, _)| Some(*i) != narrowed).filter(move |&(i, v)| {
        let was = known(v, before).filter(|_| on_data && !computing && !coupling.constant[v.index()]);
        let now = new.node(n).input(i).and_then(|v| known(v, after));
        was.is_some() && now != was
    })
}

/// Numbers that are computed from shapes and taken into the data (a scale of 1 over the root of a width, say) stay what
/// they were: each becomes a constant, where it is the same for every size of the symbolic dimensions.
pub(super) fn freeze(old: &Model, coupling: &Coupling, new: &mut Model) {
    let before = &coupling.worlds[0].shapes;
    let after = infer(new, before.sizes.clone());
    for n in old.walk() {
        let changed: Vec<(usize, ValueId)> = changed_operands(old, coupling, before, new, &after, n).collect();
        for (i, v) in changed.into_iter().filter(|&(_, v)| coupling.fixed[v.index()]) {
            let Some(was) = before.fact(v).and_then(|f| f.value.clone()) else { continue };
            let own = new.add_initializer(old.node(n).graph(), old.value(v).name(), &was);
            new.set_input(n, i, Some(own));
        }
    }
}

/// Removed classes that touch a node, or else the nearest nodes before it.
fn involved(old: &Model, coupling: &Coupling, removed: &BTreeSet<Atom>, n: NodeId) -> BTreeSet<Atom> {
    let mut queue = VecDeque::from([n]);
    let mut seen = BTreeSet::from([n]);
    while let Some(n) = queue.pop_front() {
        let node = old.node(n);
        let values = || node.inputs().iter().chain(node.outputs()).flatten();
        let classes: BTreeSet<Atom> =
            values().flat_map(|&v| coupling.classes_of(v)).filter(|c| removed.contains(c)).collect();
        if !classes.is_empty() {
            return classes;
        }
        for &v in node.inputs().iter().flatten() {
            if let Def::Node(producer, _) = old.value(v).def()
                && seen.insert(producer)
            {
                queue.push_back(producer);
            }
        }
    }
    // Nothing is known of who is at fault: fail safe.
    removed.clone()
}
