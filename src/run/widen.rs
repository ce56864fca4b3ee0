//! Half precision, computed in single.
//!
//! The interpreter lacks some operators on 16-bit floats, and statistics want more digits than they have. Guarantees:
//! the same model with every 16-bit float replaced by a 32-bit one of the same value.

use crate::onnx::proto::{AttributeProto, GraphProto, ModelProto, TensorProto, TypeProto, type_proto};
use crate::onnx::tensor::{DataType, Tensor};

fn is_half(dtype: i32) -> bool {
    dtype == DataType::Float16 as i32 || dtype == DataType::Bfloat16 as i32
}

/// A tensor with its halves widened.
pub(super) fn tensor(tensor: &Tensor) -> Tensor {
    match tensor.to_f32() {
        Some(values) if is_half(tensor.dtype() as i32) => Tensor::from_f32(tensor.shape(), &values),
        _ => tensor.clone(),
    }
}

/// Widens every half in a model.
pub(super) fn model(model: &mut ModelProto) {
    model.graph.iter_mut().for_each(graph);
    for function in &mut model.functions {
        function.node.iter_mut().flat_map(|n| &mut n.attribute).for_each(attribute);
    }
}

fn graph(graph: &mut GraphProto) {
    graph.initializer.iter_mut().for_each(stored);
    let infos = [&mut graph.input, &mut graph.output, &mut graph.value_info];
    infos.into_iter().flatten().filter_map(|i| i.r#type.as_mut()).for_each(declared);
    graph.node.iter_mut().flat_map(|n| &mut n.attribute).for_each(attribute);
}

/// The attributes by which nodes name an element type are integers of these names.
fn attribute(attribute: &mut AttributeProto) {
    if matches!(attribute.name(), "to" | "dtype" | "output_dtype")
        && let Some(named) = attribute.i.as_mut().filter(|i| is_half(**i as i32))
    {
        *named = DataType::Float as i64;
    }
    attribute.t.iter_mut().chain(&mut attribute.tensors).for_each(stored);
    attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(graph);
}

fn declared(ty: &mut TypeProto) {
    if let Some(type_proto::Value::TensorType(t)) = ty.value.as_mut()
        && let Some(dtype) = t.elem_type.as_mut().filter(|t| is_half(**t))
    {
        *dtype = DataType::Float as i32;
    }
}

fn stored(proto: &mut TensorProto) {
    if is_half(proto.data_type.unwrap_or(0))
        && let Ok(half) = Tensor::from_proto(proto)
    {
        *proto = tensor(&half).to_proto(proto.name.as_deref().unwrap_or_default());
    }
}
