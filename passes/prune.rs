//! # What it does
//! Chooses filters by their importance and removes them, with everything downstream that belonged to them: biases,
//! normalisation parameters, the inputs of every layer that read them, and the attributes and shape constants that
//! state their number. Layers that are coupled (by an addition, a concatenation, a depthwise convolution ...) are
//! chosen and cut together. Nothing is repaired and nothing is folded: what is left of every weight is a slice of the
//! original.
//!
//! # When it refuses
//! A group of coupled layers is **pinned** where a removal has no equivalent in the original with zeroed weights: its
//! channels reach an output of the model, a softmax or a normalisation over channels, or a node that is not known. It
//! is **kept** where it could be cut but was excluded, or has too few channels. Every group has its verdict in the
//! plan, by node, rule and reason. A cut whose shapes do not come out as expected is undone and made without the
//! classes at fault. A budget that cannot be met ends the pipeline, with the closest that can. `by=reconstruction` and
//! `representation=response` run the model; where it cannot be run in this process that is an error, but where the
//! criterion was a default (the command `prune`) communality takes over, with a remark by the rule `cannot-run`.
//!
//! # Options
//! - `ratio=R` the share of the filters of each layer that goes, 0 <= R < 1; `ceil((1 - R) n)` of n are kept
//! - `target=WHAT=-N%` a budget for the whole model in place of ratios: WHAT is `macs`, `params` or `bytes`
//! - `layer=GLOB=R` another ratio for the layers whose name matches (repeatable, the last match counts)
//! - `exclude=GLOB` leaves matching layers as they are (repeatable)
//! - `by`, `representation`, `similarity`, `reading`, `one-at-a-time`, `keep`, `seed`: how filters are ranked
//! - `multiple-of=N` keeps widths at multiples of N, `min-channels=N` keeps at least N
//! - `dense=true` also cuts the hidden widths of dense layers (Gemm, MatMul) and of attention, not of convolutions only,
//!   `dense=false` leaves them; by default (`auto`) they are cut where they are a twentieth or more of
//!   the multiply-accumulates that could be cut: those of a transformer are, the classifier behind a convolutional
//!   network, which the published method leaves as it is, seldom
//! - `allow-inexact=norm` also removes channels that a norm or another mean over channels reads (LayerNormalization,
//!   RMSNormalization, GroupNormalization, response normalisation and the like, as operators or written out). Their
//!   statistics become those of the channels that stay: a mean of them stands for the mean of all, a sum or a length is
//!   multiplied by what its number of channels fell by. The result is then not the masked original but that with its
//!   statistics taken the same way; the plan lists each under `inexact`, and verification compares with it. Softmax,
//!   maxima, and statistics inside of bodies of control flow pin as ever
//!
//! # Example
//! `prune(ratio=0.5, layer="stem*=0.25", exclude=head, multiple-of=8)`

mod arguments;
mod choose;
mod communality;
mod guide;
mod record;
mod trial;

use super::{CANNOT_RUN, Context, Outcome, Pass, PassError, Remark};
use crate::analysis::{Atom, Coupling, Group, Inexact, Opened, Shapes, groups, infer_all, open};
use crate::cut::{Cut, cut};
use crate::importance;
use crate::importance::{Criterion, Representation};
use crate::ir::Model;
use crate::plan::{Plan, Reference, VerdictKind};
use crate::repair::Removal;
use crate::repair::response::Response;
use crate::run::{Batches, CannotRun};
pub use arguments::make;
use choose::Choice;
pub(super) use choose::ids;
use globset::{Glob, GlobMatcher};
pub use guide::Target;
pub(super) use record::members;
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How many times a cut is tried before all that is left of it is given up.
const ATTEMPTS: usize = 128;

/// Removes filters, and everything downstream that belonged to them.
#[derive(Debug, Clone, Default)]
pub struct Prune {
    pub options: PruneOptions,
}

/// What to remove, and by which criterion.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// The share of each layer's filters that goes, in `[0, 1)`.
    pub ratio: f64,
    /// A budget for the whole model, in place of the ratios.
    pub target: Option<Target>,
    /// Ratios of their own for layers whose name matches a glob; the last match counts.
    pub layers: Vec<(String, f64)>,
    /// Globs of layers that stay whole.
    pub exclude: Vec<String>,
    pub importance: importance::Options,
    /// The criterion that takes over where `importance` names one that goes by what layers compute and the model cannot be
    /// run in this process. `None` makes that an error.
    pub otherwise: Option<Criterion>,
    /// Widths stay at multiples of this.
    pub multiple_of: usize,
    /// No layer keeps fewer channels.
    pub min_channels: usize,
    /// Whether groups that consist of dense layers only are cut.
    pub dense: Dense,
    /// What may change beyond what is no longer read.
    pub allow_inexact: Inexact,
}

/// Which groups without a convolution are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dense {
    /// All of them, where together they have at least [`Dense::SHARE`] of the multiply-accumulates that could be cut;
    /// otherwise none.
    Auto,
    Always,
    Never,
}

impl Dense {
    pub const ALL: &'static [Self] = &[Self::Auto, Self::Always, Self::Never];

    /// Less than this is not worth a change to the layers that the published method leaves as they are.
    pub const SHARE: f64 = 0.05;

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "true",
            Self::Never => "false",
        }
    }
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self {
            ratio: 0.5,
            target: None,
            layers: Vec::new(),
            exclude: Vec::new(),
            importance: importance::Options::default(),
            otherwise: None,
            multiple_of: 1,
            min_channels: 1,
            dense: Dense::Auto,
            allow_inexact: Inexact::None,
        }
    }
}

impl Pass for Prune {
    fn name(&self) -> &'static str {
        "prune"
    }

    fn run(&self, model: &mut Model, context: &Context) -> Result<Outcome, PassError> {
        let Opened { model: opened, worlds } = open(model, infer_all(model, &context.sizes), &context.sizes);
        let opened = Arc::new(opened);
        let globs = Globs::new(&opened, &self.options)?;
        let response = match self.response(&opened, &worlds, context) {
            Ok(found) => found,
            Err(Unfit::Refused(error)) => return Err(error),
            Err(Unfit::CannotRun(cannot, instead)) => return self.instead(instead, &cannot, model, context),
        };
        // What the terms of the budget may come to; less where they turn out to count too little.
        let mut limit = None;
        let factors = OnceCell::new();
        let mut pins = Vec::new();
        for attempt in 0..=ATTEMPTS {
            let coupling = Arc::new(Coupling::allowing(self.options.allow_inexact, &opened, worlds.clone(), &pins));
            let groups = groups(&opened, &coupling);
            let dense = choose::cuts_dense(&coupling, &groups, self.options.dense);
            let asked = choose::Asked {
                options: &self.options,
                globs: &globs,
                source: &context.source,
                response: response.as_ref().map(|r| &r.0),
                dense,
            };
            let guided = self.options.target.is_some() || self.options.importance.criterion.is_by_readers();
            let by = guide::By {
                model: &opened,
                coupling: &coupling,
                groups: &groups,
                response: response.as_ref().map(|r| &r.0),
                data: response.as_ref().map(|r| &*r.1),
                factors: &factors,
            };
            let guide = guided.then(|| by.guide(&asked, limit)).transpose()?;
            let choices = choose::choose(&opened, &coupling, &groups, &asked, guide.as_ref(), attempt < ATTEMPTS);
            let removed: BTreeSet<Atom> = choices.iter().flat_map(Choice::removed).collect();
            match cut(&opened, &coupling, &removed, &context.source) {
                Ok(cut) => {
                    if let Some(short) = self.options.target.and_then(|t| guide::shortfall(t, &opened, &coupling, &cut))
                        && attempt + 1 < ATTEMPTS
                    {
                        limit = Some(limit.unwrap_or(1.0) * short);
                        continue;
                    }
                    let decided = Decided { groups: &groups, choices: &choices, removed: &removed };
                    let mut outcome = self.finish(model, &opened, &coupling, &decided, cut);
                    outcome.removal = removal(opened, coupling, removed);
                    return Ok(outcome);
                }
                Err(misfit) => {
                    // What the union-find calls these classes is stable: the next attempt numbers atoms alike.
                    let atoms = misfit.classes.iter().copied().collect();
                    pins.push((misfit.node, misfit.text, atoms));
                }
            }
        }
        Err(refuse("the model does not check even when nothing is removed".to_owned()))
    }
}

impl Prune {
    /// What the layers compute on data, where the choice goes by that, and the data.
    fn response(
        &self,
        model: &Model,
        worlds: &[Shapes],
        context: &Context,
    ) -> Result<Option<(Response, Arc<Batches>)>, Unfit> {
        let importance = &self.options.importance;
        let by = importance.criterion;
        let seen = by.is_centrality() && importance.representation == Representation::Response;
        let needed = by == Criterion::Reconstruction || seen;
        if !(needed || (self.options.target.is_some() && by != Criterion::Communality)) {
            return Ok(None);
        }
        let coupling = Coupling::allowing(self.options.allow_inexact, model, worlds.to_vec(), &Vec::new());
        let found = context
            .inputs(model)
            .and_then(|batches| Ok((Response::of(model, &coupling, &batches, self.options.importance.seed)?, batches)));
        match found {
            Ok(found) => Ok(Some(found)),
            Err(cannot) if needed => Err(match self.options.otherwise {
                Some(instead) => Unfit::CannotRun(cannot, instead),
                None => {
                    let what = if seen { "representation 'response'" } else { "'reconstruction'" };
                    let text = format!(
                        "{what} needs a model that can be run in this process: {cannot}; choose by communality, or go by \
                         weights"
                    );
                    Unfit::Refused(refuse(text))
                }
            }),
            Err(_) => Ok(None),
        }
    }

    /// Chooses by another criterion, for this one needs a model that can be run.
    fn instead(
        &self,
        criterion: Criterion,
        cannot: &CannotRun,
        model: &mut Model,
        context: &Context,
    ) -> Result<Outcome, PassError> {
        let importance = importance::Options { criterion, ..self.options.importance };
        let other = Self { options: PruneOptions { importance, otherwise: None, ..self.options.clone() } };
        let mut outcome = other.run(model, context)?;
        let text = format!(
            "'{}' needs a model that can be run in this process, and it cannot: {}; channels were chosen by {criterion}",
            self.options.importance.criterion, cannot.reason
        );
        outcome.remarks.insert(0, Remark { node: cannot.node.clone(), rule: CANNOT_RUN.into(), text });
        Ok(outcome)
    }
}

/// Why the criterion has nothing to go by.
enum Unfit {
    Refused(PassError),
    /// The model cannot be run, and this criterion takes over.
    CannotRun(CannotRun, Criterion),
}

/// What goes of which group.
struct Decided<'a> {
    groups: &'a [Group],
    choices: &'a [Choice],
    removed: &'a BTreeSet<Atom>,
}

impl Prune {
    /// `opened` is what was cut, and `model` what it was opened from: it stays as it is where nothing is removed.
    fn finish(&self, model: &mut Model, opened: &Model, coupling: &Coupling, decided: &Decided, cut: Cut) -> Outcome {
        let Decided { groups, choices, removed } = *decided;
        let plan = record::plan(opened, coupling, groups, choices, removed, &cut, &self.options);
        let count = |kind| plan.groups.iter().filter(|g| g.verdict == kind).count();
        let summary = format!(
            "{} groups pruned, {} kept, {} pinned; {} classes of channels removed",
            count(VerdictKind::Pruned),
            count(VerdictKind::Kept),
            count(VerdictKind::Pinned),
            removed.len()
        );
        let summary = match plan.inexact.len() {
            0 => summary,
            1 => format!("{summary}, through 1 statistic over channels"),
            n => format!("{summary}, through {n} statistics over channels"),
        };
        if !removed.is_empty() {
            *model = cut.model;
            model.rejoin_copies();
        }
        Outcome { changes: removed.len(), summary, remarks: remarks(&plan), plan: Some(plan), ..Outcome::default() }
    }
}

/// Replays a plan: removes from `model` what the plan removed from its model. Groups are found by their members'
/// names; a plan that names a layer, a tensor or a channel that is not there, or whose channels are coupled
/// differently, does not fit and is refused.
pub fn apply(plan: &Plan, model: &mut Model, context: &Context) -> Result<Outcome, PassError> {
    if plan.reference == Reference::Original {
        let text =
            "the plan is that of a lossless removal, which depends on the weights: run `prune --lossless` instead";
        return Err(refuse(text.to_owned()));
    }
    let Opened { model: opened, worlds } = open(model, infer_all(model, &context.sizes), &context.sizes);
    let coupling = Coupling::allowing(record::allowed(plan), &opened, worlds, &Vec::new());
    let groups = groups(&opened, &coupling);
    let choices = choose::replay(&opened, &coupling, &groups, plan).map_err(refuse)?;
    let removed: BTreeSet<Atom> = choices.iter().flat_map(Choice::removed).collect();
    let cut = cut(&opened, &coupling, &removed, &context.source)
        .map_err(|m| refuse(format!("the plan does not fit: {}", m.text)))?;
    record::same_tensors(plan, &cut).map_err(refuse)?;
    let decided = Decided { groups: &groups, choices: &choices, removed: &removed };
    let mut outcome = Prune::default().finish(model, &opened, &coupling, &decided, cut);
    if let Some(new) = &mut outcome.plan {
        new.options = plan.options.clone();
    }
    outcome.removal = removal(Arc::new(opened), Arc::new(coupling), removed);
    Ok(outcome)
}

/// What later passes are told of the cut.
fn removal(original: Arc<Model>, coupling: Arc<Coupling>, removed: BTreeSet<Atom>) -> Option<Arc<Removal>> {
    (!removed.is_empty()).then(|| Arc::new(Removal { original, coupling, removed }))
}

fn remarks(plan: &Plan) -> Vec<Remark> {
    let left = plan.groups.iter().filter(|g| g.verdict != VerdictKind::Pruned);
    left.filter_map(|g| {
        let reason = g.reason.as_ref()?;
        let text = format!("{}: {}", g.id, reason.text);
        Some(Remark { node: reason.node.clone(), rule: reason.rule.clone().into(), text })
    })
    .collect()
}

fn refuse(text: String) -> PassError {
    PassError::new("prune", text)
}

/// The compiled globs of the options, each known to match some layer.
struct Globs {
    layers: Vec<(GlobMatcher, f64)>,
    exclude: Vec<GlobMatcher>,
}

impl Globs {
    fn new(model: &Model, options: &PruneOptions) -> Result<Self, PassError> {
        let ratio_fits = |r: f64| (0.0..1.0).contains(&r);
        if let Some(bad) = options.layers.iter().map(|l| l.1).chain([options.ratio]).find(|&r| !ratio_fits(r)) {
            return Err(refuse(format!("ratio {bad} is outside of 0 <= ratio < 1")));
        }
        let labels: Vec<String> = model.walk().into_iter().map(|n| model.label(n)).collect();
        let compile = |text: &str| -> Result<GlobMatcher, PassError> {
            let glob = Glob::new(text).map_err(|e| refuse(format!("'{text}' is not a glob: {e}")))?.compile_matcher();
            match labels.iter().any(|l| glob.is_match(l)) {
                true => Ok(glob),
                false => Err(refuse(format!("'{text}' matches no node; `secateur inspect` lists their names"))),
            }
        };
        Ok(Self {
            layers: options.layers.iter().map(|(g, r)| Ok((compile(g)?, *r))).collect::<Result<_, PassError>>()?,
            exclude: options.exclude.iter().map(|g| compile(g)).collect::<Result<_, PassError>>()?,
        })
    }

    fn excluded(&self, label: &str) -> bool {
        self.exclude.iter().any(|g| g.is_match(label))
    }

    fn ratio(&self, label: &str) -> Option<f64> {
        self.layers.iter().rev().find(|(g, _)| g.is_match(label)).map(|l| l.1)
    }
}
