//! A budget reached in several rounds: what is left after each is repaired and looked at anew.
//!
//! What a channel is worth depends on which others are left, and the more of them go at once the less is a forecast
//! from the whole model worth. So a part of the budget is spent, the rest of the model fitted, and the next part chosen
//! on that. Only the choice comes out of here: the cut itself is made of the original in one go, as any other.

use super::choose::{self, Asked, Choice};
use super::guide::{By, Guide, Guided, Target, unreachable};
use super::{Globs, PruneOptions};
use crate::analysis::{Atom, Coupling, Group, Origin, Shapes, cost, groups, infer_all};
use crate::cut::cut;
use crate::ir::Model;
use crate::passes::{Context, PassError};
use crate::repair::response::Response;
use crate::repair::{self, Removal};
use crate::run::Batches;
use std::collections::{BTreeMap, BTreeSet};

/// Multiply-accumulates that may be spent on all rounds.
const MOST_MACS: f64 = 5e10;
const MOST_ROUNDS: usize = 4;
/// Rows of data that the models between rounds are fitted on.
const ROWS: usize = 256;

/// The classes of the original that go, and the orders of the first round.
pub(super) struct Selection {
    removed: BTreeSet<Atom>,
    first: Vec<Guided>,
}

impl Selection {
    /// As a guide for the original's groups.
    pub fn guide(&self, groups: &[Group]) -> Guide {
        let one = |(i, group): (usize, &Group)| {
            let gone = group.classes.iter().enumerate().filter(|(_, c)| self.removed.contains(&c.root));
            let path = self.first.get(i).map(|g| g.path.clone()).unwrap_or_default();
            Guided { path, count: Some(gone.map(|(i, _)| i as u32).collect()) }
        };
        Guide { groups: groups.iter().enumerate().map(one).collect() }
    }
}

/// What rounds need to know.
pub(super) struct Rounds<'a> {
    pub options: &'a PruneOptions,
    pub context: &'a Context,
    pub globs: &'a Globs,
    pub original: &'a Model,
    pub worlds: &'a [Shapes],
    pub batches: &'a Batches,
}

impl Rounds<'_> {
    /// How many rounds there is time for.
    fn count(&self, whole: f64) -> usize {
        let contractions = self.worlds[0].effects.iter().flatten().flatten();
        let layers = contractions.filter(|e| crate::analysis::contraction(e).is_some()).count() as f64;
        let rows = (self.batches.samples.min(ROWS) * 4) as f64 + layers * 16.0;
        ((MOST_MACS / (whole * rows).max(1.0)) as usize).clamp(1, MOST_ROUNDS)
    }

    /// Chooses in rounds. `response` is the original's; `limit` corrects the budget by a factor. `None` where a cut on
    /// the way does not come out, or a model on the way cannot be run.
    pub fn select(
        &self,
        target: Target,
        response: &Response,
        limit: Option<f64>,
    ) -> Result<Option<Selection>, PassError> {
        let allowed = self.options.allow_inexact;
        let coupling = Coupling::allowing(allowed, self.original, self.worlds.to_vec(), &Vec::new());
        let measured = |c: crate::analysis::Cost| target.measure.of(c);
        let macs = cost(self.original, &self.worlds[0]).macs as f64;
        let rounds = self.count(macs);
        let whole = measured(cost(self.original, &self.worlds[0]));
        let mut selection = Selection { removed: BTreeSet::new(), first: Vec::new() };
        let mut now = self.original.clone();
        let few = self.batches.first(ROWS);
        for round in 1..=rounds {
            let worlds = if round == 1 { self.worlds.to_vec() } else { infer_all(&now, &self.context.sizes) };
            let Some(left) = worlds.first().map(|w| measured(cost(&now, w))) else { return Ok(None) };
            let coupling_now = Coupling::allowing(allowed, &now, worlds, &Vec::new());
            let groups_now = groups(&now, &coupling_now);
            let own;
            let seen = match round {
                1 => response,
                _ => match Response::of(&now, &coupling_now, self.batches, self.options.importance.seed) {
                    Ok(found) => {
                        own = found;
                        &own
                    }
                    Err(_) => return Ok(None),
                },
            };
            let share = 1.0 - (1.0 - target.share) * round as f64 / rounds as f64;
            let options = PruneOptions {
                target: Some(Target { share: (share * whole / left.max(1.0)).min(1.0), ..target }),
                ..self.options.clone()
            };
            let dense = choose::cuts_dense(&coupling_now, &groups_now, self.options.dense);
            let asked = Asked {
                options: &options,
                globs: self.globs,
                source: &self.context.source,
                response: Some(seen),
                dense,
            };
            let by = By { model: &now, coupling: &coupling_now, groups: &groups_now, response: Some(seen) };
            // What a round cannot reach is told in terms of the original.
            let guide = by.guide(&asked, limit).map_err(|e| match e.closest {
                Some(closest) => unreachable(target, closest * left / whole.max(1.0)),
                None => e,
            })?;
            let choices = choose::choose(&now, &coupling_now, &groups_now, &asked, Some(&guide), true);
            if round == 1 {
                selection.first = guide.groups.clone();
            }
            let gone: BTreeSet<Atom> = choices.iter().flat_map(Choice::removed).collect();
            let add = in_original(&coupling, &selection.removed, &coupling_now, &gone);
            selection.removed.extend(add);
            if round == rounds {
                break;
            }
            let Ok(cut) = cut(&now, &coupling_now, &gone, &self.context.source) else { return Ok(None) };
            now = cut.model;
            let removal = Removal {
                original: self.original.clone(),
                coupling: coupling.clone(),
                removed: selection.removed.clone(),
            };
            if repair::repair(&removal, &mut now, &few, &repair::Options::default()).is_err() {
                return Ok(None);
            }
        }
        Ok(Some(selection))
    }
}

/// The original's classes for those of a model that lacks some already: by the positions of constants.
fn in_original(was: &Coupling, removed: &BTreeSet<Atom>, now: &Coupling, gone: &BTreeSet<Atom>) -> BTreeSet<Atom> {
    let mut out = BTreeSet::new();
    let mut left: BTreeMap<Origin, Vec<Atom>> = BTreeMap::new();
    for (origin, range) in now.atoms.origins() {
        for (i, atom) in range.enumerate() {
            if !gone.contains(&now.atoms.find(atom)) {
                continue;
            }
            let stays = left.entry(origin).or_insert_with(|| {
                let all = was.atoms.get(origin).into_iter().flatten().map(|a| was.atoms.find(a));
                all.filter(|class| !removed.contains(class)).collect()
            });
            out.extend(stays.get(i));
        }
    }
    out.remove(&crate::analysis::PINNED);
    out
}
