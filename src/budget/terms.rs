//! A model's cost as a sum of products: what each node or constant costs, times the share of its channels that is left
//! along each axis.

use super::Measure;
use crate::analysis::{Atom, Coupling, Field, Origin, PINNED, contraction, node_costs};
use crate::ir::{Model, NodeId, ValueId};
use crate::onnx::tensor::{DataType, bits_per_element};
use crate::ops::step::Step;
use std::collections::{BTreeMap, BTreeSet};

/// The cost of a model by the classes that are left.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    terms: Vec<Term>,
    /// For each class: term, factor, positions.
    uses: BTreeMap<Atom, Vec<(usize, usize, f64)>>,
}

#[derive(Debug, Clone, Default)]
struct Term {
    amount: [f64; 3],
    /// Positions along each axis that channels run along.
    extents: Vec<f64>,
}

impl Terms {
    /// The terms of a model under its first assignment of sizes.
    pub fn of(model: &Model, coupling: &Coupling) -> Self {
        let mut out = Self::default();
        let Some(world) = coupling.worlds.first() else { return out };
        let costs = node_costs(model, &world.shapes);
        for (n, cost) in costs.iter().filter(|(_, c)| c.macs > 0) {
            let factors = widths(model, coupling, *n);
            out.push([cost.macs as f64, 0.0, 0.0], factors);
        }
        let mut counted = BTreeSet::new();
        for n in model.walk() {
            for (i, v) in model.node(n).inputs().iter().enumerate() {
                let Some(v) = v.filter(|&v| model.constant(v).is_some() && counted.insert(v)) else { continue };
                let statistics =
                    crate::ops::lookup(model, model.node(n)).is_ok_and(|(row, _)| row.statistics.contains(&i));
                if let Some(amount) = stored(model, coupling, v, statistics) {
                    out.push(amount, axes(coupling, v));
                }
            }
        }
        out
    }

    fn push(&mut self, amount: [f64; 3], factors: Vec<Vec<Atom>>) {
        let term = self.terms.len();
        let mut extents = Vec::new();
        for positions in factors {
            let mut counts: BTreeMap<Atom, f64> = BTreeMap::new();
            positions.iter().filter(|&&c| c != PINNED).for_each(|&c| *counts.entry(c).or_default() += 1.0);
            if counts.is_empty() {
                continue;
            }
            for (class, count) in counts {
                self.uses.entry(class).or_default().push((term, extents.len(), count));
            }
            extents.push(positions.len() as f64);
        }
        self.terms.push(Term { amount, extents });
    }

    /// Nothing removed.
    pub fn whole(&self, measure: Measure) -> State<'_> {
        let which = Measure::ALL.iter().position(|&m| m == measure).expect("one of all");
        let left = self.terms.iter().map(|t| t.extents.clone()).collect();
        let mut state = State { terms: self, which, left, value: vec![0.0; self.terms.len()], total: 0.0 };
        (0..self.terms.len()).for_each(|t| state.update(t));
        state
    }
}

/// What is left at some point.
pub struct State<'a> {
    terms: &'a Terms,
    which: usize,
    left: Vec<Vec<f64>>,
    value: Vec<f64>,
    total: f64,
}

impl State<'_> {
    pub fn total(&self) -> f64 {
        self.total
    }

    fn update(&mut self, term: usize) {
        let t = &self.terms.terms[term];
        let share = |(left, all): (&f64, &f64)| left / all;
        let value = t.amount[self.which] * self.left[term].iter().zip(&t.extents).map(share).product::<f64>();
        self.total += value - std::mem::replace(&mut self.value[term], value);
    }

    /// Removes classes; returns the terms that changed.
    pub fn remove(&mut self, classes: impl Iterator<Item = Atom>) -> BTreeSet<usize> {
        self.shift(classes, -1.0)
    }

    /// Puts classes back.
    pub fn restore(&mut self, classes: impl Iterator<Item = Atom>) {
        self.shift(classes, 1.0);
    }

    fn shift(&mut self, classes: impl Iterator<Item = Atom>, sign: f64) -> BTreeSet<usize> {
        let terms = self.terms;
        let mut touched = BTreeSet::new();
        for class in classes {
            for &(term, factor, count) in terms.uses.get(&class).into_iter().flatten() {
                self.left[term][factor] += sign * count;
                touched.insert(term);
            }
        }
        touched.iter().for_each(|&t| self.update(t));
        touched
    }

    /// Whether a class takes part in any of these terms.
    pub fn meets(&self, class: Atom, terms: &BTreeSet<usize>) -> bool {
        self.terms.uses.get(&class).is_some_and(|uses| uses.iter().any(|u| terms.contains(&u.0)))
    }
}

/// The classes along the output's channels of a contraction, and along what it sums over.
fn widths(model: &Model, coupling: &Coupling, n: NodeId) -> Vec<Vec<Atom>> {
    let world = &coupling.worlds[0];
    let Some(Ok(effect)) = world.shapes.effect(n) else { return Vec::new() };
    let Some(c) = contraction(effect) else { return Vec::new() };
    let mut out = Vec::new();
    let classes = |f: &Field| f.atoms.iter().map(|&a| coupling.atoms.find(a)).collect::<Vec<_>>();
    if let Some(y) = model.node(n).output(0) {
        out.extend(world.fields[y.index()].iter().map(classes));
    }
    // What is summed over: the data's channels, but not the number of groups, which the output counts.
    let Some(x) =
        c.operands.iter().find(|o| model.node(n).input(o.input).is_some_and(|v| !coupling.constant[v.index()]))
    else {
        return out;
    };
    let Some(v) = model.node(n).input(x.input) else { return out };
    let Some(own) = world.shapes.shape(v) else { return out };
    let step = Step::Reshape(x.shape.clone());
    for field in &world.fields[v.index()] {
        if field.size_after(&step, own) > 1 << 20 {
            continue;
        }
        let seen = field.clone().step(&step, own, &mut |_, _, _| Vec::new());
        let summed: Vec<usize> =
            seen.axes.iter().copied().filter(|&a| !c.output.letters.contains(&x.letters[a])).collect();
        if summed.is_empty() {
            continue;
        }
        let run: usize = summed.iter().map(|&a| x.shape[a]).product();
        let others: Vec<usize> = seen.axes.iter().copied().filter(|a| !summed.contains(a)).collect();
        let spread = seen.spread(&[&others[..], &summed].concat(), &x.shape);
        // A group that goes as a whole takes its outputs along, which are counted already.
        let mut rows: Vec<Vec<Atom>> =
            spread.chunks(run).map(|r| r.iter().map(|&a| coupling.atoms.find(a)).collect()).collect();
        if rows.len() > 1 {
            rows.retain(|r| r.iter().any(|c| *c != r[0]));
        }
        out.push(rows.concat());
    }
    out.retain(|f| !f.is_empty());
    out
}

/// Multiply-accumulates (none), parameters and bytes of a constant, as [`node_costs`] counts them.
fn stored(model: &Model, coupling: &Coupling, v: ValueId, statistics: bool) -> Option<[f64; 3]> {
    let dtype = DataType::try_from(model.constant(v)?.data_type?).ok()?;
    let elements = coupling.worlds[0].shapes.shape(v)?.iter().product::<usize>() as f64;
    let counts = !statistics && !matches!(dtype, DataType::Int64 | DataType::Bool | DataType::String);
    let bytes = elements * bits_per_element(dtype).unwrap_or(0) as f64 / 8.0;
    Some([0.0, if counts { elements } else { 0.0 }, bytes])
}

/// The classes along each axis of a constant.
fn axes(coupling: &Coupling, v: ValueId) -> Vec<Vec<Atom>> {
    let blocked = coupling.blocked.get(&v);
    let rank = coupling.worlds[0].shapes.shape(v).map_or(0, <[usize]>::len);
    (0..rank)
        .filter_map(|axis| {
            let blocks = blocked.filter(|b| b.axis == axis).map_or(1, |b| b.blocks);
            let atoms = coupling.atoms.get(Origin::Constant { value: v, axis, blocks })?;
            Some(atoms.map(|a| coupling.atoms.find(a)).collect())
        })
        .collect()
}
