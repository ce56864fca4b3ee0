//! What a model is made of, and what can be cut.
//!
//! Guarantees: every convolution and matrix product with filters belongs to one group, and every group says whether it
//! can be cut, and if not, which node prevents it and why.

use super::layers::{fixed_text, output_shape, shape_text, weight_shape};
use super::number::{count, percent};
use super::table::Table;
use crate::analysis::{Coupling, Group, Shapes, groups, is_symbolic, node_costs};
use crate::ir::{Model, NodeId};
use crate::ops::Kind;
use serde::Serialize;
use std::collections::BTreeMap;

/// A model, layer by layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// Version of the standard operators.
    pub opset: Option<i64>,
    pub nodes: usize,
    /// The sizes that stand for symbolic dimensions in the counts; `None` where none is symbolic.
    pub assumed: Option<String>,
    pub layers: Vec<Layer>,
    pub groups: Vec<GroupLine>,
    pub params: u64,
    /// Running means and variances, which are not counted as parameters.
    pub statistics: u64,
    pub macs: u64,
    pub bytes: u64,
    /// What lies in convolutions that can be cut.
    pub prunable: Share,
    /// What lies in other layers that can be cut: they are, where dense layers are asked for.
    pub prunable_dense: Share,
}

/// A node that has parameters or computes products.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Layer {
    pub node: String,
    pub op: String,
    /// Shape of the largest constant operand.
    pub weight: Option<Vec<usize>>,
    /// Shape of the first output; extents that hang on symbolic dimensions are `null`.
    pub output: Option<Vec<Option<usize>>>,
    pub params: u64,
    pub macs: u64,
    /// The group whose filters this layer holds.
    pub group: Option<String>,
}

/// Layers whose filters go together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupLine {
    /// The name of the first member.
    pub id: String,
    pub kind: &'static str,
    pub members: Vec<String>,
    /// Channels that can only go together count as one.
    pub channels: usize,
    pub removable: usize,
    /// What keeps the rest: the node, the rule and the reason.
    pub pinned_by: Option<Pin>,
    pub params: u64,
    pub macs: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pin {
    pub node: Option<String>,
    pub rule: String,
    pub text: String,
}

/// A part of the model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Share {
    pub groups: usize,
    /// Of how many groups of the kind.
    pub of: usize,
    pub params: u64,
    pub macs: u64,
}

impl Inspection {
    /// Inspects a model whose channels were coupled.
    pub fn new(model: &Model, coupling: &Coupling) -> Self {
        let worlds: Vec<&Shapes> = coupling.worlds.iter().map(|w| &w.shapes).collect();
        let costs: BTreeMap<NodeId, _> =
            worlds.first().map(|w| node_costs(model, w).into_iter().collect()).unwrap_or_default();
        let found = groups(model, coupling);
        let mut group_of: BTreeMap<NodeId, usize> = BTreeMap::new();
        for (i, group) in found.iter().enumerate() {
            group_of.extend(group.members.iter().map(|m| (m.node, i)));
        }
        let group_lines: Vec<GroupLine> = found
            .iter()
            .map(|g| {
                let cost = |part: fn(&crate::analysis::Cost) -> u64| {
                    g.members.iter().filter_map(|m| costs.get(&m.node)).map(part).sum()
                };
                GroupLine {
                    id: g.members.first().map(|m| model.label(m.node)).unwrap_or_default(),
                    kind: kind(g),
                    members: g.members.iter().map(|m| model.label(m.node)).collect(),
                    channels: g.channels(),
                    removable: g.classes.len(),
                    pinned_by: g.pin.as_ref().map(|p| Pin {
                        node: p.node.map(|n| model.label(n)),
                        rule: p.rule.to_owned(),
                        text: p.text.clone(),
                    }),
                    params: cost(|c| c.params),
                    macs: cost(|c| c.macs),
                }
            })
            .collect();
        let nodes = model.walk();
        let mut layers = Vec::new();
        for &n in &nodes {
            let cost = costs.get(&n).copied().unwrap_or_default();
            if cost.params == 0 && cost.macs == 0 && !group_of.contains_key(&n) {
                continue;
            }
            layers.push(Layer {
                node: model.label(n),
                op: model.node(n).op_type().to_owned(),
                weight: worlds.first().and_then(|w| weight_shape(w, &coupling.constant, model, n)),
                output: output_shape(model, &worlds, n),
                params: cost.params,
                macs: cost.macs,
                group: group_of.get(&n).map(|&g| group_lines[g].id.clone()),
            });
        }
        let share = |convolutions: bool| {
            let mut share = Share::default();
            for (group, line) in found.iter().zip(&group_lines).filter(|(g, _)| g.has_convolution() == convolutions) {
                share.of += 1;
                if !group.classes.is_empty() {
                    share.groups += 1;
                    share.params += line.params;
                    share.macs += line.macs;
                }
            }
            share
        };
        Self {
            opset: model.opset(""),
            nodes: nodes.len(),
            assumed: worlds.first().filter(|_| is_symbolic(model)).map(|w| assumed(w)),
            layers,
            params: costs.values().map(|c| c.params).sum(),
            statistics: costs.values().map(|c| c.statistics).sum(),
            macs: costs.values().map(|c| c.macs).fold(0, u64::saturating_add),
            bytes: costs.values().map(|c| c.bytes).sum(),
            prunable: share(true),
            prunable_dense: share(false),
            groups: group_lines,
        }
    }

    /// One row a layer.
    pub fn layer_table(&self) -> Table {
        let mut table = Table::new(&["layer", "op", "weight", "output", ">params", ">MACs", "group", "verdict"]);
        let groups: BTreeMap<&str, &GroupLine> = self.groups.iter().map(|g| (&g.id[..], g)).collect();
        for layer in &self.layers {
            let group = layer.group.as_deref().and_then(|g| groups.get(g));
            table.row([
                layer.node.clone(),
                layer.op.clone(),
                layer.weight.as_deref().map_or(String::new(), fixed_text),
                layer.output.as_deref().map_or("?".to_owned(), shape_text),
                count(layer.params),
                count(layer.macs),
                layer.group.clone().unwrap_or_default(),
                group.map_or(String::new(), |g| g.verdict()),
            ]);
        }
        table
    }

    /// One row for each group that cannot be cut, or not wholly.
    pub fn pin_table(&self) -> Table {
        let mut table = Table::new(&["group", "pinned by", "rule", "because"]);
        for group in &self.groups {
            if let Some(pin) = &group.pinned_by {
                table.row([
                    group.id.clone(),
                    pin.node.clone().unwrap_or_else(|| "-".to_owned()),
                    pin.rule.clone(),
                    pin.text.clone(),
                ]);
            }
        }
        table
    }

    /// Sentences with the totals.
    pub fn totals(&self) -> Vec<String> {
        let mut out = vec![format!(
            "{} node{}, {} parameters{}, {} MACs for one item, {} of constants",
            count(self.nodes as u64),
            if self.nodes == 1 { "" } else { "s" },
            count(self.params),
            match self.statistics {
                0 => String::new(),
                n => format!(" and {} running statistics", count(n)),
            },
            count(self.macs),
            super::bytes(self.bytes)
        )];
        let line = |share: &Share, what: &str| {
            format!(
                "{} of {} {what} can be cut; they hold {} of the parameters and {} of the MACs",
                share.groups,
                share.of,
                percent(share.params, self.params),
                percent(share.macs, self.macs)
            )
        };
        out.push(line(&self.prunable, "groups of convolutions"));
        if self.prunable_dense.of > 0 {
            out.push(line(&self.prunable_dense, "groups of other layers (--dense)"));
        }
        out.extend(
            self.assumed.as_ref().map(|a| format!("assumed for symbolic dimensions: {a}; --input-shape sets them")),
        );
        out
    }
}

impl GroupLine {
    /// What can be done with the group, in a few words.
    pub fn verdict(&self) -> String {
        match (self.removable, &self.pinned_by) {
            (0, None) => "nothing to cut".to_owned(),
            (0, Some(pin)) => match &pin.node {
                Some(node) => format!("pinned by {node} ({})", pin.rule),
                None => format!("pinned ({})", pin.rule),
            },
            (n, _) => {
                let of = if n < self.channels { format!(" of {}", self.channels) } else { String::new() };
                let asked = if self.kind == "conv" { "" } else { " (--dense)" };
                format!("{n}{of} channels can go{asked}")
            }
        }
    }
}

fn kind(group: &Group) -> &'static str {
    let has = |kind| group.members.iter().any(|m| m.kind == kind);
    if has(Kind::Conv) {
        "conv"
    } else if has(Kind::Recurrent) {
        "recurrent"
    } else {
        "dense"
    }
}

fn assumed(shapes: &Shapes) -> String {
    let sizes = &shapes.sizes;
    let given: Vec<String> = sizes.fixed.iter().map(|(name, d)| format!("{name} {d}")).collect();
    let rest = format!("batch {}, others {}", sizes.batch, sizes.other);
    if given.is_empty() { rest } else { format!("{}; otherwise {rest}", given.join(", ")) }
}
