//! Shapes, element types and small constant values of everything, under one assignment of sizes.
//!
//! Guarantees: a shape that is stated follows from the operator table, from the inputs and from constants; a value
//! whose shape depends on data has none. Refuses nothing: what a rule does not cover is recorded as that node's
//! refusal, and its outputs fall back to what the file declares.

use super::size::{Sizes, fed_inputs};
use crate::ir::{Def, Model, NodeId, ValueId};
use crate::onnx::tensor::{DataType, Tensor};
use crate::ops::{self, Action, Call, Effect, Fact, Refusal};
use std::collections::BTreeMap;

/// Largest constant whose content is followed, in elements: shape arithmetic is small.
const TRACED: usize = 1024;

/// What is known under one assignment.
#[derive(Debug, Clone)]
pub struct Shapes {
    pub sizes: Sizes,
    /// By [`ValueId::index`].
    pub facts: Vec<Option<Fact>>,
    /// By [`NodeId::index`]; `None` for removed nodes and for `Constant`.
    pub effects: Vec<Option<Result<Effect, Refusal>>>,
}

impl Shapes {
    pub fn fact(&self, value: ValueId) -> Option<&Fact> {
        self.facts.get(value.index())?.as_ref()
    }

    pub fn shape(&self, value: ValueId) -> Option<&[usize]> {
        self.fact(value)?.shape.as_deref()
    }

    /// The facts of a node's inputs as its rule sees them: `None` only for inputs that are left out.
    pub fn inputs(&self, node: &crate::ir::Node) -> Vec<Option<&Fact>> {
        static UNKNOWN: Fact = Fact { dtype: None, shape: None, value: None };
        node.inputs().iter().map(|i| i.map(|v| self.fact(v).unwrap_or(&UNKNOWN))).collect()
    }

    pub fn effect(&self, node: NodeId) -> Option<&Result<Effect, Refusal>> {
        self.effects.get(node.index())?.as_ref()
    }

    /// Nodes whose operands contradict each other, or whose shapes are unknown: fewer is better when choosing sizes.
    pub fn failures(&self) -> usize {
        let bad =
            |e: &Option<Result<Effect, Refusal>>| matches!(e, Some(Err(Refusal::Invalid(_) | Refusal::Dynamic(_))));
        self.effects.iter().filter(|e| bad(e)).count()
    }
}

/// The facts under the two assignments that leave the fewest nodes unexplained; under one where nothing is symbolic.
pub fn infer_all(model: &Model, fixed: &BTreeMap<String, usize>) -> Vec<Shapes> {
    let mut candidates = Sizes::candidates(fixed);
    if !super::size::is_symbolic(model) {
        return candidates.next().map(|s| infer(model, s)).into_iter().collect();
    }
    let mut best: Vec<Shapes> = Vec::new();
    for sizes in candidates {
        let shapes = infer(model, sizes);
        // Stable: of two equally good assignments the earlier candidate stays.
        let at = best.partition_point(|b| b.failures() <= shapes.failures());
        best.insert(at, shapes);
        best.truncate(2);
        if best.len() == 2 && best.iter().all(|b| b.failures() == 0) {
            break;
        }
    }
    // A second assignment that explains less than the first would only take channels away.
    if best.len() == 2 && best[1].failures() > best[0].failures() {
        best.truncate(1);
    }
    best
}

/// The facts under one assignment.
pub fn infer(model: &Model, sizes: Sizes) -> Shapes {
    let mut shapes = Shapes { sizes, facts: vec![None; model.value_count()], effects: vec![None; model.node_count()] };
    for (value, ty) in fed_inputs(model) {
        let declared = ty.and_then(|t| shapes.sizes.shape(Some(model.value(value).name()), t));
        shapes.facts[value.index()] = declared.map(|(dtype, shape)| Fact { dtype, shape, value: None });
    }
    let mut declared: BTreeMap<ValueId, Fact> = BTreeMap::new();
    for g in model.live_graphs() {
        let graph = model.graph(g);
        for &v in graph.initializers() {
            shapes.facts[v.index()] = constant_fact(model, v);
        }
        for port in graph.value_info().iter().chain(graph.outputs()).chain(graph.inputs()) {
            if let Some((dtype, shape)) = port.info.r#type.as_ref().and_then(|t| shapes.sizes.shape(None, t)) {
                declared.insert(port.value, Fact { dtype, shape, value: None });
            }
        }
    }
    for g in model.live_graphs().into_iter().skip(1) {
        for port in model.graph(g).inputs().iter().filter(|p| model.value(p.value).def() == Def::Input) {
            shapes.facts[port.value.index()] = declared.get(&port.value).cloned();
        }
    }
    for n in model.walk() {
        visit(model, n, &mut shapes, &declared);
    }
    shapes
}

fn visit(model: &Model, n: NodeId, shapes: &mut Shapes, declared: &BTreeMap<ValueId, Fact>) {
    let node = model.node(n);
    if node.is_standard() && node.op_type() == "Constant" {
        if let Some(v) = node.output(0) {
            shapes.facts[v.index()] = constant_fact(model, v).or_else(|| literal(node));
        }
        return;
    }
    let inputs = shapes.inputs(node);
    let result = ops::lookup(model, node).and_then(|(row, version)| {
        let call = Call { node, version, inputs: &inputs };
        let mut effect = (row.rule)(&call)?;
        let small = |f: &Fact| f.shape.as_ref().is_some_and(|s| s.iter().product::<usize>() <= TRACED);
        if effect.outputs.iter().all(|f| small(f) && f.value.is_none()) {
            let values: Vec<Option<&Tensor>> = inputs.iter().map(|f| f.and_then(|f| f.value.as_ref())).collect();
            // An optional input that is left out is `None` too; the kernels know which they need.
            let complete = (0..inputs.len()).all(|i| values[i].is_some() || node.input(i).is_none());
            if complete && let Some(outputs) = ops::evaluate(row, &call, &effect, &values) {
                for (fact, value) in effect.outputs.iter_mut().zip(outputs) {
                    fact.dtype = Some(value.dtype());
                    fact.value = (fact.shape.as_deref() == Some(value.shape())).then_some(value);
                }
            }
        }
        Ok(effect)
    });
    for (i, v) in node.outputs().iter().enumerate() {
        let Some(v) = *v else { continue };
        let fact = result.as_ref().ok().and_then(|e| e.outputs.get(i).cloned());
        shapes.facts[v.index()] = fact.or_else(|| declared.get(&v).cloned());
    }
    shapes.effects[n.index()] = Some(result);
}

fn constant_fact(model: &Model, value: ValueId) -> Option<Fact> {
    let proto = model.constant(value)?;
    let shape: Vec<usize> = proto.dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<_>>()?;
    let small = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).is_some_and(|n| n <= TRACED);
    let content = small.then(|| Tensor::from_proto(proto).ok()).flatten();
    Some(Fact { dtype: proto.data_type.and_then(|t| DataType::try_from(t).ok()), shape: Some(shape), value: content })
}

/// The content of a stored constant, whatever its size and however a `Constant` node spells it. Shared, not copied.
pub fn stored(model: &Model, value: ValueId) -> Option<Tensor> {
    if let Some(proto) = model.constant(value) {
        return Tensor::from_proto(proto).ok();
    }
    match model.value(value).def() {
        Def::Node(n, 0) if model.node(n).is_standard() && model.node(n).op_type() == "Constant" => {
            literal(model.node(n))?.value
        }
        _ => None,
    }
}

/// `Constant` nodes that hold plain numbers instead of a tensor.
fn literal(node: &crate::ir::Node) -> Option<Fact> {
    let attribute = node.attributes().first()?;
    let tensor = match attribute.name() {
        "value_int" => Tensor::from_i64(&[], &[attribute.i?]),
        "value_ints" => Tensor::from_i64(&[attribute.ints.len()], &attribute.ints),
        "value_float" => Tensor::from_f32(&[], &[attribute.f?]),
        "value_floats" => Tensor::from_f32(&[attribute.floats.len()], &attribute.floats),
        _ => return None,
    };
    Some(Fact { value: Some(tensor.clone()), ..Fact::new(Some(tensor.dtype()), tensor.shape().to_vec()) })
}

/// Whether an effect is a contraction.
pub fn contraction(effect: &Effect) -> Option<&ops::Contraction> {
    match &effect.action {
        Action::Contract(c) => Some(c),
        _ => None,
    }
}
