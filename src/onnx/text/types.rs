//! Types as the syntax writes them: `float[N, 3]`, `seq(float[N])`, `optional(int64[])`.

use super::names::{element_name, is_identifier};
use crate::onnx::proto::*;

/// The type in words; `None` if there are none for it.
pub(super) fn type_text(of: &TypeProto) -> Option<String> {
    use type_proto::Value::*;
    let inner = |of: &Option<Box<TypeProto>>| type_text(of.as_deref()?);
    Some(match of.value.as_ref()? {
        TensorType(of) => format!("{}{}", element_name(of.elem_type())?, shape_text(of.shape.as_ref())),
        SparseTensorType(of) => {
            format!("sparse_tensor({}{})", element_name(of.elem_type())?, shape_text(of.shape.as_ref()))
        }
        SequenceType(of) => format!("seq({})", inner(&of.elem_type)?),
        OptionalType(of) => format!("optional({})", inner(&of.elem_type)?),
        MapType(of) => format!("map({}, {})", element_name(of.key_type())?, inner(&of.value_type)?),
        OpaqueType(of) => {
            let plain = of.domain().split('.').chain([of.name()]).all(is_identifier);
            match (of.domain(), of.name()) {
                ("", "") => "opaque()".to_owned(),
                ("", name) if name.split('.').all(is_identifier) => format!("opaque({name})"),
                (domain, name) if plain => format!("opaque({domain}, {name})"),
                _ => return None,
            }
        }
    })
}

fn shape_text(shape: Option<&TensorShapeProto>) -> String {
    use tensor_shape_proto::dimension::Value::*;
    let Some(shape) = shape else { return "[]".to_owned() };
    let dims = shape.dim.iter().map(|dim| match &dim.value {
        None => "?".to_owned(),
        Some(DimValue(extent)) => extent.to_string(),
        Some(DimParam(symbol)) if is_identifier(symbol) => symbol.clone(),
        Some(DimParam(symbol)) => format!("\"{}\"", symbol.replace('\\', "\\\\").replace('"', "\\\"")),
    });
    if shape.dim.is_empty() { String::new() } else { format!("[{}]", dims.collect::<Vec<_>>().join(",")) }
}
