//! What cuts cost once they are repaired.
//!
//! What readers lose says in which order the channels of a group go. What that costs in the end is less, for later layers
//! make good a part of it: more where many follow than where few do (docs/accuracy.md). So before a budget is divided,
//! each group is cut and repaired on a few rows, as far as a first division would go, and its curve is scaled to the squared difference that is left in the
//! outputs.

use super::guide::By;
use crate::analysis::{Atom, Group, infer};
use crate::budget::Curve;
use crate::cut::cut;
use crate::onnx::SourceMap;
use crate::repair::Removal;
use crate::repair::trial::{Trial, drifts};
use crate::run::{Batches, Limits};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The least share of a group's channels that goes in its trial.
const LEAST_SHARE: f64 = 0.125;
/// Multiply-accumulates that all trials may take.
const MACS: f64 = 4e10;
/// Bytes that may be alive in all of them at once.
const BYTES: f64 = (1u64 << 30) as f64;
/// Rows of data: with fewer, layers with one observation a row are fitted to anything.
const ROWS: [usize; 2] = [128, 192];
/// Trials of a model at most, each of one group or of neighbours.
const MOST_TRIALS: usize = 6;

/// By what the error of each class is to be multiplied, by its group's trial; empty where there were none.
pub(super) type Factors = BTreeMap<Atom, f64>;

/// Tries out a part of each curve. Where there are more groups than there is time for, neighbours share a trial.
pub(super) fn factors(
    by: &By,
    curves: &[Curve],
    counts: &[usize],
    batches: &Batches,
    source: &SourceMap,
    seed: u64,
) -> Factors {
    let last = last_readers(by);
    let mut groups: Vec<usize> = (0..curves.len()).filter(|&g| curves[g].allowed.len() > 1).collect();
    // How much is made good hangs on how much of the model is left behind the last reader.
    groups.sort_by_key(|&g| (last.get(&g), g));
    let Some((count, rows)) = affordable(by, batches, groups.len()) else { return Factors::new() };
    let few = batches.first(rows);
    let taken: Vec<Taken> = groups.iter().map(|&g| Taken::of(&curves[g], g, counts[g])).collect();
    let mut tried: Vec<(Vec<usize>, f64)> = Vec::new();
    let mut trials = Vec::new();
    for together in shared(&taken, count) {
        let removed: BTreeSet<Atom> =
            together.iter().flat_map(|t| curves[t.group].steps[..t.steps].iter().flatten().copied()).collect();
        let expected: f64 = together.iter().map(|t| t.error).sum();
        let Ok(cut) = cut(by.model, by.coupling, &removed, source) else { continue };
        if expected > 0.0 {
            let removal = Removal { original: Arc::clone(by.model), coupling: Arc::clone(by.coupling), removed };
            trials.push(Trial { removal, cut: cut.model });
            tried.push((together.iter().map(|t| t.group).collect(), expected));
        }
    }
    // What cannot be run cannot be tried; the readers' losses have to do.
    let Ok(drifts) = drifts(by.model, trials, &few, seed) else { return Factors::new() };
    let found: Vec<(Vec<usize>, f64)> =
        tried.into_iter().zip(drifts).map(|((groups, expected), drift)| (groups, drift * drift / expected)).collect();
    let mut sorted: Vec<f64> = found.iter().map(|f| f.1).filter(|f| f.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let Some(&usual) = sorted.get(sorted.len() / 2).filter(|&&usual| usual > 0.0) else { return Factors::new() };
    let of = |g: usize| found.iter().find(|f| f.0.contains(&g) && f.1.is_finite()).map_or(1.0, |f| f.1 / usual);
    groups.iter().flat_map(|&g| by.groups[g].classes.iter().map(move |c| (c.root, of(g)))).collect()
}

/// What goes of a group in a trial.
struct Taken {
    group: usize,
    steps: usize,
    /// What its readers lose.
    error: f64,
}

impl Taken {
    fn of(curve: &Curve, group: usize, count: usize) -> Self {
        let wanted = count.max((curve.steps.len() as f64 * LEAST_SHARE).ceil() as usize);
        let fits = curve.allowed.iter().rev().find(|&&a| 0 < a && a <= wanted);
        let steps = fits.copied().unwrap_or(curve.allowed[1]);
        Self { group, steps, error: curve.error[steps] }
    }
}

/// At most `count` lists of neighbours. Where there are more, those of large errors share with few: the root is a
/// compromise between equally many and equal errors.
fn shared(taken: &[Taken], count: usize) -> Vec<&[Taken]> {
    if taken.len() <= count {
        return taken.chunks(1).collect();
    }
    let whole: f64 = taken.iter().map(|t| t.error.sqrt()).sum();
    let mut before = 0.0;
    let place: Vec<usize> = taken
        .iter()
        .map(|t| {
            let middle = before + t.error.sqrt() / 2.0;
            before += t.error.sqrt();
            ((middle / whole * count as f64) as usize).min(count - 1)
        })
        .collect();
    (0..count)
        .map(|c| &taken[place.partition_point(|&p| p < c)..place.partition_point(|&p| p <= c)])
        .filter(|list| !list.is_empty())
        .collect()
}

/// Scales a group's curve.
pub(super) fn scale(curve: &mut Curve, group: &Group, factors: &Factors) {
    let factor = group.classes.iter().find_map(|c| factors.get(&c.root)).copied().unwrap_or(1.0);
    curve.error.iter_mut().for_each(|e| *e *= factor);
}

/// How many trials are made, and on how many rows; `None` where there is no time for them. Fewer for as many groups would
/// say too little of each (docs/accuracy.md).
fn affordable(by: &By, batches: &Batches, groups: usize) -> Option<(usize, usize)> {
    let trials = groups.min(MOST_TRIALS);
    let shapes = infer(by.model, batches.sizes(by.model));
    // The original runs once, and what is cut on average half.
    let limits = Limits { macs: MACS / (1.0 + trials as f64 / 2.0), bytes: BYTES / (1 + trials) as f64 };
    let rows = limits.rows(by.model, &shapes, ROWS[1].min(batches.samples));
    // One trial would compare nothing.
    (trials > 1 && rows >= ROWS[0]).then_some((trials, rows))
}

/// For each group the place of the last layer that reads one of its channels.
fn last_readers(by: &By) -> BTreeMap<usize, usize> {
    let group: BTreeMap<Atom, usize> =
        by.groups.iter().enumerate().flat_map(|(g, group)| group.classes.iter().map(move |c| (c.root, g))).collect();
    let readers = by.response.map_or(&[][..], |r| &r.readers);
    let read = readers
        .iter()
        .enumerate()
        .flat_map(|(i, r)| r.parts.iter().flat_map(move |p| p.classes.iter().map(move |c| (i, c))));
    // Later ones replace earlier ones.
    read.filter_map(|(i, class)| Some((*group.get(class)?, i))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(errors: &[f64]) -> Vec<Taken> {
        errors.iter().enumerate().map(|(group, &error)| Taken { group, steps: 1, error }).collect()
    }

    fn groups(lists: &[&[Taken]]) -> Vec<Vec<usize>> {
        lists.iter().map(|l| l.iter().map(|t| t.group).collect()).collect()
    }

    #[test]
    fn every_group_is_in_one_trial_and_neighbours_share() {
        assert_eq!(groups(&shared(&taken(&[1.0, 100.0, 0.0]), 3)), [[0], [1], [2]]);
        let many = taken(&[1.0, 1.0, 1.0, 1.0, 16.0, 1.0, 1.0]);
        assert_eq!(groups(&shared(&many, 4)), [vec![0, 1], vec![2, 3], vec![4], vec![5, 6]]);
        // Even where nothing is lost.
        assert_eq!(groups(&shared(&taken(&[0.0; 4]), 2)).concat(), [0, 1, 2, 3]);
    }

    #[test]
    fn a_trial_goes_as_far_as_the_budget_or_an_eighth_in_steps_that_limits_allow() {
        let curve = |allowed: &[usize]| Curve {
            steps: vec![Vec::new(); 16],
            error: (0..17).map(f64::from).collect(),
            allowed: allowed.to_vec(),
        };
        let steps = |allowed: &[usize], count| Taken::of(&curve(allowed), 0, count).steps;
        assert_eq!(steps(&[0, 1, 2, 3, 4, 5, 6, 7, 8], 5), 5);
        assert_eq!(steps(&[0, 1, 2, 3, 4], 0), 2);
        assert_eq!(steps(&[0, 4, 8], 0), 4);
        assert_eq!(steps(&[0, 4, 8], 8), 8);
    }
}
