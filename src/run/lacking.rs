//! What the interpreter lacks and can be computed away.
//!
//! Calls of the model's own functions are inlined, and constants of element types that the interpreter does not have
//! (of four bits, floats of eight) are turned into numbers by the kernels that the analysis folds constants with.

use super::{CannotRun, convert};
use crate::analysis::{Sizes, evaluate_constant, infer};
use crate::ir::{Model, ValueId};
use crate::onnx::proto::{GraphProto, ModelProto};
use crate::onnx::tensor::{DataType, Tensor};
use std::collections::BTreeMap;

/// The model without what the interpreter lacks, as far as it can be had; `None` where it lacks nothing.
pub(super) fn without(model: &ModelProto) -> Result<Option<ModelProto>, CannotRun> {
    let foreign = model.graph.as_ref().is_some_and(has_foreign);
    if model.functions.is_empty() && !foreign {
        return Ok(None);
    }
    let mut model = Model::import(model.clone()).map_err(|e| CannotRun::new(None, e.to_string()))?;
    if let Some((call, why)) = model.inline_all().refused.into_iter().next() {
        return Err(CannotRun::new(Some(&model.label(call)), why.to_string()));
    }
    if foreign {
        compute_foreign(&mut model);
    }
    Ok(Some(model.export()))
}

fn is_foreign(dtype: Option<i32>) -> bool {
    dtype.and_then(|t| DataType::try_from(t).ok()).is_some_and(|t| convert::datum_type(t).is_none())
}

fn has_foreign(graph: &GraphProto) -> bool {
    let attributes = || graph.node.iter().flat_map(|n| &n.attribute);
    graph.initializer.iter().any(|t| is_foreign(t.data_type))
        || attributes().any(|a| a.t.as_ref().is_some_and(|t| is_foreign(t.data_type)))
        || attributes().flat_map(|a| a.g.iter().chain(&a.graphs)).any(has_foreign)
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
