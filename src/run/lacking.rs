//! What the interpreter lacks and can be computed away.
//!
//! Calls of the model's own functions are inlined, constants of element types that the interpreter does not have
//! (of four bits, floats of eight) are turned into numbers by the kernels that the analysis folds constants with, and a
//! Softplus, which overflows there, is spelled in operators that do not.

use super::{CannotRun, convert};
use crate::analysis::{Sizes, evaluate_constant, infer};
use crate::ir::{Model, ValueId};
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto};
use crate::onnx::tensor::{DataType, Tensor};
use std::collections::BTreeMap;

/// The model without what the interpreter lacks, as far as it can be had; `None` where it lacks nothing.
pub(super) fn without(model: &ModelProto) -> Result<Option<ModelProto>, CannotRun> {
    let foreign = model.graph.as_ref().is_some_and(has_foreign);
    let overflows = model.graph.as_ref().is_some_and(has_softplus);
    if model.functions.is_empty() && !foreign && !overflows {
        return Ok(None);
    }
    let mut proto = model.clone();
    if let Some(graph) = proto.graph.as_mut().filter(|_| overflows) {
        spell_softplus(graph);
    }
    let mut model = Model::import(proto).map_err(|e| CannotRun::new(None, e.to_string()))?;
    if let Some((call, why)) = model.inline_all().refused.into_iter().next() {
        return Err(CannotRun::new(Some(&model.label(call)), why.to_string()));
    }
    if foreign {
        compute_foreign(&mut model);
    }
    Ok(Some(model.export()))
}

fn is_softplus(node: &NodeProto) -> bool {
    node.op_type() == "Softplus" && matches!(node.domain(), "" | "ai.onnx")
}

fn bodies(graph: &GraphProto) -> impl Iterator<Item = &GraphProto> {
    graph.node.iter().flat_map(|n| &n.attribute).flat_map(|a| a.g.iter().chain(&a.graphs))
}

fn has_softplus(graph: &GraphProto) -> bool {
    graph.node.iter().any(is_softplus) || bodies(graph).any(has_softplus)
}

/// The logarithm of 1 + exp(x) is relu(x) - log(sigmoid(|x|)), of which no part overflows.
fn spell_softplus(graph: &mut GraphProto) {
    let nodes = std::mem::take(&mut graph.node);
    for mut node in nodes {
        for attribute in &mut node.attribute {
            attribute.g.iter_mut().for_each(spell_softplus);
            attribute.graphs.iter_mut().for_each(spell_softplus);
        }
        let (true, [x], [y]) = (is_softplus(&node), &node.input[..], &node.output[..]) else {
            graph.node.push(node);
            continue;
        };
        let part = |what: &str| format!("{y}.softplus.{what}");
        let made = |op: &str, inputs: &[&str], output: String| NodeProto {
            op_type: Some(op.to_owned()),
            name: node.name.clone(),
            input: inputs.iter().map(|&i| i.to_owned()).collect(),
            output: vec![output],
            ..Default::default()
        };
        graph.node.extend([
            made("Abs", &[x], part("abs")),
            made("Sigmoid", &[&part("abs")], part("sigmoid")),
            made("Log", &[&part("sigmoid")], part("log")),
            made("Relu", &[x], part("relu")),
            made("Sub", &[&part("relu"), &part("log")], y.clone()),
        ]);
    }
}

fn is_foreign(dtype: Option<i32>) -> bool {
    dtype.and_then(|t| DataType::try_from(t).ok()).is_some_and(|t| convert::datum_type(t).is_none())
}

fn has_foreign(graph: &GraphProto) -> bool {
    let mut attributes = graph.node.iter().flat_map(|n| &n.attribute);
    graph.initializer.iter().any(|t| is_foreign(t.data_type))
        || attributes.any(|a| a.t.as_ref().is_some_and(|t| is_foreign(t.data_type)))
        || bodies(graph).any(has_foreign)
}

/// Stores what nodes make of constants of foreign types, where that is of a type that the interpreter has.
fn compute_foreign(model: &mut Model) {
    let Some(sizes) = Sizes::candidates(&BTreeMap::new()).next() else { return };
    let shapes = infer(model, sizes);
    let foreign = |v: ValueId| shapes.fact(v).and_then(|f| f.dtype).is_some_and(|t| is_foreign(Some(t as i32)));
    let mut known: Vec<(ValueId, Tensor)> = Vec::new();
    for n in model.walk() {
        let node = model.node(n);
        let reads = node.inputs().iter().flatten().any(|&v| foreign(v));
        let makes = node.outputs().iter().flatten().all(|&v| !foreign(v));
        if let (true, true, Some(v)) = (reads, makes, node.output(0))
            && let Some(tensor) = evaluate_constant(model, &shapes, v)
        {
            known.push((v, tensor));
        }
    }
    for (v, tensor) in &known {
        model.make_initializer(*v, tensor);
    }
    model.sweep();
}
