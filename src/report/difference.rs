//! Two models side by side.
//!
//! Guarantees: models without a difference here compute the same, node for node: operators, attributes, edges,
//! constants and the types of inputs and outputs are compared. Names of inner values only matter where nodes read them.
//! Refuses: nothing. What a rewrite renamed shows as removed and added.
//! How: nodes are matched by name (their first output's where they have none), the second of a name with the second.

use super::layers::{output_shape, shape_text};
use super::number::{bytes, count};
use super::table::Table;
use crate::analysis::{self, Shapes};
use crate::ir::{Model, NodeId, Port};
use crate::onnx::proto::attribute_proto::AttributeType;
use crate::onnx::proto::{AttributeProto, TensorProto, tensor_shape_proto::dimension, type_proto};
use crate::onnx::tensor::{DataType, Tensor};
use crate::plan::Cost;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Everything that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Opset, inputs, outputs.
    pub model: Vec<Change>,
    /// Nodes that only the first model has, in its order.
    pub removed: Vec<NodeName>,
    /// Nodes that only the second model has, in its order.
    pub added: Vec<NodeName>,
    pub changed: Vec<NodeChange>,
    pub nodes: [usize; 2],
    pub cost: Cost,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeName {
    pub node: String,
    pub op: String,
}

/// A node that both models have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeChange {
    pub node: String,
    pub op: String,
    pub changes: Vec<Change>,
}

/// One property before and after; `None` on the side that lacks it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    pub what: String,
    pub before: Option<String>,
    pub after: Option<String>,
}

impl Difference {
    /// Compares two models whose shapes are known.
    pub fn new(before: (&Model, &[Shapes]), after: (&Model, &[Shapes])) -> Self {
        let (old, new) = (by_name(before.0), by_name(after.0));
        let name = |model: &Model, n: NodeId| NodeName { node: model.label(n), op: model.node(n).op_type().to_owned() };
        let only = |a: &Matched, b: &Matched, model: &Model| {
            a.order.iter().filter(|k| !b.nodes.contains_key(*k)).map(|k| name(model, a.nodes[k])).collect()
        };
        let mut changed = Vec::new();
        for key in &old.order {
            let (m, Some(&n)) = (old.nodes[key], new.nodes.get(key)) else { continue };
            let changes = node_changes(before, m, after, n);
            if !changes.is_empty() {
                changed.push(NodeChange { node: key.0.clone(), op: after.0.node(n).op_type().to_owned(), changes });
            }
        }
        let cost =
            |(model, shapes): (&Model, &[Shapes])| shapes.first().map(|s| analysis::cost(model, s)).unwrap_or_default();
        let (a, b) = (cost(before), cost(after));
        Self {
            model: model_changes(before.0, after.0),
            removed: only(&old, &new, before.0),
            added: only(&new, &old, after.0),
            changed,
            nodes: [old.order.len(), new.order.len()],
            cost: Cost { params: [a.params, b.params], macs: [a.macs, b.macs], bytes: [a.bytes, b.bytes] },
        }
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.model.is_empty() && self.removed.is_empty() && self.added.is_empty() && self.changed.is_empty()
    }

    /// One row for each property that differs: `-` marks nodes that went, `+` those that came.
    pub fn table(&self) -> Table {
        let mut table = Table::new(&["", "node", "op", "what", "before", "after"]);
        let cell = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        for c in &self.model {
            table.row(["~".into(), "(model)".into(), String::new(), c.what.clone(), cell(&c.before), cell(&c.after)]);
        }
        for (sign, nodes) in [("-", &self.removed), ("+", &self.added)] {
            for n in nodes {
                table.row([sign.into(), n.node.clone(), n.op.clone(), String::new(), String::new(), String::new()]);
            }
        }
        for node in &self.changed {
            for (i, c) in node.changes.iter().enumerate() {
                // The name stands at the first of a node's rows.
                let (sign, name, op) = if i == 0 { ("~", &node.node[..], &node.op[..]) } else { ("", "", "") };
                let before_after = [c.what.clone(), cell(&c.before), cell(&c.after)];
                table.row([sign, name, op].map(str::to_owned).into_iter().chain(before_after));
            }
        }
        table
    }

    /// Counts and costs.
    pub fn cost_table(&self) -> Table {
        let mut table = Table::new(&["", ">before", ">after", ">change"]);
        let mut row = |what: &str, pair: [u64; 2], text: fn(u64) -> String| {
            let change = super::CostChange(pair).relative();
            table.row([what.to_owned(), text(pair[0]), text(pair[1]), change]);
        };
        row("nodes", self.nodes.map(|n| n as u64), count);
        row("parameters", self.cost.params, count);
        row("MACs", self.cost.macs, count);
        row("constants", self.cost.bytes, bytes);
        table
    }
}

/// Nodes by name and number among those of the name.
struct Matched {
    order: Vec<(String, usize)>,
    nodes: BTreeMap<(String, usize), NodeId>,
}

fn by_name(model: &Model) -> Matched {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut matched = Matched { order: Vec::new(), nodes: BTreeMap::new() };
    for n in model.walk() {
        let label = model.label(n);
        let number = seen.entry(label.clone()).or_default();
        let key = (label, *number);
        *number += 1;
        matched.order.push(key.clone());
        matched.nodes.insert(key, n);
    }
    matched
}

/// Collects what differs.
fn note(changes: &mut Vec<Change>, what: impl Into<String>, before: Option<String>, after: Option<String>) {
    if before != after {
        changes.push(Change { what: what.into(), before, after });
    }
}

fn model_changes(before: &Model, after: &Model) -> Vec<Change> {
    let mut changes = Vec::new();
    let domains = |m: &Model| m.header().opset_import.iter().map(|o| o.domain().to_owned()).collect::<BTreeSet<_>>();
    for domain in domains(before).union(&domains(after)) {
        let version = |m: &Model| m.opset(domain).map(|v| v.to_string());
        let what = if domain.is_empty() { "opset".to_owned() } else { format!("opset {domain}") };
        note(&mut changes, what, version(before), version(after));
    }
    let graphs = (before.graph(before.main()), after.graph(after.main()));
    for (side, old, new) in
        [("input", graphs.0.inputs(), graphs.1.inputs()), ("output", graphs.0.outputs(), graphs.1.outputs())]
    {
        let types = |model: &Model, ports: &[Port]| -> BTreeMap<String, String> {
            ports.iter().map(|p| (model.value(p.value).name().to_owned(), declared(p))).collect()
        };
        let (a, b) = (types(before, old), types(after, new));
        for name in a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))) {
            note(&mut changes, format!("{side} '{name}'"), a.get(name).cloned(), b.get(name).cloned());
        }
    }
    changes
}

/// The declared type of an input or output.
fn declared(port: &Port) -> String {
    let Some(type_proto::Value::TensorType(t)) = port.info.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
        return "not a tensor".to_owned();
    };
    let dims = t.shape.iter().flat_map(|s| &s.dim).map(|d| match &d.value {
        Some(dimension::Value::DimValue(d)) => d.to_string(),
        Some(dimension::Value::DimParam(p)) => p.clone(),
        None => "?".to_owned(),
    });
    format!("{} {}", type_name(t.elem_type), dims.collect::<Vec<_>>().join("x"))
}

fn type_name(code: Option<i32>) -> String {
    let known = code.and_then(|c| DataType::try_from(c).ok());
    known.map_or_else(|| format!("type {}", code.unwrap_or(0)), |t| format!("{t:?}").to_lowercase())
}

fn node_changes(before: (&Model, &[Shapes]), m: NodeId, after: (&Model, &[Shapes]), n: NodeId) -> Vec<Change> {
    let mut changes = Vec::new();
    let (a, b) = (before.0.node(m), after.0.node(n));
    let op = |node: &crate::ir::Node| {
        let domain = if node.is_standard() { String::new() } else { format!("{}.", node.domain()) };
        Some(format!("{domain}{}", node.op_type()))
    };
    note(&mut changes, "op", op(a), op(b));
    let names: BTreeSet<&str> = a.attributes().iter().chain(b.attributes()).map(AttributeProto::name).collect();
    for name in names {
        let (x, y) = (a.attribute(name), b.attribute(name));
        // Graphs are compared node by node, as part of the walk.
        if x != y {
            let (mut x_text, y_text) = (x.map(attribute_text), y.map(attribute_text));
            if x_text == y_text {
                x_text = x_text.map(|t| format!("{t}, other content"));
            }
            note(&mut changes, format!("attribute {name}"), x_text, y_text);
        }
    }
    for i in 0..a.inputs().len().max(b.inputs().len()) {
        let value = |model: &Model, node: &crate::ir::Node| node.input(i).map(|v| model.value(v).name().to_owned());
        note(&mut changes, format!("input {i}"), value(before.0, a), value(after.0, b));
        let constants = a.input(i).and_then(|v| before.0.constant(v)).zip(b.input(i).and_then(|v| after.0.constant(v)));
        if let Some((x, y)) = constants {
            let what = format!("'{}'", y.name());
            let (x_text, y_text) = (tensor_text(x), tensor_text(y));
            if x_text != y_text {
                note(&mut changes, what, Some(x_text), Some(y_text));
            } else if !same_content(x, y) {
                note(&mut changes, what, Some(x_text), Some(format!("{y_text}, other content")));
            }
        }
    }
    let outputs = |model: &Model, node: &crate::ir::Node| {
        let names = node.outputs().iter().map(|v| v.map_or("", |v| model.value(v).name()));
        Some(names.collect::<Vec<_>>().join(", "))
    };
    note(&mut changes, "outputs", outputs(before.0, a), outputs(after.0, b));
    let shape = |(model, worlds): (&Model, &[Shapes]), n| {
        output_shape(model, &worlds.iter().collect::<Vec<_>>(), n).map(|s| shape_text(&s))
    };
    note(&mut changes, "output shape", shape(before, m), shape(after, n));
    changes
}

fn tensor_text(tensor: &TensorProto) -> String {
    let dims: Vec<String> = tensor.dims.iter().map(i64::to_string).collect();
    let dims = if dims.is_empty() { "scalar".to_owned() } else { dims.join("x") };
    format!("{} {dims}", type_name(tensor.data_type))
}

/// Compares numbers, however they are stored.
fn same_content(a: &TensorProto, b: &TensorProto) -> bool {
    match (Tensor::from_proto(a), Tensor::from_proto(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

fn attribute_text(a: &AttributeProto) -> String {
    match AttributeType::try_from(a.r#type.unwrap_or(0)) {
        Ok(AttributeType::Int) => a.i().to_string(),
        Ok(AttributeType::Float) => a.f().to_string(),
        Ok(AttributeType::Ints) => format!("{:?}", a.ints),
        Ok(AttributeType::Floats) => format!("{:?}", a.floats),
        Ok(AttributeType::String) => format!("{:?}", String::from_utf8_lossy(a.s())),
        Ok(AttributeType::Strings) => {
            format!("{:?}", a.strings.iter().map(|s| String::from_utf8_lossy(s)).collect::<Vec<_>>())
        }
        Ok(AttributeType::Tensor) => a.t.as_ref().map_or("no tensor".to_owned(), tensor_text),
        Ok(kind) => format!("{kind:?}").to_lowercase(),
        Err(_) => "unknown".to_owned(),
    }
}
