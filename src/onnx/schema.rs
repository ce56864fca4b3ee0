//! Which fields the ONNX messages have, as data: what [`super::wire`] walks a file against.
//!
//! Guarantees: lists exactly the fields of `proto/onnx-ml.proto`, which a test below holds against that file; so a
//! field that is not here is one that decoding would lose.

use super::proto::*;

/// One message type.
pub(super) struct Message {
    pub fields: &'static [Field],
    /// Bytes that the decoded struct itself takes.
    pub memory: usize,
}

/// One field of a message.
pub(super) struct Field {
    pub number: u32,
    pub name: &'static str,
    pub kind: Kind,
    pub repeated: bool,
}

/// How a field is encoded.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Varint,
    Fixed32,
    Fixed64,
    Bytes,
    Text,
    Message(&'static Message),
}

/// More than the fields of any message.
pub(super) const MOST_FIELDS: usize = 20;

macro_rules! kind {
    (int) => {
        Kind::Varint
    };
    (f32) => {
        Kind::Fixed32
    };
    (f64) => {
        Kind::Fixed64
    };
    (bytes) => {
        Kind::Bytes
    };
    (text) => {
        Kind::Text
    };
    ($message:ident) => {
        Kind::Message(&$message)
    };
}

macro_rules! repeated {
    () => {
        false
    };
    (s) => {
        true
    };
}

/// `NAME RustType { number field: kind, ... }`, where an `s` after the kind makes the field repeated.
macro_rules! messages {
    ($($id:ident $rust:ty { $($number:literal $name:ident: $kind:ident $($many:ident)?,)* })*) => {
        $(pub(super) static $id: Message = Message {
            fields: &[$(Field {
                number: $number,
                name: stringify!($name),
                kind: kind!($kind),
                repeated: repeated!($($many)?),
            }),*],
            memory: size_of::<$rust>(),
        };)*
        #[cfg(test)]
        static ALL: &[(&str, &Message)] = &[$((stringify!($rust), &$id)),*];
    };
}

messages! {
    MODEL ModelProto {
        1 ir_version: int, 2 producer_name: text, 3 producer_version: text, 4 domain: text, 5 model_version: int,
        6 doc_string: text, 7 graph: GRAPH, 8 opset_import: OPSET s, 14 metadata_props: ENTRY s,
        20 training_info: TRAINING s, 25 functions: FUNCTION s, 26 configuration: DEVICE s,
    }
    GRAPH GraphProto {
        1 node: NODE s, 2 name: text, 5 initializer: TENSOR s, 10 doc_string: text, 11 input: VALUE s,
        12 output: VALUE s, 13 value_info: VALUE s, 14 quantization_annotation: ANNOTATION s,
        15 sparse_initializer: SPARSE s, 16 metadata_props: ENTRY s,
    }
    NODE NodeProto {
        1 input: text s, 2 output: text s, 3 name: text, 4 op_type: text, 5 attribute: ATTRIBUTE s,
        6 doc_string: text, 7 domain: text, 8 overload: text, 9 metadata_props: ENTRY s,
        10 device_configurations: NODE_DEVICE s,
    }
    ATTRIBUTE AttributeProto {
        1 name: text, 2 f: f32, 3 i: int, 4 s: bytes, 5 t: TENSOR, 6 g: GRAPH, 7 floats: f32 s, 8 ints: int s,
        9 strings: bytes s, 10 tensors: TENSOR s, 11 graphs: GRAPH s, 13 doc_string: text, 14 tp: TYPE,
        15 type_protos: TYPE s, 20 type: int, 21 ref_attr_name: text, 22 sparse_tensor: SPARSE,
        23 sparse_tensors: SPARSE s,
    }
    TENSOR TensorProto {
        1 dims: int s, 2 data_type: int, 3 segment: SEGMENT, 4 float_data: f32 s, 5 int32_data: int s,
        6 string_data: bytes s, 7 int64_data: int s, 8 name: text, 9 raw_data: bytes, 10 double_data: f64 s,
        11 uint64_data: int s, 12 doc_string: text, 13 external_data: ENTRY s, 14 data_location: int,
        16 metadata_props: ENTRY s,
    }
    SEGMENT tensor_proto::Segment { 1 begin: int, 2 end: int, }
    SPARSE SparseTensorProto { 1 values: TENSOR, 2 indices: TENSOR, 3 dims: int s, }
    VALUE ValueInfoProto { 1 name: text, 2 type: TYPE, 3 doc_string: text, 4 metadata_props: ENTRY s, }
    TYPE TypeProto {
        1 tensor_type: TYPE_TENSOR, 4 sequence_type: TYPE_SEQUENCE, 5 map_type: TYPE_MAP, 6 denotation: text,
        7 opaque_type: TYPE_OPAQUE, 8 sparse_tensor_type: TYPE_SPARSE, 9 optional_type: TYPE_OPTIONAL,
    }
    TYPE_TENSOR type_proto::Tensor { 1 elem_type: int, 2 shape: SHAPE, }
    TYPE_SPARSE type_proto::SparseTensor { 1 elem_type: int, 2 shape: SHAPE, }
    TYPE_SEQUENCE type_proto::Sequence { 1 elem_type: TYPE, }
    TYPE_OPTIONAL type_proto::Optional { 1 elem_type: TYPE, }
    TYPE_MAP type_proto::Map { 1 key_type: int, 2 value_type: TYPE, }
    TYPE_OPAQUE type_proto::Opaque { 1 domain: text, 2 name: text, }
    SHAPE TensorShapeProto { 1 dim: DIMENSION s, }
    DIMENSION tensor_shape_proto::Dimension { 1 dim_value: int, 2 dim_param: text, 3 denotation: text, }
    OPSET OperatorSetIdProto { 1 domain: text, 2 version: int, }
    ENTRY StringStringEntryProto { 1 key: text, 2 value: text, }
    ANNOTATION TensorAnnotation { 1 tensor_name: text, 2 quant_parameter_tensor_names: ENTRY s, }
    FUNCTION FunctionProto {
        1 name: text, 4 input: text s, 5 output: text s, 6 attribute: text s, 7 node: NODE s, 8 doc_string: text,
        9 opset_import: OPSET s, 10 domain: text, 11 attribute_proto: ATTRIBUTE s, 12 value_info: VALUE s,
        13 overload: text, 14 metadata_props: ENTRY s,
    }
    TRAINING TrainingInfoProto {
        1 initialization: GRAPH, 2 algorithm: GRAPH, 3 initialization_binding: ENTRY s, 4 update_binding: ENTRY s,
    }
    DEVICE DeviceConfigurationProto { 1 name: text, 2 num_devices: int, 3 device: text s, }
    NODE_DEVICE NodeDeviceConfigurationProto {
        1 configuration_id: text, 2 sharding_spec: SHARDING s, 3 pipeline_stage: int,
    }
    SHARDING ShardingSpecProto {
        1 tensor_name: text, 2 device: int s, 3 index_to_device_group_map: INT_LIST s, 4 sharded_dim: SHARDED_DIM s,
    }
    INT_LIST IntIntListEntryProto { 1 key: int, 2 value: int s, }
    SHARDED_DIM ShardedDimProto { 1 axis: int, 2 simple_sharding: SIMPLE_SHARDING s, }
    SIMPLE_SHARDING SimpleShardedDimProto { 1 dim_value: int, 2 dim_param: text, 3 num_shards: int, }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// `Message.number name kind repeated` of every field that the official file declares.
    fn declared(source: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut scopes: Vec<(&str, &str)> = Vec::new();
        for line in source.lines() {
            let words: Vec<&str> = line.split("//").next().unwrap().split_whitespace().collect();
            match words.as_slice() {
                [kind @ ("message" | "enum" | "oneof"), name, "{"] => scopes.push((kind, name)),
                ["}" | "};"] => drop(scopes.pop()),
                words if !scopes.iter().any(|s| s.0 == "enum") => {
                    let Some(equals) = words.iter().position(|w| *w == "=").filter(|e| *e >= 2) else { continue };
                    let (ty, name) = (words[equals - 2], words[equals - 1]);
                    let number = words[equals + 1].trim_end_matches(';');
                    let Some((_, owner)) = scopes.iter().rev().find(|s| s.0 == "message") else { continue };
                    let kind = match ty {
                        "int64" | "int32" | "uint64" | "AttributeType" | "DataLocation" => "int",
                        "float" => "f32",
                        "double" => "f64",
                        "string" => "text",
                        other => other,
                    };
                    found.insert(format!("{owner}.{number} {name} {kind} {}", words[0] == "repeated"));
                }
                _ => {}
            }
        }
        found
    }

    #[test]
    fn table_lists_the_fields_of_the_official_schema() {
        let short = |rust: &'static str| rust.rsplit(':').next().unwrap().trim();
        let mut listed = BTreeSet::new();
        for (rust, message) in ALL {
            assert!(message.fields.len() < MOST_FIELDS);
            for field in message.fields {
                let kind = match field.kind {
                    Kind::Varint => "int",
                    Kind::Fixed32 => "f32",
                    Kind::Fixed64 => "f64",
                    Kind::Bytes => "bytes",
                    Kind::Text => "text",
                    Kind::Message(m) => short(ALL.iter().find(|(_, other)| std::ptr::eq(*other, m)).unwrap().0),
                };
                listed.insert(format!("{}.{} {} {kind} {}", short(rust), field.number, field.name, field.repeated));
            }
        }
        let official = declared(include_str!("proto/onnx-ml.proto"));
        let differ: Vec<_> = official.symmetric_difference(&listed).collect();
        assert!(official.len() > 100 && differ.is_empty(), "{} official, differ: {differ:#?}", official.len());
    }
}
