//! What a model is made of, and what can be cut.
//!
//! Guarantees: every convolution and matrix product with filters belongs to one group, and every group says whether it
//! can be cut, and if not, which node prevents it and why. What a removable channel runs through, read or made, is
//! within reach; every cost that is not stands under one cause.

use super::layers::{fixed_text, output_shape, shape_text, weight_shape};
use super::number::{count, percent};
use super::table::Table;
use crate::analysis::{Cost, Coupling, Group, Reach, Shapes, groups, is_symbolic, node_costs, pinned_by, reached};
use crate::ir::{Model, NodeId};
use crate::ops::Kind;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

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
    /// What removable channels run through, read or made: see `analysis::reach`.
    pub within_reach: Reach,
    /// What pins the rest, the most costly first.
    pub pins: Vec<PinLine>,
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

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Pin {
    pub node: Option<String>,
    pub rule: String,
    pub text: String,
}

/// One cause for which channels stay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PinLine {
    #[serde(flatten)]
    pub pin: Pin,
    /// Layers whose filters it pins, all or some, and layers that no removable channel runs through because of it.
    pub layers: Vec<String>,
    /// What these last ones cost: nothing can be saved there.
    pub params: u64,
    pub macs: u64,
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
        let costs: BTreeMap<NodeId, Cost> =
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
        let removable = found.iter().flat_map(|g| &g.classes).map(|c| c.root).collect();
        let reached = reached(model, coupling, &removable);
        let within_reach = costs.iter().filter(|(n, _)| reached.contains(n)).fold(Reach::default(), |sum, (_, c)| {
            Reach { params: sum.params + c.params, macs: sum.macs.saturating_add(c.macs) }
        });
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
            within_reach,
            pins: pin_lines(model, coupling, &costs, &reached, &group_lines, &group_of),
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

    /// One row for each cause for which channels stay, with what nothing can be saved of for it.
    pub fn pin_table(&self) -> Table {
        let mut table = Table::new(&["pinned by", "rule", "because", "layers", ">params", ">MACs"]);
        for line in &self.pins {
            table.row([
                line.pin.node.clone().unwrap_or_else(|| "-".to_owned()),
                line.pin.rule.clone(),
                line.pin.text.clone(),
                match &line.layers[..] {
                    [] => String::new(),
                    [one] => one.clone(),
                    [first, rest @ ..] => format!("{first} and {} more", rest.len()),
                },
                percent(line.params, self.params),
                percent(line.macs, self.macs),
            ]);
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
        out.push(format!(
            "removable channels run through {} of the parameters and {} of the MACs",
            percent(self.within_reach.params, self.params),
            percent(self.within_reach.macs, self.macs)
        ));
        out.extend(
            self.assumed.as_ref().map(|a| format!("assumed for symbolic dimensions: {a}; --input-shape sets them")),
        );
        out
    }
}

/// The causes for which channels stay: of the filters of each group, and of each node that costs something and that no
/// removable channel runs through.
fn pin_lines(
    model: &Model,
    coupling: &Coupling,
    costs: &BTreeMap<NodeId, Cost>,
    reached: &BTreeSet<NodeId>,
    groups: &[GroupLine],
    group_of: &BTreeMap<NodeId, usize>,
) -> Vec<PinLine> {
    let pins = coupling.atoms.pin_reasons();
    let mut lines: BTreeMap<Pin, PinLine> = BTreeMap::new();
    for n in model.walk() {
        let cost = costs.get(&n).filter(|c| !reached.contains(&n) && (c.params > 0 || c.macs > 0));
        let of_group = group_of.get(&n).and_then(|&g| groups[g].pinned_by.clone());
        let pin = match (of_group, cost) {
            (Some(pin), _) => pin,
            (None, None) => continue,
            (None, Some(_)) => match pinned_by(model, coupling, &pins, n).map(|r| coupling.atoms.reason_at(r)) {
                Some(r) => Pin { node: r.node.map(|n| model.label(n)), rule: r.rule.to_owned(), text: r.text.clone() },
                None => {
                    Pin { node: None, rule: "no-channels".to_owned(), text: "no channels are known here".to_owned() }
                }
            },
        };
        let empty = || PinLine { pin: pin.clone(), layers: Vec::new(), params: 0, macs: 0 };
        let line = lines.entry(pin.clone()).or_insert_with(empty);
        line.layers.push(model.label(n));
        line.params += cost.map_or(0, |c| c.params);
        line.macs = line.macs.saturating_add(cost.map_or(0, |c| c.macs));
    }
    let mut lines: Vec<PinLine> = lines.into_values().collect();
    lines.sort_by_key(|l| std::cmp::Reverse((l.macs, l.params)));
    lines
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
