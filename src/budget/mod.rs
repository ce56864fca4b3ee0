//! How many channels of each group go, so that the whole model meets a budget.
//!
//! Guarantees: what is asked for is met, where it can be, by counts that every limit allows; no count can be lowered
//! without missing it; ties go to the first group. Refuses: a budget below what is left when all that may go is gone
//! ([`Unreachable`], with the closest that can be reached).
//! How: a model's cost is a sum of products of widths ([`Terms`]). From nothing removed, the step that costs least error
//! for what it saves is taken again and again; what turns out not to be needed is given back.

mod terms;

pub use terms::Terms;

use crate::analysis::{Atom, Cost};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    Macs,
    Params,
    Bytes,
}

impl Measure {
    pub const ALL: [Self; 3] = [Self::Macs, Self::Params, Self::Bytes];

    /// What a model costs by it.
    pub fn of(self, cost: Cost) -> f64 {
        match self {
            Self::Macs => cost.macs as f64,
            Self::Params => cost.params as f64,
            Self::Bytes => cost.bytes as f64,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Macs => "macs",
            Self::Params => "params",
            Self::Bytes => "bytes",
        }
    }
}

/// One group's order of removal.
#[derive(Debug, Clone, Default)]
pub struct Curve {
    /// Classes that go together, step by step.
    pub steps: Vec<Vec<Atom>>,
    /// The error after so many steps, from 0 for none.
    pub error: Vec<f64>,
    /// Numbers of steps that the limits allow, ascending, with 0 first.
    pub allowed: Vec<usize>,
}

/// A budget that cannot be met.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unreachable {
    /// The least that can be reached.
    pub closest: f64,
}

/// How far ahead a step may look, so that a dear one does not hide the cheap ones behind it.
const AHEAD: usize = 8;

/// For each curve the number of steps, so that `terms` come to at most `target`.
pub fn allocate(curves: &[Curve], terms: &Terms, measure: Measure, target: f64) -> Result<Vec<usize>, Unreachable> {
    let mut state = terms.whole(measure);
    // Places in the lists of allowed numbers.
    let mut at = vec![0usize; curves.len()];
    let mut best: Vec<Option<(f64, usize)>> = vec![None; curves.len()];
    let mut stale = vec![true; curves.len()];
    while state.total() > target {
        for (g, curve) in curves.iter().enumerate().filter(|(g, _)| stale[*g]) {
            best[g] = cheapest(curve, at[g], &mut state);
        }
        let next = (0..curves.len()).filter_map(|g| Some((best[g]?, g))).min_by(|a, b| a.0.0.total_cmp(&b.0.0));
        let Some(((_, to), g)) = next else { return Err(Unreachable { closest: state.total() }) };
        let touched = state.remove(classes(&curves[g], at[g], to));
        at[g] = to;
        // What another group saves changes where both meet in a product.
        for (other, flag) in stale.iter_mut().enumerate() {
            *flag = other == g || curves[other].steps.iter().flatten().any(|c| state.meets(*c, &touched));
        }
    }
    give_back(curves, &mut state, &mut at, target);
    Ok(at.iter().zip(curves).map(|(&i, c)| c.allowed[i]).collect())
}

fn classes(curve: &Curve, from: usize, to: usize) -> impl Iterator<Item = Atom> + '_ {
    curve.steps[curve.allowed[from]..curve.allowed[to]].iter().flatten().copied()
}

/// The place further on whose error for what it saves is least.
fn cheapest(curve: &Curve, at: usize, state: &mut terms::State) -> Option<(f64, usize)> {
    let before = state.total();
    let mut best: Option<(f64, usize)> = None;
    let mut undo = Vec::new();
    for to in at + 1..curve.allowed.len().min(at + 1 + AHEAD) {
        let gone: Vec<Atom> = classes(curve, to - 1, to).collect();
        state.remove(gone.iter().copied());
        undo.extend(gone);
        let saved = before - state.total();
        let price = (curve.error[curve.allowed[to]] - curve.error[curve.allowed[at]]) / saved;
        if saved > 0.0 && best.is_none_or(|b| price < b.0) {
            best = Some((price, to));
        }
    }
    state.restore(undo.into_iter());
    best
}

/// Steps back wherever the budget is still met, the dearest first.
fn give_back(curves: &[Curve], state: &mut terms::State, at: &mut [usize], target: f64) {
    loop {
        let mut best: Option<(f64, usize)> = None;
        for (g, curve) in curves.iter().enumerate().filter(|(g, _)| at[*g] > 0) {
            let gained = curve.error[curve.allowed[at[g]]] - curve.error[curve.allowed[at[g] - 1]];
            state.restore(classes(curve, at[g] - 1, at[g]));
            let meets = state.total() <= target;
            state.remove(classes(curve, at[g] - 1, at[g]));
            if meets && best.is_none_or(|b| gained > b.0) {
                best = Some((gained, g));
            }
        }
        let Some((_, g)) = best else { return };
        state.restore(classes(&curves[g], at[g] - 1, at[g]));
        at[g] -= 1;
    }
}
