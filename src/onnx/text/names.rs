//! The words of the syntax: element types, attribute types, identifiers.

use crate::onnx::proto::{attribute_proto::AttributeType, tensor_proto::DataType};

/// Element types and how they are written. Types that are missing here cannot be written.
const ELEMENTS: &[(&str, DataType)] = &[
    ("float", DataType::Float),
    ("uint8", DataType::Uint8),
    ("int8", DataType::Int8),
    ("uint16", DataType::Uint16),
    ("int16", DataType::Int16),
    ("int32", DataType::Int32),
    ("int64", DataType::Int64),
    ("string", DataType::String),
    ("bool", DataType::Bool),
    ("float16", DataType::Float16),
    ("double", DataType::Double),
    ("uint32", DataType::Uint32),
    ("uint64", DataType::Uint64),
    ("complex64", DataType::Complex64),
    ("complex128", DataType::Complex128),
    ("bfloat16", DataType::Bfloat16),
    ("float8e4m3fn", DataType::Float8e4m3fn),
    ("float8e4m3fnuz", DataType::Float8e4m3fnuz),
    ("float8e5m2", DataType::Float8e5m2),
    ("float8e5m2fnuz", DataType::Float8e5m2fnuz),
    ("float8e8m0", DataType::Float8e8m0),
    ("uint4", DataType::Uint4),
    ("int4", DataType::Int4),
    ("float4e2m1", DataType::Float4e2m1),
    ("uint2", DataType::Uint2),
    ("int2", DataType::Int2),
];

/// Attribute types and how they are written, each with the type of one element if it is a list.
const ATTRIBUTES: &[(&str, AttributeType, Option<AttributeType>)] = &[
    ("float", AttributeType::Float, None),
    ("int", AttributeType::Int, None),
    ("string", AttributeType::String, None),
    ("tensor", AttributeType::Tensor, None),
    ("graph", AttributeType::Graph, None),
    ("sparse_tensor", AttributeType::SparseTensor, None),
    ("type_proto", AttributeType::TypeProto, None),
    ("floats", AttributeType::Floats, Some(AttributeType::Float)),
    ("ints", AttributeType::Ints, Some(AttributeType::Int)),
    ("strings", AttributeType::Strings, Some(AttributeType::String)),
    ("tensors", AttributeType::Tensors, Some(AttributeType::Tensor)),
    ("graphs", AttributeType::Graphs, Some(AttributeType::Graph)),
    ("sparse_tensors", AttributeType::SparseTensors, Some(AttributeType::SparseTensor)),
    ("type_protos", AttributeType::TypeProtos, Some(AttributeType::TypeProto)),
];

pub(super) fn element_type(word: &str) -> Option<DataType> {
    ELEMENTS.iter().find(|(name, _)| *name == word).map(|(_, dtype)| *dtype)
}

pub(super) fn element_name(dtype: i32) -> Option<&'static str> {
    ELEMENTS.iter().find(|(_, known)| *known as i32 == dtype).map(|(name, _)| *name)
}

pub(super) fn attribute_type(word: &str) -> Option<AttributeType> {
    ATTRIBUTES.iter().find(|(name, ..)| *name == word).map(|(_, kind, _)| *kind)
}

pub(super) fn attribute_name(kind: AttributeType) -> Option<&'static str> {
    ATTRIBUTES.iter().find(|(_, known, _)| *known == kind).map(|(name, ..)| *name)
}

/// The type of one element of an attribute that is a list.
pub(super) fn element_of(list: AttributeType) -> Option<AttributeType> {
    ATTRIBUTES.iter().find(|(_, known, _)| *known == list).and_then(|(.., element)| *element)
}

/// The list whose elements are of this type.
pub(super) fn list_of(element: AttributeType) -> Option<AttributeType> {
    ATTRIBUTES.iter().find(|(.., known)| *known == Some(element)).map(|(_, list, _)| *list)
}

/// Whether a type begins with this word.
pub(super) fn begins_type(word: &str) -> bool {
    element_type(word).is_some() || matches!(word, "seq" | "map" | "optional" | "sparse_tensor" | "opaque")
}

/// Whether the word, after a sign perhaps, is a number all the same.
pub(super) fn is_special_float(word: &str) -> bool {
    ["inf", "infinity", "nan"].iter().any(|special| word.eq_ignore_ascii_case(special))
}

/// Whether a name can be written without quotes.
pub(super) fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
