//! What a model costs: parameters, multiply-accumulates, bytes.

use super::infer::{Shapes, contraction};
use crate::ir::{Model, NodeId, ValueId};
use crate::onnx::tensor::{DataType, bits_per_element};
use std::collections::BTreeSet;

/// Cost of one node, or of a whole model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Learned numbers: weights, biases, scales and shifts; running statistics not, as the literature counts.
    pub params: u64,
    /// Running means and variances; some counts in the literature include them.
    pub statistics: u64,
    /// Multiply-accumulates of convolutions and matrix products, for one item of the batch.
    pub macs: u64,
    /// Stored constants, in bytes.
    pub bytes: u64,
}

/// Cost of each node that has any, in execution order. A constant counts at its first reader.
pub fn node_costs(model: &Model, shapes: &Shapes) -> Vec<(NodeId, Cost)> {
    let mut counted: BTreeSet<ValueId> = BTreeSet::new();
    let batch = batch(model, shapes);
    let mut out = Vec::new();
    for n in model.walk() {
        let node = model.node(n);
        let mut cost = Cost::default();
        if let Some(Ok(effect)) = shapes.effect(n)
            && let Some(c) = contraction(effect)
        {
            cost.macs = c.macs / batch;
        }
        for (i, v) in node.inputs().iter().enumerate() {
            let Some(v) = *v else { continue };
            let Some(proto) = model.constant(v).filter(|_| counted.insert(v)) else { continue };
            let Some(dtype) = proto.data_type.and_then(|t| DataType::try_from(t).ok()) else { continue };
            // Constants that contradict their own shape have none.
            let Some(shape) = shapes.shape(v) else { continue };
            let elements = shape.iter().product::<usize>() as u64;
            cost.bytes += elements.saturating_mul(bits_per_element(dtype).unwrap_or(0) as u64).div_ceil(8);
            // Mean and variance are statistics, integers of 32 bits and more are shapes, indices or biases in units
            // of a quantised product.
            if crate::ops::lookup(model, node).is_ok_and(|(row, _)| row.statistics.contains(&i)) {
                cost.statistics += elements;
            } else if !matches!(dtype, DataType::Int64 | DataType::Bool | DataType::String) {
                cost.params += elements;
            }
        }
        if cost != Cost::default() {
            out.push((n, cost));
        }
    }
    out
}

/// Cost of the whole model.
pub fn cost(model: &Model, shapes: &Shapes) -> Cost {
    node_costs(model, shapes).into_iter().fold(Cost::default(), |a, (_, b)| Cost {
        params: a.params + b.params,
        statistics: a.statistics + b.statistics,
        macs: a.macs.saturating_add(b.macs),
        bytes: a.bytes + b.bytes,
    })
}

/// Items in the batch under this assignment: the first extent of the first input where that is symbolic.
pub fn batch(model: &Model, shapes: &Shapes) -> u64 {
    use crate::onnx::proto::{tensor_shape_proto::dimension, type_proto};
    let first = super::size::fed_inputs(model).into_iter().find_map(|(v, ty)| {
        let Some(type_proto::Value::TensorType(t)) = &ty?.value else { return None };
        let dim = t.shape.as_ref()?.dim.first()?;
        let fixed = matches!(dim.value, Some(dimension::Value::DimValue(d)) if d > 0);
        (!fixed).then(|| shapes.shape(v)?.first().copied())?
    });
    first.unwrap_or(1).max(1) as u64
}
