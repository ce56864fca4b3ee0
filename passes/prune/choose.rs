//! Which classes of each group go.

use super::guide::{Guide, Guided};
use super::{Dense, Globs, PruneOptions};
use crate::analysis::{Atom, Cell, Coupling, Group, contraction, filters};
use crate::importance::{self, Filters, Quotas, Ranking, Representation};
use crate::ir::Model;
use crate::onnx::SourceMap;
use crate::onnx::tensor::Tensor;
use crate::plan::{Plan, VerdictKind};
use crate::repair::response::Response;
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// What becomes of a group.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    /// Names the group: its first member.
    pub id: String,
    pub kind: VerdictKind,
    /// Why it was kept or pinned: node, rule, reason.
    pub reason: Option<(Option<String>, String, String)>,
    /// Indices of the classes that go, ascending, and their representatives.
    pub classes: Vec<(usize, Atom)>,
    pub ranking: Option<Ranking>,
}

/// Rules by which the options spare a group.
const EXCLUDED: &str = "excluded";
const DENSE_LAYER: &str = "dense-layer";

impl Choice {
    pub fn removed(&self) -> impl Iterator<Item = Atom> + '_ {
        self.classes.iter().map(|c| c.1)
    }

    /// Whether the options leave the group alone, whatever could be removed from it.
    pub fn is_spared(&self) -> bool {
        self.reason.as_ref().is_some_and(|(_, rule, _)| matches!(&rule[..], EXCLUDED | DENSE_LAYER))
    }

    fn left(id: String, kind: VerdictKind, node: Option<String>, rule: &str, text: String) -> Self {
        Self { id, kind, reason: Some((node, rule.to_owned(), text)), classes: Vec::new(), ranking: None }
    }
}

/// What does not change from group to group.
pub(super) struct Asked<'a> {
    pub options: &'a PruneOptions,
    pub globs: &'a Globs,
    pub source: &'a SourceMap,
    /// What layers compute on data, where the choice goes by that.
    pub response: Option<&'a Response>,
    /// Whether groups without a convolution are cut.
    pub dense: bool,
}

/// Whether groups without a convolution are cut, as the options say of these groups.
pub(super) fn cuts_dense(coupling: &Coupling, groups: &[Group], dense: Dense) -> bool {
    let macs = |group: &Group| -> u64 {
        let of = |n| coupling.worlds[0].shapes.effect(n)?.as_ref().ok().and_then(contraction).map(|c| c.macs);
        group.members.iter().filter_map(|m| of(m.node)).fold(0, u64::saturating_add)
    };
    match dense {
        Dense::Always => true,
        Dense::Never => false,
        Dense::Auto => {
            let free = || groups.iter().filter(|g| !g.classes.is_empty());
            let all: u64 = free().map(macs).fold(0, u64::saturating_add);
            let dense: u64 = free().filter(|g| !g.has_convolution()).map(macs).fold(0, u64::saturating_add);
            dense as f64 >= Dense::SHARE * all as f64
        }
    }
}

/// Groups of more weights than this are ranked one group after the other, each by all threads.
const LARGE: usize = 1 << 20;

/// One choice for each group. With `cutting` off nothing is removed at all.
pub(super) fn choose(
    model: &Model,
    coupling: &Coupling,
    groups: &[Group],
    asked: &Asked,
    guide: Option<&Guide>,
    cutting: bool,
) -> Vec<Choice> {
    let ids = ids(model, groups);
    let one = |i: usize, scratch: &mut Vec<Vec<f32>>| {
        let guided = guide.and_then(|g| g.groups.get(i));
        (i, choose_one(model, coupling, &groups[i], ids[i].clone(), asked, (guided, cutting), scratch))
    };
    // Side by side, large weights would all lie in memory at once. The largest first, so that the others reuse its.
    let weights: Vec<usize> = groups.iter().map(|g| weights_of(model, coupling, g)).collect();
    let (mut large, small): (Vec<usize>, Vec<usize>) = (0..groups.len()).partition(|&i| weights[i] > LARGE);
    large.sort_by_key(|&i| std::cmp::Reverse(weights[i]));
    let mut out: Vec<(usize, Choice)> = small.into_par_iter().map(|i| one(i, &mut Vec::new())).collect();
    let mut scratch = Vec::new();
    out.extend(large.into_iter().map(|i| one(i, &mut scratch)));
    drop(scratch);
    out.sort_by_key(|(i, _)| *i);
    out.into_iter().map(|(_, choice)| choice).collect()
}

/// How many numbers the filters of a group are.
fn weights_of(model: &Model, coupling: &Coupling, group: &Group) -> usize {
    let sources = group.members.iter().filter_map(|m| m.source);
    let elements = sources.filter_map(|s| {
        let dims = &model.constant(coupling.sources[s].value)?.dims;
        Some(dims.iter().fold(1usize, |n, &d| n.saturating_mul(usize::try_from(d).unwrap_or(0))))
    });
    elements.fold(0, usize::saturating_add)
}

/// The name of each group: its first member's, made unique by a number where nodes share a name.
pub(in crate::passes) fn ids(model: &Model, groups: &[Group]) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let name = |g: &Group| g.members.first().map_or_else(String::new, |m| model.label(m.node));
    groups
        .iter()
        .map(|g| {
            let name = name(g);
            let count = seen.entry(name.clone()).or_default();
            *count += 1;
            if *count == 1 { name } else { format!("{name}#{count}") }
        })
        .collect()
}

fn choose_one(
    model: &Model,
    coupling: &Coupling,
    group: &Group,
    id: String,
    asked: &Asked,
    (guided, cutting): (Option<&Guided>, bool),
    scratch: &mut Vec<Vec<f32>>,
) -> Choice {
    let Asked { options, globs, .. } = *asked;
    let labels: Vec<String> = group.members.iter().map(|m| model.label(m.node)).collect();
    let kept = |id, node: Option<&String>, rule, text| Choice::left(id, VerdictKind::Kept, node.cloned(), rule, text);
    if group.classes.is_empty() {
        let Some(pin) = &group.pin else {
            return kept(id, None, "no-channels", "the group has no channels".to_owned());
        };
        let node = pin.node.map(|n| model.label(n));
        return Choice::left(id, VerdictKind::Pinned, node, pin.rule, pin.text.clone());
    }
    if let Some((label, rule, text)) = spared(model, group, asked) {
        return kept(id, label.as_ref(), rule, text);
    }
    let own = labels.iter().find_map(|l| globs.ratio(l));
    let ratio = own.unwrap_or(options.ratio);
    let n = group.classes.len();
    let quotas = if cutting { quotas(group, coupling, ratio, options) } else { Quotas::of(&vec![true; n], 0) };
    if let Some((guided, gone)) = guided.and_then(|g| Some((g, g.count.as_ref()?))) {
        if gone.is_empty() || !cutting {
            return kept(id, labels.first(), "budget", "the budget is met without it".to_owned());
        }
        return chosen(id, group, gone, guided.ranking(options.importance.criterion));
    }
    if quotas.total() == 0 {
        // Where most of a group is pinned, that is the reason, not the ratio.
        if let Some(pin) = group.pin.as_ref().filter(|_| group.pinned > n) {
            let text = format!("{} of its filters are pinned, {n} are left: {}", group.pinned, pin.text);
            return Choice::left(id, VerdictKind::Pinned, pin.node.map(|n| model.label(n)), pin.rule, text);
        }
        let text = format!("ratio {ratio} of {n} channels, with the limits asked for, leaves them all");
        return kept(id, labels.first(), "ratio", text);
    }
    if let Some(guided) = guided {
        let quotas = keeping_last(coupling, group, quotas, &guided.path.order);
        let gone = quotas.first_of(&guided.path.order);
        return match gone.is_empty() {
            true => kept(id, labels.first(), "last-channel", "every layer keeps at least one channel".to_owned()),
            false => chosen(id, group, &gone, guided.ranking(options.importance.criterion)),
        };
    }
    match ranked(model, coupling, group, quotas, asked, scratch) {
        Some((ranking, order)) => {
            if order.is_empty() {
                return kept(id, labels.first(), "last-channel", "every layer keeps at least one channel".to_owned());
            }
            chosen(id, group, &order, ranking)
        }
        None => {
            let text = "the filters cannot be read as numbers: a weight is computed by a node that is not evaluated";
            kept(id, labels.first(), "unreadable-weight", text.to_owned())
        }
    }
}

fn chosen(id: String, group: &Group, gone: &[u32], ranking: Ranking) -> Choice {
    let mut classes: Vec<(usize, Atom)> = gone.iter().map(|&c| (c as usize, group.classes[c as usize].root)).collect();
    classes.sort_unstable();
    Choice { id, kind: VerdictKind::Pruned, reason: None, classes, ranking: Some(ranking) }
}

/// Quotas under which no layer loses its last channel when classes go in this order.
fn keeping_last(coupling: &Coupling, group: &Group, mut quotas: Quotas, order: &[u32]) -> Quotas {
    loop {
        let mut left: Vec<usize> =
            group.members.iter().map(|m| m.source.map_or(0, |s| coupling.sources[s].atoms.len())).collect();
        let bad = quotas.clone().first_of(order).into_iter().find(|&c| {
            let filters = &group.classes[c as usize].filters;
            let empties = (0..left.len()).any(|m| !filters[m].is_empty() && left[m] <= filters[m].len());
            left.iter_mut().zip(filters).for_each(|(l, f)| *l = l.saturating_sub(f.len()));
            empties
        });
        match bad {
            Some(c) => quotas.withhold(c as usize),
            None => return quotas,
        }
    }
}

/// Why the options leave a group alone: the layer, the rule and the reason.
pub(super) fn spared(model: &Model, group: &Group, asked: &Asked) -> Option<(Option<String>, &'static str, String)> {
    let labels: Vec<String> = group.members.iter().map(|m| model.label(m.node)).collect();
    if let Some(label) = labels.iter().find(|l| asked.globs.excluded(l)) {
        return Some((Some(label.clone()), EXCLUDED, format!("'{label}' is excluded, and the group with it")));
    }
    let named = labels.iter().any(|l| asked.globs.ratio(l).is_some());
    if !named && !asked.dense && !group.has_convolution() {
        let text = "a dense layer; ask for it with --dense, or by name with --layer".to_owned();
        return Some((labels.first().cloned(), DENSE_LAYER, text));
    }
    None
}

/// How many classes go, of each cell and of those that are in none: of `n` all but `ceil((1 - ratio) n)`, less where a
/// minimum or widths that are multiples need more. As many go from every cell of a family.
fn quotas(group: &Group, coupling: &Coupling, ratio: f64, options: &PruneOptions) -> Quotas {
    let mut numbers: BTreeMap<Option<Cell>, u32> = BTreeMap::new();
    for class in &group.classes {
        let next = numbers.len() as u32;
        numbers.entry(class.cell).or_insert(next);
    }
    let bucket: Vec<u32> = group.classes.iter().map(|c| numbers[&c.cell]).collect();
    let mut size = vec![0usize; numbers.len()];
    bucket.iter().for_each(|&b| size[b as usize] += 1);
    // The smallest cell of each family, whose share all others take; pinned channels make cells differ.
    let mut smallest: BTreeMap<u32, usize> = BTreeMap::new();
    for (cell, &b) in numbers.iter().filter_map(|(cell, b)| Some(((*cell)?, b))) {
        let least = smallest.entry(cell.family).or_insert(usize::MAX);
        *least = (*least).min(size[b as usize]);
    }
    // Of how many classes each bucket gives its share.
    let mut base = vec![0usize; numbers.len()];
    for (cell, &b) in &numbers {
        base[b as usize] = cell.map_or(size[b as usize], |c| smallest[&c.family]);
    }
    let n = group.classes.len();
    // (1 - 0.9) * 10 is a hair above 1 in binary.
    let kept = |n: usize| (((1.0 - ratio) * n as f64 - 1e-9).ceil() as usize).clamp(1, n);
    let mut most: Vec<usize> = base.iter().map(|&n| n - kept(n)).collect();
    let total = |most: &[usize]| most.iter().sum::<usize>();
    let least = options.min_channels.clamp(1, n);
    while total(&most) > 0 && (n - total(&most) < least || !fits_multiples(group, coupling, &bucket, &most, options)) {
        // One less of the largest share, and of all that have to lose as many.
        let largest = *most.iter().max().expect("a group that loses something has a bucket");
        most.iter_mut().filter(|m| **m == largest).for_each(|m| *m -= 1);
    }
    Quotas::new(bucket, most)
}

/// Whether every layer's width is a multiple after so many classes of each bucket have gone. Of the classes of a bucket
/// all have equally many filters of a layer, in all but odd graphs; the average is exact then.
fn fits_multiples(group: &Group, coupling: &Coupling, bucket: &[u32], most: &[usize], options: &PruneOptions) -> bool {
    let width = |m: usize, source: usize| {
        let mut filters = vec![(0usize, 0usize); most.len()];
        for (class, &b) in group.classes.iter().zip(bucket) {
            filters[b as usize].0 += class.filters[m].len();
            filters[b as usize].1 += 1;
        }
        let gone: usize = filters.iter().zip(most).map(|(&(f, classes), &most)| f * most / classes.max(1)).sum();
        coupling.sources[source].atoms.len() - gone
    };
    let sources = group.members.iter().enumerate().filter_map(|(m, member)| Some((m, member.source?)));
    options.multiple_of == 1 || sources.map(|(m, s)| width(m, s)).all(|w| w % options.multiple_of == 0)
}

/// All that may go of a group, in order.
pub(super) fn rank(
    model: &Model,
    coupling: &Coupling,
    group: &Group,
    quotas: Quotas,
    asked: &Asked,
) -> Option<Ranking> {
    ranked(model, coupling, group, quotas, asked, &mut Vec::new()).map(|r| r.0)
}

/// Ranks a group's classes. No layer may lose its last channel: classes that would do so are withheld and the rest is
/// ranked again.
fn ranked(
    model: &Model,
    coupling: &Coupling,
    group: &Group,
    mut quotas: Quotas,
    asked: &Asked,
    scratch: &mut Vec<Vec<f32>>,
) -> Option<(Ranking, Vec<u32>)> {
    let mut options = asked.options.importance;
    let mut seen = Vec::new();
    if options.representation == Representation::Response {
        let classes = group.classes.iter().enumerate().map(|(i, c)| (c.root, i)).collect();
        seen = asked.response.map_or_else(Vec::new, |r| r.seen(&classes));
        // Channels that no known layer reads have their weights to show.
        if seen.is_empty() {
            options.representation = Representation::Auto;
        }
    }
    let mut weights: Vec<(usize, Tensor, [usize; 3])> = Vec::new();
    for (m, member) in group.members.iter().enumerate() {
        let Some(source) = member.source else { continue };
        let (tensor, n, channels, taps) = filters(model, coupling, &coupling.sources[source])?;
        weights.push((m, tensor, [n, channels, taps]));
    }
    let passed = |bytes: &[u8]| asked.source.release_bytes(bytes);
    let data: Vec<Cow<'_, [f32]>> = weights
        .iter()
        .map(|(_, t, _)| t.to_f32_passing(scratch.pop().unwrap_or_default(), &passed))
        .collect::<Option<_>>()?;
    let members: Vec<importance::Member> = weights
        .iter()
        .zip(data)
        .map(|(&(m, _, [filters, in_channels, taps]), data)| importance::Member {
            filters: Filters { data, filters, in_channels, taps },
            classes: group.classes.iter().map(|c| c.filters[m].clone()).collect(),
        })
        .collect();
    loop {
        let ranking = importance::rank(if seen.is_empty() { &members } else { &seen }, &quotas, &options);
        let mut left: Vec<usize> = members.iter().map(|m| m.filters.filters).collect();
        let mut withheld = false;
        for &c in &ranking.order {
            let loses = |m: usize| members[m].classes[c as usize].len();
            if (0..members.len()).any(|m| loses(m) > 0 && left[m] <= loses(m)) {
                quotas.withhold(c as usize);
                withheld = true;
                break;
            }
            (0..members.len()).for_each(|m| left[m] -= loses(m));
        }
        if !withheld {
            let order = ranking.order.clone();
            weights.iter().for_each(|(_, t, _)| passed(t.data()));
            scratch.extend(members.into_iter().filter_map(|m| match m.filters.data {
                Cow::Owned(copy) => Some(copy),
                Cow::Borrowed(_) => None,
            }));
            return Some((ranking, order));
        }
    }
}

/// The choices that a plan made, on this model's groups.
pub(super) fn replay(model: &Model, coupling: &Coupling, groups: &[Group], plan: &Plan) -> Result<Vec<Choice>, String> {
    let ids = ids(model, groups);
    let by_id: BTreeMap<&str, usize> = ids.iter().enumerate().map(|(i, id)| (id.as_str(), i)).collect();
    let mut classes: Vec<Vec<(usize, Atom)>> = vec![Vec::new(); groups.len()];
    for recorded in plan.groups.iter().filter(|g| !g.removed.is_empty()) {
        let id = &recorded.id;
        let at =
            *by_id.get(id.as_str()).ok_or_else(|| format!("the plan does not fit: the model has no group '{id}'"))?;
        let group = &groups[at];
        let members = super::record::members(model, coupling, group);
        if members != recorded.members {
            return Err(format!("the plan does not fit: group '{id}' has other layers or channels in this model"));
        }
        for &c in &recorded.removed {
            let class = group.classes.get(c).ok_or_else(|| {
                format!(
                    "the plan does not fit: group '{id}' has {} removable channels, {c} is not one",
                    group.classes.len()
                )
            })?;
            classes[at].push((c, class.root));
        }
    }
    let distinct: BTreeSet<Atom> = classes.iter().flatten().map(|c| c.1).collect();
    if distinct.len() != classes.iter().map(Vec::len).sum::<usize>() {
        return Err("the plan names a channel twice".to_owned());
    }
    let choice = |(i, classes): (usize, Vec<(usize, Atom)>)| {
        let id = ids[i].clone();
        if classes.is_empty() {
            return Choice::left(id, VerdictKind::Kept, None, "plan", "the plan leaves it as it is".to_owned());
        }
        Choice { id, kind: VerdictKind::Pruned, reason: None, classes, ranking: None }
    };
    Ok(classes.into_iter().enumerate().map(choice).collect())
}
