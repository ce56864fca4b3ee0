//! Label fields from inputs to outputs, node by node, under one assignment of sizes.
//!
//! One file for each way in which channels pass a node (`crate::ops::Action`): `elementwise`, `layout`, `contract`, and
//! `product` for sums of products of two activations; `average` for statistics that may be those of what stays; `zero`
//! for where the zeros of a masked original come from.

mod average;
mod contract;
mod elementwise;
mod layout;
mod leaf;
mod merged;
mod nested;
mod product;
mod zero;

use super::coupling::{Coupling, World};
use super::field::Field;
use super::infer::Shapes;
use crate::ir::{Def, Model, NodeId, Uses, ValueId};
use crate::onnx::tensor::DataType;
use crate::ops::{Action, Effect, Places};
use std::collections::{BTreeMap, BTreeSet};

/// Labels of one field beyond which it is pinned: no network comes near, but a damaged shape may.
const MOST_LABELS: usize = 1 << 22;

fn positions(axes: &[usize], shape: &[usize]) -> usize {
    axes.iter().map(|&a| shape[a]).fold(1, usize::saturating_mul)
}

pub(super) struct Flow<'a> {
    model: &'a Model,
    uses: &'a Uses,
    coupling: &'a mut Coupling,
    world: World,
    /// Constants that no plan could tell from others.
    ambiguous: BTreeSet<ValueId>,
    /// Fields of constants along merged axes, of which one will be taken.
    undecided: BTreeMap<ValueId, Vec<Vec<Field>>>,
}

impl<'a> Flow<'a> {
    pub fn run(model: &'a Model, uses: &'a Uses, shapes: Shapes, coupling: &'a mut Coupling) -> World {
        let world = World { shapes, fields: vec![Vec::new(); model.value_count()], views: Vec::new() };
        let mut flow =
            Flow { model, uses, coupling, world, ambiguous: leaf::ambiguous(model), undecided: BTreeMap::new() };
        flow.graph(model.main());
        for port in model.graph(model.main()).outputs() {
            let name = model.value(port.value).name();
            let maker = flow.maker(port.value);
            let text = format!("'{name}' is an output of the model");
            let reason = flow.coupling.atoms.reason(maker, "graph-output", text);
            flow.pin_value(port.value, reason);
        }
        flow.world
    }

    pub(super) fn maker(&self, value: ValueId) -> Option<NodeId> {
        match self.model.value(value).def() {
            Def::Node(n, _) => Some(n),
            _ => None,
        }
    }

    pub(super) fn node(&mut self, n: NodeId) {
        if !self.model.node(n).bodies().is_empty() {
            return self.with_bodies(n);
        }
        // Taken out for the time of the visit: the rules borrow it while the fields change.
        let Some(effect) = self.world.shapes.effects[n.index()].take() else { return };
        match &effect {
            Ok(e) => self.effect(n, e),
            Err(refusal) => self.opaque(n, &refusal.to_string()),
        }
        self.world.shapes.effects[n.index()] = Some(effect);
    }

    pub(super) fn effect(&mut self, n: NodeId, effect: &Effect) {
        let node = self.model.node(n);
        let rank_known = effect.outputs.iter().all(|f| f.shape.as_ref().is_some_and(|s| !s.contains(&0)));
        if !rank_known {
            return self.opaque(n, "a shape is not known, or a tensor is empty");
        }
        let second_output = node.outputs().iter().skip(1).flatten().any(|&v| !self.uses.is_unused(v));
        match &effect.action {
            Action::ShapeOnly => return self.filled(n, effect),
            Action::Opaque(why) => self.opaque(n, why),
            Action::Map(_) if second_output && self.places(n) == Places::First => {
                self.opaque(n, "its second output is used, which tells of positions over all channels");
            }
            Action::Map(operands) => self.map(n, effect, operands),
            Action::Layout { input, outputs } => self.layout(n, *input, outputs),
            Action::Concat { axis, inputs } => self.concat(n, effect, *axis, inputs),
            Action::Contract(c) => self.contract(n, effect, c),
        }
        let mentioned: Vec<usize> = match &effect.action {
            Action::Map(operands) => operands.iter().map(|o| o.input).collect(),
            Action::Layout { input, .. } => vec![*input],
            Action::Concat { inputs, .. } => inputs.clone(),
            Action::Contract(c) => c.operands.iter().map(|v| v.input).chain(c.also.iter().map(|b| b.input)).collect(),
            Action::ShapeOnly | Action::Opaque(_) => return,
        };
        for (i, input) in node.inputs().iter().enumerate().filter(|(i, _)| !mentioned.contains(i)) {
            let Some(v) = *input else { continue };
            let reason =
                self.coupling.atoms.reason(Some(n), "parameter", format!("input {i} is a parameter of the operator"));
            self.pin_value(v, reason);
        }
    }

    pub(super) fn places(&self, n: NodeId) -> Places {
        crate::ops::lookup(self.model, self.model.node(n)).map_or(Places::First, |(row, _)| row.places)
    }

    pub(super) fn opaque(&mut self, n: NodeId, why: &str) {
        let op = self.model.node(n).op_type().to_owned();
        let reason =
            self.coupling.atoms.reason(Some(n), "opaque", format!("nothing is known of how channels pass {op}: {why}"));
        for v in self.model.node(n).inputs().iter().flatten() {
            self.pin_value(*v, reason);
        }
    }

    pub(super) fn pin_value(&mut self, v: ValueId, reason: u32) {
        // Integers are positions, sizes and the like: they carry no channels unless someone has given them labels.
        let number = self
            .world
            .shapes
            .fact(v)
            .and_then(|f| f.dtype)
            .is_some_and(|t| !matches!(t, DataType::Int64 | DataType::Int32 | DataType::Bool | DataType::String));
        let fields = if number { self.fields(v) } else { self.world.fields[v.index()].clone() };
        for field in &fields {
            self.pin(field, reason);
        }
    }

    pub(super) fn pin(&mut self, field: &Field, reason: u32) {
        for &a in &field.atoms {
            self.coupling.atoms.pin(a, reason);
        }
    }

    pub(super) fn set(&mut self, v: Option<ValueId>, fields: Vec<Field>) {
        if let Some(v) = v {
            self.world.fields[v.index()] = fields.into_iter().filter(|f| !f.axes.is_empty()).collect();
        }
    }
}
