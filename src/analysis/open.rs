//! A model made ready for its channels to be coupled.
//!
//! Guarantees: the opened model computes what the model does. Calls of the model's own functions through which channels
//! pass are inlined, others are left; a constant that holds one number only couples none of its readers.
//! Refuses: nothing; a call that cannot be inlined pins what it touches, as an unknown operator does.
//! How: the model is coupled, and calls at which labels end, or from which on the shapes are not known, are inlined
//! until there are none left. Readers that take a uniform constant place by place get copies of their own, which
//! [`Model::rejoin_copies`] brings together after the cut. Constants that come out of this and are no tensors of the
//! file are marked as [`Unnamed`].

use super::coupling::Coupling;
use super::infer::{Shapes, infer_all, stored};
use super::label::PINNED;
use crate::ir::{Def, Model, NodeId, Unnamed, ValueId};
use crate::onnx::tensor::{DataType, Tensor};
use crate::ops::Action;
use std::collections::{BTreeMap, BTreeSet};

/// Elements of a uniform constant beyond which it is left shared: biases and scales are vectors.
const MOST_COPIED: usize = 1 << 16;

/// A model with the facts that belong to it.
#[derive(Debug, Clone)]
pub struct Opened {
    pub model: Model,
    pub worlds: Vec<Shapes>,
}

/// Opens a model. `worlds` are its facts as [`infer_all`] gives them for `sizes`.
pub fn open(model: &Model, worlds: Vec<Shapes>, sizes: &BTreeMap<String, usize>) -> Opened {
    let mut opened = Opened { model: model.clone(), worlds };
    opened.inline(sizes);
    let stated = opened.state_numbers();
    let copied = opened.free_uniform();
    if stated || copied {
        opened.worlds = infer_all(&opened.model, sizes);
    }
    opened
}

impl Opened {
    fn inline(&mut self, sizes: &BTreeMap<String, usize>) {
        let mut refused: BTreeSet<NodeId> = BTreeSet::new();
        while !self.model.header().functions.is_empty() {
            let calls: BTreeSet<NodeId> = self.in_the_way().into_iter().filter(|n| !refused.contains(n)).collect();
            let first = self.model.value_count();
            let done = self.model.inline(|_, n| calls.contains(&n));
            refused.extend(done.refused.into_iter().map(|r| r.0));
            if done.calls == 0 {
                return;
            }
            let new: Vec<ValueId> = self.model.constants().filter(|v| v.index() >= first).collect();
            let kind = |&v: &ValueId| match stored(&self.model, v) {
                Some(t) if t.is_uniform() => (v, Unnamed::Plain),
                _ => (v, Unnamed::Function),
            };
            let kinds: Vec<_> = new.iter().map(kind).collect();
            self.model.set_unnamed(kinds);
            self.worlds = infer_all(&self.model, sizes);
        }
    }

    /// Calls of functions at which labels end, or whose results are of unknown shape.
    fn in_the_way(&self) -> BTreeSet<NodeId> {
        let model = &self.model;
        let coupling = Coupling::new(model, self.worlds.clone(), &Vec::new());
        let pins = coupling.atoms.joins().filter(|(a, b, _)| *a == PINNED || *b == PINNED);
        let mut out: BTreeSet<NodeId> =
            pins.filter(|(.., reason)| reason.rule == "opaque").filter_map(|(.., reason)| reason.node).collect();
        let uses = model.uses();
        let unknown = |v: &ValueId| !uses.is_unused(*v) && self.worlds.iter().any(|w| w.shape(*v).is_none());
        out.extend(model.walk().into_iter().filter(|&n| model.node(n).outputs().iter().flatten().any(unknown)));
        out.retain(|&n| model.is_local_function(model.node(n)));
        out
    }

    /// Constants that are written as plain numbers become tensors, so that they can be cut.
    fn state_numbers(&mut self) -> bool {
        let model = &self.model;
        let plain = model.walk().into_iter().filter_map(|n| {
            let node = model.node(n);
            let v = node.output(0).filter(|_| node.is_standard() && node.op_type() == "Constant")?;
            let tensor = stored(model, v).filter(|t| model.constant(v).is_none() && t.dtype() == DataType::Float)?;
            (tensor.elements() > 1).then_some((v, tensor))
        });
        let plain: Vec<(ValueId, Tensor)> = plain.collect();
        for (v, tensor) in &plain {
            self.model.state_as_tensor(*v, tensor);
        }
        self.model.set_unnamed(plain.iter().map(|(v, _)| (*v, Unnamed::Plain)));
        !plain.is_empty()
    }

    /// Copies of uniform constants for readers that take them place by place.
    fn free_uniform(&mut self) -> bool {
        let Some(world) = self.worlds.first() else { return false };
        let (model, uses) = (&self.model, self.model.uses());
        let mut wanted: Vec<(NodeId, usize, Tensor)> = Vec::new();
        for v in model.constants() {
            let readers = uses.readers(v);
            let plain = matches!(model.value(v).def(), Def::Initializer | Def::Node(..));
            if readers.len() < 2 || !plain || model.is_overridable(v) || uses.is_output(v) {
                continue;
            }
            let small = |s: &[usize]| (2..=MOST_COPIED).contains(&s.iter().product::<usize>());
            let real = |t: &Tensor| {
                use DataType::*;
                matches!(t.dtype(), Float | Double | Float16 | Bfloat16) && t.is_uniform()
            };
            let Some(tensor) = world.shape(v).filter(|s| small(s)).and_then(|_| stored(model, v)).filter(real) else {
                continue;
            };
            let place_by_place = |&&(n, i): &&(NodeId, usize)| match world.effect(n) {
                Some(Ok(effect)) => match &effect.action {
                    Action::Map(operands) => operands.iter().any(|o| o.input == i),
                    Action::Contract(c) => c.also.iter().any(|o| o.input == i),
                    // Rearranged, it is as uniform as before.
                    Action::Layout { input, .. } => *input == i,
                    _ => false,
                },
                _ => false,
            };
            let freed: Vec<(NodeId, usize)> = readers.iter().filter(place_by_place).copied().collect();
            // The first reader keeps the constant itself, unless others do.
            let kept = usize::from(freed.len() == readers.len());
            wanted.extend(freed.into_iter().skip(kept).map(|(n, i)| (n, i, tensor.clone())));
        }
        for (n, i, tensor) in &wanted {
            self.model.give_copy(*n, *i, tensor);
        }
        !wanted.is_empty()
    }
}
