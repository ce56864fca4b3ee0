//! What a pipeline of passes did to a model.
//!
//! Guarantees: nothing that was left alone is left out of [`Summary::pinned`]; costs are those of the whole model that
//! went in and of the one that came out.

use super::curve::AccuracyChange;
use super::inspection::Pin;
use super::number::{Change, bytes, count, percent};
use super::table::Table;
use crate::analysis::{self, Shapes, node_costs};
use crate::ir::Model;
use crate::passes;
use crate::plan::{Cost, GroupPlan, InexactCut, NEEDED, Outcome, Plan, Reference, RepairPlan, VerdictKind, Verified};
use serde::Serialize;
use std::collections::BTreeMap;

/// The whole of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    pub passes: Vec<PassLine>,
    /// Layers with filters, in the order of the plan.
    pub layers: Vec<LayerChange>,
    /// Groups that were left as they are, the most costly first.
    pub untouched: Vec<Untouched>,
    pub cost: Cost,
    /// Statistics that are of the remaining channels in the new model; none unless that was allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inexact: Vec<InexactCut>,
    /// `None` where nothing was fitted after the cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair: Option<RepairPlan>,
    /// `None` where no budget of accuracy was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<AccuracyChange>,
    /// `None` where no verification was asked for, or nothing was cut.
    pub verified: Option<Verified>,
}

/// One pass of the pipeline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PassLine {
    pub pass: String,
    pub changes: usize,
    pub summary: String,
    pub remarks: Vec<Pin>,
}

/// Filters of a layer before and after.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerChange {
    pub node: String,
    pub group: String,
    pub verdict: VerdictKind,
    pub channels: [usize; 2],
}

/// A group that was not cut, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Untouched {
    pub group: String,
    pub layers: usize,
    pub verdict: VerdictKind,
    pub params: u64,
    pub macs: u64,
    pub reason: Pin,
}

impl PassLine {
    pub fn new(pass: &str, outcome: &passes::Outcome) -> Self {
        let remark = |r: &passes::Remark| Pin { node: r.node.clone(), rule: r.rule.to_string(), text: r.text.clone() };
        Self {
            pass: pass.to_owned(),
            changes: outcome.changes,
            summary: outcome.summary.clone(),
            remarks: outcome.remarks.iter().map(remark).collect(),
        }
    }
}

impl Summary {
    /// `plan` is that of the pass that cut, where there was one.
    pub fn new(
        before: (&Model, &Shapes),
        after: (&Model, &Shapes),
        passes: Vec<PassLine>,
        plan: Option<&Plan>,
    ) -> Self {
        let (old, new) = (analysis::cost(before.0, before.1), analysis::cost(after.0, after.1));
        let cost = Cost { params: [old.params, new.params], macs: [old.macs, new.macs], bytes: [old.bytes, new.bytes] };
        let mut layers = Vec::new();
        let mut untouched = Vec::new();
        if let Some(plan) = plan {
            layers = layer_changes(plan);
            untouched = left_alone(before.0, before.1, plan);
        }
        let (repair, verified) = plan.map(|p| (p.repair.clone(), p.verified.clone())).unwrap_or_default();
        let inexact = plan.map(|p| p.inexact.clone()).unwrap_or_default();
        Self { passes, layers, untouched, cost, inexact, repair, accuracy: None, verified }
    }

    /// Whether any channel was removed.
    pub fn has_cut(&self) -> bool {
        self.layers.iter().any(|l| l.channels[0] != l.channels[1])
    }

    /// The remarks by a rule, each with the pass that made it.
    pub fn remarks<'a>(&'a self, rule: &'a str) -> impl Iterator<Item = (&'a str, &'a Pin)> {
        let of = move |p: &'a PassLine| p.remarks.iter().filter(move |r| r.rule == rule).map(|r| (&p.pass[..], r));
        self.passes.iter().flat_map(of)
    }

    /// One row for each layer that lost filters.
    pub fn layer_table(&self) -> Table {
        let mut table = Table::new(&["layer", ">filters", ">now", ">removed", "group"]);
        for layer in self.layers.iter().filter(|l| l.channels[0] != l.channels[1]) {
            let [before, after] = layer.channels;
            table.row([
                layer.node.clone(),
                count(before as u64),
                count(after as u64),
                percent((before - after.min(before)) as u64, before as u64),
                layer.group.clone(),
            ]);
        }
        table
    }

    /// One row a measure.
    pub fn cost_table(&self) -> Table {
        let mut table = Table::new(&["", ">before", ">after", ">change"]);
        let mut row = |what: &str, pair: [u64; 2], text: fn(u64) -> String| {
            table.row([what.to_owned(), text(pair[0]), text(pair[1]), Change(pair).relative()]);
        };
        row("parameters", self.cost.params, count);
        row("MACs", self.cost.macs, count);
        row("constants", self.cost.bytes, bytes);
        table
    }

    /// What was left alone, the most costly first, `most` at the utmost.
    pub fn untouched_lines(&self, most: usize) -> Vec<String> {
        let mut out = Vec::new();
        for group in self.untouched.iter().take(most) {
            let verdict = if group.verdict == VerdictKind::Pinned { "pinned" } else { "kept" };
            let by = group.reason.node.as_ref().map(|n| format!(" by '{n}'")).unwrap_or_default();
            let more = if group.layers > 1 { format!(" and {} more", group.layers - 1) } else { String::new() };
            let share = percent(group.macs, self.cost.macs[0]);
            out.push(format!("'{}'{more} ({share} of the MACs) {verdict}{by}: {}", group.group, group.reason.text));
        }
        if self.untouched.len() > most {
            out.push(format!("and {} more groups; `secateur inspect` lists all", self.untouched.len() - most));
        }
        out
    }

    /// That the result is inexact, and where, `most` nodes at the utmost; `None` where it is not.
    pub fn inexact_line(&self, most: usize) -> Option<String> {
        let of = match self.inexact.len() {
            0 => return None,
            1 => "1 statistic over channels is".to_owned(),
            n => format!("{n} statistics over channels are"),
        };
        let named: Vec<String> = self.inexact.iter().take(most).map(|i| format!("{} '{}'", i.op, i.output)).collect();
        let more = match self.inexact.len().saturating_sub(most) {
            0 => String::new(),
            n => format!(" and {n} more, which the plan lists"),
        };
        Some(format!("inexact: {of} of the channels that stay: {}{more}", named.join(", ")))
    }

    /// The outcome of the verification in a sentence.
    pub fn verification_line(&self) -> Option<String> {
        let text = self.verified.as_ref().map(verification_text)?;
        // What was fitted to data afterwards computes something else on purpose.
        Some(if self.repair.is_some() { format!("{text}, before the repair") } else { text })
    }
}

/// The outcome of a verification in a sentence.
pub fn verification_text(verified: &Verified) -> String {
    let error = match verified.max_relative_error {
        None => "unknown".to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(e) => format!("{e:.1e}"),
    };
    let reason = verified.reason.as_deref();
    let between = match verified.reference {
        Reference::Masked => "between the pruned model and the masked original",
        Reference::Rescaled => "between the pruned model and the masked original with its statistics rescaled",
        Reference::Original => "between the new model and the original",
    };
    match verified.outcome {
        Outcome::Equal => format!("verified: largest relative difference {error} {between}"),
        Outcome::Different => {
            let reason = reason.map(|r| format!(" ({r})")).unwrap_or_default();
            format!("verification FAILED: largest relative difference {error} {between}{reason}")
        }
        Outcome::Cannot => format!("cannot verify: {}", reason.unwrap_or("no reason is given")),
    }
}

/// What of each member's filters stays, read off the tensors that were cut.
fn layer_changes(plan: &Plan) -> Vec<LayerChange> {
    let cuts: BTreeMap<(&str, usize), [usize; 2]> =
        plan.tensors.iter().map(|t| ((&t.name[..], t.axis), [t.size, t.kept.len()])).collect();
    let mut out = Vec::new();
    for group in &plan.groups {
        for member in &group.members {
            let cut = member.tensor.as_deref().and_then(|t| cuts.get(&(t, member.axis)).copied());
            let listed = member.channels.iter().map(|[a, b]| b - a).sum();
            out.push(LayerChange {
                node: member.node.clone(),
                group: group.id.clone(),
                verdict: group.verdict,
                channels: cut.unwrap_or([listed, listed]),
            });
        }
    }
    out
}

fn left_alone(model: &Model, shapes: &Shapes, plan: &Plan) -> Vec<Untouched> {
    let costs: BTreeMap<String, analysis::Cost> =
        node_costs(model, shapes).into_iter().map(|(n, c)| (model.label(n), c)).collect();
    let mut out: Vec<Untouched> = Vec::new();
    // A lossless removal leaves what is needed; there is nothing more to say of it.
    let needed =
        |g: &&GroupPlan| plan.reference == Reference::Original && g.reason.as_ref().is_some_and(|r| r.rule == NEEDED);
    for group in plan.groups.iter().filter(|g| g.verdict != VerdictKind::Pruned).filter(|g| !needed(g)) {
        let known = || group.members.iter().filter_map(|m| costs.get(&m.node));
        let reason = match &group.reason {
            Some(r) => Pin { node: r.node.clone(), rule: r.rule.clone(), text: r.text.clone() },
            None => Pin { node: None, rule: String::new(), text: "no reason is given".to_owned() },
        };
        out.push(Untouched {
            group: group.id.clone(),
            layers: group.members.len(),
            verdict: group.verdict,
            params: known().map(|c| c.params).sum(),
            macs: known().map(|c| c.macs).fold(0, u64::saturating_add),
            reason,
        });
    }
    // Stable: groups of the same cost stay in the order of the plan.
    out.sort_by_key(|u| std::cmp::Reverse((u.macs, u.params)));
    out
}
