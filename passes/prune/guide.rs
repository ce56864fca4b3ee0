//! Orders of removal by what readers lose, and how far along each order a budget goes.

use super::choose::{self, Asked};
use super::trial::{self, Factors};
use super::{PruneOptions, communality, refuse};
use crate::analysis::{Atom, Cell, Coupling, Group, cost, infer};
use crate::budget::{Curve, Measure, Terms, allocate};
use crate::cut::Cut;
use crate::importance::reconstruction::{Path, Readout, along, path};
use crate::importance::{Criterion, Quotas, Ranking};
use crate::ir::Model;
use crate::passes::PassError;
use crate::repair::response::{RIDGE, Response};
use crate::run::Batches;
use rayon::prelude::*;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How much of a model is to be left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    pub measure: Measure,
    /// Of what there was, 0 to 1.
    pub share: f64,
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no budget: macs, params or bytes and how much less, such as macs=-50%");
        let (name, change) = text.split_once('=').ok_or_else(wrong)?;
        let measure = Measure::ALL.into_iter().find(|m| m.name() == name).ok_or_else(wrong)?;
        let percent: f64 = change.strip_suffix('%').and_then(|p| p.parse().ok()).ok_or_else(wrong)?;
        match -100.0 < percent && percent <= 0.0 {
            true => Ok(Self { measure, share: 1.0 + percent / 100.0 }),
            false => Err(format!("'{text}': a budget is less than there is, -100% < N <= 0%")),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Shares that were read as percent are written as they were read.
        let percent = ((self.share - 1.0) * 1e9).round() / 1e7;
        write!(f, "{}={percent}%", self.measure.name())
    }
}

/// What to remove of each group.
#[derive(Debug, Clone, Default)]
pub(super) struct Guide {
    pub groups: Vec<Guided>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Guided {
    pub path: Path,
    /// The first classes of the order that go; `None` where a ratio says how many.
    pub count: Option<Vec<u32>>,
}

impl Guided {
    /// As a ranking of all classes: what costs least has the highest score.
    pub fn ranking(&self, criterion: Criterion) -> Ranking {
        Ranking {
            scores: self.path.alone.iter().map(|c| 0.0 - c).collect(),
            order: self.path.order.clone(),
            representation: None,
            reason: format!("{criterion} goes by what the readers lose: no representation is needed"),
        }
    }
}

/// What the choice goes by.
pub(super) struct By<'a> {
    pub model: &'a Arc<Model>,
    pub coupling: &'a Arc<Coupling>,
    pub groups: &'a [Group],
    /// What layers compute on data, where there is some.
    pub response: Option<&'a Response>,
    /// That data, and what was found by trials on it, which are made once.
    pub data: Option<&'a Batches>,
    pub factors: &'a OnceCell<Factors>,
}

impl By<'_> {
    /// Guides the choice: by moments of data where there are some, else by the weights alone. `limit` corrects the
    /// budget by a factor.
    pub fn guide(&self, asked: &Asked, limit: Option<f64>) -> Result<Guide, PassError> {
        let Self { model, coupling, groups, .. } = *self;
        let paths = self.paths(asked);
        let Some(target) = asked.options.target else {
            return Ok(Guide { groups: paths.into_iter().map(|path| Guided { path, count: None }).collect() });
        };
        let mut curves: Vec<Curve> =
            groups.iter().zip(&paths).map(|(g, p)| curve(model, coupling, g, p, asked)).collect();
        let terms = Terms::of(model, coupling);
        let whole = terms.whole(target.measure).total();
        let most = whole * target.share * limit.unwrap_or(1.0);
        let divided = |curves: &[Curve]| {
            allocate(curves, &terms, target.measure, most).map_err(|e| unreachable(target, e.closest / whole.max(1.0)))
        };
        let mut counts = divided(&curves)?;
        if let Some(data) = self.data {
            let seed = asked.options.importance.seed;
            let factors = self.factors.get_or_init(|| trial::factors(self, &curves, &counts, data, asked.source, seed));
            curves.iter_mut().zip(groups).for_each(|(curve, group)| trial::scale(curve, group, factors));
            counts = divided(&curves)?;
        }
        let index: BTreeMap<Atom, u32> =
            groups.iter().flat_map(|g| g.classes.iter().enumerate().map(|(i, c)| (c.root, i as u32))).collect();
        let groups = paths.into_iter().zip(&curves).zip(counts).map(|((path, curve), steps)| {
            let gone = curve.steps[..steps].iter().flatten().map(|c| index[c]).collect();
            Guided { path, count: Some(gone) }
        });
        Ok(Guide { groups: groups.collect() })
    }

    /// The order of each group, and what its readers lose along it.
    fn paths(&self, asked: &Asked) -> Vec<Path> {
        let importance = &asked.options.importance;
        let of_response = |response: &Response, group: &Group| -> Vec<Readout> {
            let classes: BTreeMap<Atom, usize> = group.classes.iter().enumerate().map(|(i, c)| (c.root, i)).collect();
            let parts = response.readers.iter().flat_map(|r| r.parts.iter().map(|p| (p, r.worth)));
            parts.filter_map(|(p, worth)| p.readout(&classes, worth * p.optimism(), RIDGE)).collect()
        };
        let along_order = |group: &Group, mut readouts: Vec<Readout>| -> Path {
            let classes = group.classes.len();
            if importance.criterion.is_by_readers() {
                return path(&mut readouts, classes, asked.most(group), importance.keep_central);
            }
            let all = Quotas::of(&vec![true; classes], classes);
            match choose::rank(self.model, self.coupling, group, all, asked) {
                Some(ranking) => along(&mut readouts, &ranking.order, ranking.scores),
                None => Path::default(),
            }
        };
        match self.response {
            Some(response) => self.groups.par_iter().map(|g| along_order(g, of_response(response, g))).collect(),
            None => {
                let readouts = communality::readouts(self.model, self.coupling, self.groups);
                self.groups.par_iter().zip(readouts).map(|(g, r)| along_order(g, r.into_iter().collect())).collect()
            }
        }
    }
}

impl Asked<'_> {
    /// How many classes of a group go at most: an order needs not be longer.
    fn most(&self, group: &Group) -> usize {
        let classes = group.classes.len();
        // Cells give up equally many each, which may be any of the order.
        let whole = self.options.target.is_some() || group.classes.iter().any(|c| c.cell.is_some());
        let ratios = self.options.layers.iter().map(|l| l.1).chain([self.options.ratio]);
        let highest = if whole { 1.0 } else { ratios.fold(0.0, f64::max) };
        (classes as f64 * highest).ceil() as usize
    }
}

/// The factor by which a budget has to be tightened for a cut to meet it: where what is left is not the products of
/// widths that it was taken for. `None` where it is met.
pub(super) fn shortfall(target: Target, model: &Model, coupling: &Coupling, cut: &Cut) -> Option<f64> {
    let shapes = &coupling.worlds[0].shapes;
    let of = |c| target.measure.of(c);
    let (before, after) = (of(cost(model, shapes)), of(cost(&cut.model, &infer(&cut.model, shapes.sizes.clone()))));
    let wanted = before * target.share;
    // A hair of rounding is no miss.
    (after > wanted * (1.0 + 1e-12)).then(|| wanted / after * (1.0 - 1e-9))
}

/// What is told where a budget cannot be met.
pub(super) fn unreachable(target: Target, closest: f64) -> PassError {
    let percent = |share: f64| (share - 1.0) * 100.0;
    let mut error = refuse(format!(
        "{}={:.1}% cannot be reached: with all gone that may go it is {:.1}%",
        target.measure.name(),
        percent(target.share),
        percent(closest)
    ));
    error.closest = Some(closest);
    error
}

/// The steps of a group that the options allow.
fn curve(model: &Model, coupling: &Coupling, group: &Group, path: &Path, asked: &Asked) -> Curve {
    let none = Curve { steps: Vec::new(), error: vec![0.0], allowed: vec![0] };
    if group.classes.is_empty() || choose::spared(model, group, asked).is_some() {
        return none;
    }
    let cost: BTreeMap<u32, f64> = path.order.iter().copied().zip(path.costs.iter().copied()).collect();
    // Of the cells of a family one class each goes at a time.
    let mut by_family: BTreeMap<u32, BTreeMap<Cell, Vec<u32>>> = BTreeMap::new();
    let mut steps: Vec<Vec<u32>> = Vec::new();
    for &c in &path.order {
        match group.classes[c as usize].cell {
            None => steps.push(vec![c]),
            Some(cell) => by_family.entry(cell.family).or_default().entry(cell).or_default().push(c),
        }
    }
    let place: BTreeMap<u32, usize> = path.order.iter().enumerate().map(|(i, &c)| (c, i)).collect();
    for cells in by_family.values() {
        let least = cells.values().map(Vec::len).min().unwrap_or(0);
        steps.extend((0..least).map(|i| cells.values().map(|c| c[i]).collect::<Vec<_>>()));
    }
    steps.sort_by_key(|s| s.iter().map(|c| place[c]).max());
    let mut error = vec![0.0];
    for step in &steps {
        error.push(error.last().expect("begins with 0") + step.iter().map(|c| cost[c]).sum::<f64>());
    }
    let allowed = allowed(coupling, group, &steps, asked.options);
    let root = |c: &u32| group.classes[*c as usize].root;
    Curve { steps: steps.iter().map(|s| s.iter().map(root).collect()).collect(), error, allowed }
}

/// After how many steps every layer has a width that the options allow.
fn allowed(coupling: &Coupling, group: &Group, steps: &[Vec<u32>], options: &PruneOptions) -> Vec<usize> {
    let sources: Vec<(usize, usize)> =
        group.members.iter().enumerate().filter_map(|(m, member)| Some((m, member.source?))).collect();
    let whole: Vec<usize> = sources.iter().map(|&(_, s)| coupling.sources[s].atoms.len()).collect();
    let mut left = whole.clone();
    let mut classes = group.classes.len();
    let mut out = vec![0];
    for (i, step) in steps.iter().enumerate() {
        for &c in step {
            for (l, &(m, _)) in left.iter_mut().zip(&sources) {
                *l = l.saturating_sub(group.classes[c as usize].filters[m].len());
            }
        }
        classes -= step.len();
        let fits = left.iter().zip(&whole).all(|(&l, &w)| l > 0 && (l == w || l.is_multiple_of(options.multiple_of)));
        if classes >= options.min_channels.max(1) && fits {
            out.push(i + 1);
        }
    }
    out
}
