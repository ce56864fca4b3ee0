//! The plan of what was chosen and cut.

use super::PruneOptions;
use super::choose::Choice;
use crate::analysis::{Atom, Coupling, Group, Inexact, Origin, Read, cost, infer, reach};
use crate::cut::Cut;
use crate::importance::Representation;
use crate::ir::Model;
use crate::plan::{
    Cost, GroupPlan, MemberPlan, ModelRef, Plan, ReachPlan, ReadCut, ReasonPlan, Reference, VERSION, VerdictKind,
};
use std::collections::BTreeSet;

pub(super) fn plan(
    model: &Model,
    coupling: &Coupling,
    groups: &[Group],
    choices: &[Choice],
    removed: &BTreeSet<Atom>,
    cut: &Cut,
    options: &PruneOptions,
) -> Plan {
    let shapes = &coupling.worlds[0].shapes;
    let (before, after) = (cost(model, shapes), cost(&cut.model, &infer(&cut.model, shapes.sizes.clone())));
    Plan {
        version: VERSION,
        tool: concat!("secateur ", env!("CARGO_PKG_VERSION")).to_owned(),
        model: ModelRef { sha256: None, file: None },
        options: options_json(options),
        reference: if cut.inexact.is_empty() { Reference::Masked } else { Reference::Rescaled },
        groups: groups.iter().zip(choices).map(|(g, c)| group_plan(model, coupling, g, c)).collect(),
        tensors: cut.tensors.clone(),
        reads: reads(model, coupling, removed),
        inexact: cut.inexact.clone(),
        cost: Cost {
            params: [before.params, after.params],
            macs: [before.macs, after.macs],
            bytes: [before.bytes, after.bytes],
        },
        reach: reaches(model, coupling, groups, choices),
        repair: None,
        verified: None,
    }
}

fn reaches(model: &Model, coupling: &Coupling, groups: &[Group], choices: &[Choice]) -> ReachPlan {
    let of = |counts: &dyn Fn(&Choice) -> bool| {
        let counted = groups.iter().zip(choices).filter(|(_, c)| counts(c));
        reach(model, coupling, &counted.flat_map(|(g, _)| &g.classes).map(|c| c.root).collect())
    };
    ReachPlan { allowed: of(&|_| true), asked: of(&|c| !c.is_spared()), cut: of(&|c| c.kind == VerdictKind::Pruned) }
}

fn options_json(o: &PruneOptions) -> serde_json::Value {
    let layers: Vec<String> = o.layers.iter().map(|(g, r)| format!("{g}={r}")).collect();
    let mut json = serde_json::json!({
        "ratio": o.ratio,
        "layer": layers,
        "exclude": o.exclude,
        "by": o.importance.criterion.to_string(),
        "representation": o.importance.representation.to_string(),
        "similarity": o.importance.similarity.to_string(),
        "reading": o.importance.reading.to_string(),
        "one-at-a-time": o.importance.one_at_a_time,
        "keep": o.importance.keep_central.then_some("central"),
        "multiple-of": o.multiple_of,
        "min-channels": o.min_channels,
        "dense": o.dense.name(),
        "seed": o.importance.seed,
    });
    let Some(fields) = json.as_object_mut() else { return json };
    // A budget takes the place of the ratio.
    if let Some(target) = o.target {
        fields.remove("ratio");
        fields.insert("target".to_owned(), target.to_string().into());
    }
    if o.allow_inexact != Inexact::None {
        fields.insert(ALLOW_INEXACT.to_owned(), o.allow_inexact.name().into());
    }
    json
}

const ALLOW_INEXACT: &str = "allow-inexact";

/// What the prune that made a plan was allowed to change.
pub(super) fn allowed(plan: &Plan) -> Inexact {
    let name = plan.options.get(ALLOW_INEXACT).and_then(|v| v.as_str());
    Inexact::ALL.iter().copied().find(|i| Some(i.name()) == name).unwrap_or_default()
}

fn group_plan(model: &Model, coupling: &Coupling, group: &Group, choice: &Choice) -> GroupPlan {
    let ranking = choice.ranking.as_ref();
    let pinned = (choice.kind != VerdictKind::Pinned && group.pinned > 0).then(|| {
        let why = group.pin.as_ref().map_or("", |p| p.text.as_str());
        format!("{} filters of the group are pinned and not counted: {why}", group.pinned)
    });
    let note: Vec<String> =
        ranking.map(|r| r.reason.clone()).filter(|r| !r.is_empty()).into_iter().chain(pinned).collect();
    GroupPlan {
        id: choice.id.clone(),
        channels: if group.classes.is_empty() { group.channels() } else { group.classes.len() },
        verdict: choice.kind,
        reason: choice.reason.as_ref().map(|(node, rule, text)| ReasonPlan {
            node: node.clone(),
            rule: rule.clone(),
            text: text.clone(),
        }),
        members: members(model, coupling, group),
        scores: ranking.map(|r| r.scores.clone()).unwrap_or_default(),
        removed: choice.classes.iter().map(|c| c.0).collect(),
        representation: ranking.and_then(|r| r.representation).map(|r: Representation| r.to_string()),
        note: (!note.is_empty()).then(|| note.join("; ")),
    }
}

/// The layers of a group, and which of their filters belong to it.
pub(in crate::passes) fn members(model: &Model, coupling: &Coupling, group: &Group) -> Vec<MemberPlan> {
    let member = |(m, member): (usize, &crate::analysis::Member)| {
        let node = model.label(member.node);
        let Some(source) = member.source.map(|s| &coupling.sources[s]) else {
            return MemberPlan { node, tensor: None, axis: 0, channels: Vec::new() };
        };
        let mut positions: Vec<usize> = group.classes.iter().flat_map(|c| &c.filters[m]).map(|&f| f as usize).collect();
        if group.classes.is_empty() {
            positions = (0..source.atoms.len()).collect();
        }
        positions.sort_unstable();
        let tensor = Some(model.value(source.value).name().to_owned());
        MemberPlan { node, tensor, axis: source.axis, channels: ranges(&positions) }
    };
    group.members.iter().enumerate().map(member).collect()
}

/// Ascending positions as half-open ranges.
fn ranges(positions: &[usize]) -> Vec<[usize; 2]> {
    let mut out: Vec<[usize; 2]> = Vec::new();
    for &p in positions {
        match out.last_mut() {
            Some(last) if last[1] == p => last[1] += 1,
            _ => out.push([p, p + 1]),
        }
    }
    out
}

/// What the masked original zeroes.
fn reads(model: &Model, coupling: &Coupling, removed: &BTreeSet<Atom>) -> Vec<ReadCut> {
    let mut out: Vec<ReadCut> = Vec::new();
    for &Read { node, value, axis, blocks } in &coupling.reads {
        let Some(atoms) = coupling.atoms.get(Origin::Constant { value, axis, blocks }) else { continue };
        let goes: Vec<bool> = atoms.map(|a| removed.contains(&coupling.atoms.find(a))).collect();
        let first = coupling.worlds[0].shapes.shape(value).and_then(|s| s.first()).copied().unwrap_or(0);
        for (block, goes) in goes.chunks(goes.len() / blocks).enumerate() {
            let removed: Vec<usize> = goes.iter().enumerate().filter(|(_, g)| **g).map(|(i, _)| i).collect();
            if !removed.is_empty() {
                let rows = (blocks > 1).then(|| [block * first / blocks, (block + 1) * first / blocks]);
                let (node, tensor) = (model.label(node), model.value(value).name().to_owned());
                out.push(ReadCut { node, tensor, axis, removed, rows });
            }
        }
    }
    out
}

/// A replayed plan must cut the same tensors at the same places.
pub(super) fn same_tensors(plan: &Plan, cut: &Cut) -> Result<(), String> {
    if plan.tensors == cut.tensors {
        return Ok(());
    }
    let differs = cut
        .tensors
        .iter()
        .find(|t| !plan.tensors.contains(t))
        .or_else(|| plan.tensors.iter().find(|t| !cut.tensors.contains(t)));
    let name = differs.map_or("", |t| t.name.as_str());
    Err(format!("the plan does not fit: it would cut tensor '{name}' otherwise than recorded"))
}
