//! Shapes, element types and small constant values of everything, under one assignment of sizes.
//!
//! Guarantees: a shape that is stated follows from the operator table, from the inputs and from constants; a value
//! whose shape depends on data has none. Refuses nothing: what a rule does not cover is recorded as that node's
//! refusal, and its outputs fall back to what the file declares.

use super::nested::Bodies;
use super::size::{Sizes, fed_inputs};
use crate::ir::{Def, Model, NodeId, ValueId};
use crate::onnx::proto::TensorProto;
use crate::onnx::tensor::{DataType, Tensor, bits_per_element};
use crate::ops::{self, Action, Call, Effect, Fact, Operand, Refusal};
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
        let declared = declared.map(bounded);
        shapes.facts[value.index()] = declared.map(|(dtype, shape)| Fact { dtype, shape, value: None });
    }
    let mut declared: BTreeMap<ValueId, Fact> = BTreeMap::new();
    for g in model.live_graphs() {
        let graph = model.graph(g);
        for &v in graph.initializers() {
            shapes.facts[v.index()] = constant_fact(model, v);
        }
        for port in graph.value_info().iter().chain(graph.outputs()).chain(graph.inputs()) {
            if let Some((dtype, shape)) =
                port.info.r#type.as_ref().and_then(|t| shapes.sizes.shape(None, t)).map(bounded)
            {
                declared.insert(port.value, Fact { dtype, shape, value: None });
            }
        }
    }
    for g in model.live_graphs().into_iter().skip(1) {
        for port in model.graph(g).inputs().iter().filter(|p| model.value(p.value).def() == Def::Input) {
            shapes.facts[port.value.index()] = declared.get(&port.value).cloned();
        }
    }
    Bodies::new(model, &declared).graph(model.main(), &mut shapes);
    shapes
}

/// What one node without bodies does, given what is known of its inputs.
pub(super) fn visit(model: &Model, n: NodeId, shapes: &mut Shapes, declared: &BTreeMap<ValueId, Fact>) {
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
        coherent(&effect, &inputs)?;
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

/// Elements and axes beyond which a shape is not believed. With both bounded, rules may multiply a few extents without
/// a thought of overflow; an axis of extent 0 does not make the others harmless.
const MOST_ELEMENTS: usize = 1 << 40;
const MOST_AXES: usize = 64;

fn within_bounds(shape: &[usize]) -> bool {
    let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1)));
    shape.len() <= MOST_AXES && elements.is_some_and(|n| n <= MOST_ELEMENTS)
}

fn bounded<T>((dtype, shape): (T, Option<Vec<usize>>)) -> (T, Option<Vec<usize>>) {
    (dtype, shape.filter(|s| within_bounds(s)))
}

/// Whether a constant has content for its elements; one that has not has no shape either, so that nothing here is
/// ever larger than the file allows.
fn payload_fits(proto: &TensorProto, elements: usize) -> bool {
    if let Some(raw) = &proto.raw_data {
        let bits = DataType::try_from(proto.data_type.unwrap_or(0)).ok().and_then(bits_per_element);
        return bits.is_none_or(|b| elements.saturating_mul(b).div_ceil(8) == raw.len());
    }
    let entries = proto.float_data.len()
        + proto.int32_data.len()
        + proto.int64_data.len()
        + proto.double_data.len()
        + proto.uint64_data.len()
        + proto.string_data.len();
    // An entry holds up to four elements of two bits.
    elements <= entries.saturating_mul(4)
}

/// What every rule's answer must satisfy, whatever the operator: shapes within bounds, and operands that lie in the
/// output as the action says. Rules state how operands align; that the extents agree is checked here.
fn coherent(effect: &Effect, inputs: &[Option<&Fact>]) -> Result<(), Refusal> {
    let invalid = |text: String| Err(Refusal::Invalid(text));
    for shape in effect.outputs.iter().filter_map(|f| f.shape.as_ref()) {
        if !within_bounds(shape) {
            return invalid(format!("an output of shape {shape:?} is larger than anything that can be computed"));
        }
    }
    let input = |i: usize| inputs.get(i).copied().flatten().and_then(|f| f.shape.as_deref());
    let output = effect.outputs.first().and_then(|f| f.shape.as_deref());
    let aligned = |operand: &Operand| {
        let (Some(own), Some(out)) = (input(operand.input), output) else { return true };
        let own = operand.seen(own);
        let fits = |(d, to): (&usize, &Option<usize>)| to.is_none_or(|to| *d == 1 || out.get(to) == Some(d));
        own.len() == operand.axes.len() && own.iter().zip(&operand.axes).all(fits)
    };
    let operands: &[Operand] = match &effect.action {
        Action::Map(operands) => operands,
        Action::Contract(c) => &c.also,
        _ => &[],
    };
    if let Some(bad) = operands.iter().find(|o| !aligned(o)) {
        return invalid(format!(
            "input {} of shape {:?} does not fit the output {output:?}",
            bad.input,
            input(bad.input)
        ));
    }
    let Action::Contract(c) = &effect.action else { return Ok(()) };
    let mut extents: BTreeMap<char, usize> = BTreeMap::new();
    for view in c.operands.iter().chain([&c.output]) {
        let letters = || view.letters.iter().zip(&view.shape);
        if view.letters.len() != view.shape.len()
            || letters().any(|(&l, &d)| *extents.entry(l).or_insert(d) != d)
            || !within_bounds(&view.shape)
        {
            return invalid(format!(
                "the operands of the product do not agree: {:?} as {:?}",
                view.shape, view.letters
            ));
        }
    }
    for view in &c.operands {
        let elements = |s: &[usize]| s.iter().product::<usize>();
        if input(view.input).is_some_and(|own| elements(own) != elements(&view.shape)) {
            return invalid(format!("input {} does not have the elements of {:?}", view.input, view.shape));
        }
    }
    Ok(())
}

fn constant_fact(model: &Model, value: ValueId) -> Option<Fact> {
    let proto = model.constant(value)?;
    let shape: Vec<usize> = proto.dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<_>>()?;
    let shape = Some(shape).filter(|s| within_bounds(s) && payload_fits(proto, s.iter().product()))?;
    let small = shape.iter().product::<usize>() <= TRACED;
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
