//! A model to text.
//!
//! How: one node, initializer or value a line, so that a change shows as the line it is. Comments that a line earns on
//! its way (what was elided, what was lost) are held back to its end.

use super::names::{attribute_name, begins_type, element_name, is_identifier, is_special_float};
use super::types::type_text;
use crate::onnx::proto::tensor_proto::{DataLocation, DataType};
use crate::onnx::proto::{attribute_proto::AttributeType, *};
use crate::onnx::tensor::Tensor;
use sha2::{Digest, Sha256};
use std::fmt::{Display, Write};

/// What [`print()`] writes.
#[derive(Debug, Clone, Default)]
pub struct PrintOptions {
    /// Tensors of more elements are written without their content. An initializer then looks like any other value of
    /// known type, and a comment gives the number of elements and the beginning of their SHA-256.
    pub elide_above: Option<usize>,
}

/// The model as text; see the module's documentation for what has no place in it.
pub fn print(model: &ModelProto, options: &PrintOptions) -> String {
    let mut printer = Printer { out: String::new(), comments: Vec::new(), options, depth: 0 };
    printer.model(model);
    printer.out
}

struct Printer<'a> {
    out: String,
    /// To be written at the end of the line.
    comments: Vec<String>,
    options: &'a PrintOptions,
    depth: usize,
}

impl Printer<'_> {
    fn put(&mut self, text: impl Display) {
        write!(self.out, "{text}").expect("strings take anything");
    }

    fn end_line(&mut self) {
        if !self.comments.is_empty() {
            // A name may hold a line break, which would end the comment within it.
            let comment = self.comments.drain(..).collect::<Vec<_>>().join("; ").replace(['\n', '\r'], " ");
            self.put(format_args!("  # {comment}"));
        }
        self.put('\n');
        for _ in 0..self.depth {
            self.put("  ");
        }
    }

    fn lost(&mut self, what: impl Display) {
        self.comments.push(format!("lost: {what}"));
    }

    fn list<T>(&mut self, items: &[T], separator: &str, mut item: impl FnMut(&mut Self, &T)) {
        for (i, one) in items.iter().enumerate() {
            if i > 0 {
                self.put(separator);
            }
            item(self, one);
        }
    }

    fn quoted(&mut self, text: &str) {
        self.put(format_args!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        if text.as_bytes() != bytes {
            self.lost("bytes that are not UTF-8");
        }
        self.quoted(&text);
    }

    /// A name where quotes are allowed. One that begins a type is quoted, since a type may stand in the same place.
    fn name(&mut self, name: &str) {
        if is_identifier(name) && !begins_type(name) { self.put(name) } else { self.quoted(name) }
    }

    /// A name where quotes are not allowed: whatever does not fit becomes `_`.
    fn bare(&mut self, name: &str) {
        if is_identifier(name) {
            return self.put(name);
        }
        self.lost(format_args!("the name \"{name}\""));
        let digit = name.starts_with(|c: char| c.is_ascii_digit());
        let fitted: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        self.put(if digit || name.is_empty() { "_" } else { "" });
        self.put(fitted);
    }

    /// One dot-separated name after another.
    fn dotted(&mut self, name: &str) {
        let parts: Vec<&str> = name.split('.').collect();
        self.list(&parts, ".", |p, part| p.bare(part));
    }

    fn model(&mut self, model: &ModelProto) {
        let mut properties: Vec<(&str, Property)> = Vec::new();
        properties.extend(model.ir_version.map(|v| ("ir_version", Property::Number(v))));
        properties.push(("opset_import", Property::Opsets(&model.opset_import)));
        let texts = [
            ("producer_name", &model.producer_name),
            ("producer_version", &model.producer_version),
            ("domain", &model.domain),
        ];
        properties.extend(texts.into_iter().filter_map(|(key, text)| Some((key, Property::Text(text.as_ref()?)))));
        properties.extend(model.model_version.map(|v| ("model_version", Property::Number(v))));
        properties.extend(model.doc_string.as_ref().map(|text| ("doc_string", Property::Text(text))));
        if !model.metadata_props.is_empty() {
            properties.push(("metadata_props", Property::Entries(&model.metadata_props)));
        }
        self.properties(&properties);
        self.graph(model.graph.as_ref().unwrap_or(&GraphProto::default()), false);
        self.end_line();
        for function in &model.functions {
            self.end_line();
            self.function(function);
        }
    }

    fn properties(&mut self, properties: &[(&str, Property)]) {
        self.put("<");
        self.depth += 1;
        self.end_line();
        for (i, (key, value)) in properties.iter().enumerate() {
            self.put(format_args!("{key}: "));
            match value {
                Property::Number(number) => self.put(number),
                Property::Text(text) => self.quoted(text),
                Property::Opsets(opsets) => {
                    self.put('[');
                    self.list(opsets, ", ", |p, opset| {
                        p.quoted(opset.domain());
                        p.put(format_args!(" : {}", opset.version()));
                    });
                    self.put(']');
                }
                Property::Entries(entries) => self.entries(entries),
            }
            if i + 1 == properties.len() {
                self.depth -= 1;
            } else {
                self.put(',');
            }
            self.end_line();
        }
        self.put('>');
        self.end_line();
    }

    fn entries(&mut self, entries: &[StringStringEntryProto]) {
        self.put('[');
        self.list(entries, ", ", |p, entry| {
            p.quoted(entry.key());
            p.put(": ");
            p.quoted(entry.value());
        });
        self.put(']');
    }

    /// A graph; one within an attribute can only have a plain name, since a string would be read as a string.
    fn graph(&mut self, graph: &GraphProto, inner: bool) {
        let name = graph.name();
        if !inner {
            self.name(name);
        } else if begins_type(name) || is_special_float(name) {
            self.lost(format_args!("the name \"{name}\""));
            self.put(format_args!("{name}_"));
        } else {
            self.bare(name);
        }
        self.put(" (");
        self.list(&graph.input, ", ", Self::value_info);
        self.put(") => (");
        self.list(&graph.output, ", ", Self::value_info);
        self.put(")");
        self.depth += 1;
        if !graph.initializer.is_empty() || !graph.value_info.is_empty() {
            self.end_line();
            self.put('<');
            let last = graph.initializer.len() + graph.value_info.len();
            self.depth += 1;
            for (i, tensor) in graph.initializer.iter().enumerate() {
                self.end_line();
                self.initializer(tensor);
                self.put(if i + 1 == last { "" } else { "," });
            }
            for (i, value) in graph.value_info.iter().enumerate() {
                self.end_line();
                self.value_info(value);
                self.put(if graph.initializer.len() + i + 1 == last { "" } else { "," });
            }
            self.depth -= 1;
            self.end_line();
            self.put('>');
        }
        self.depth -= 1;
        self.end_line();
        self.nodes(&graph.node);
    }

    fn nodes(&mut self, nodes: &[NodeProto]) {
        self.put('{');
        self.depth += 1;
        for node in nodes {
            self.end_line();
            self.node(node);
        }
        self.depth -= 1;
        self.end_line();
        self.put('}');
    }

    fn function(&mut self, function: &FunctionProto) {
        let mut properties = Vec::new();
        properties.extend(function.domain.as_ref().map(|text| ("domain", Property::Text(text))));
        properties.extend(function.overload.as_ref().map(|text| ("overload", Property::Text(text))));
        properties.push(("opset_import", Property::Opsets(&function.opset_import)));
        properties.extend(function.doc_string.as_ref().map(|text| ("doc_string", Property::Text(text))));
        self.properties(&properties);
        self.name(function.name());
        self.put(' ');
        if !function.attribute.is_empty() || !function.attribute_proto.is_empty() {
            self.put('<');
            self.list(&function.attribute, ", ", |p, name| p.name(name));
            if !function.attribute.is_empty() && !function.attribute_proto.is_empty() {
                self.put(", ");
            }
            self.list(&function.attribute_proto, ", ", |p, attribute| p.attribute(attribute, true));
            self.put("> ");
        }
        self.put('(');
        self.list(&function.input, ", ", |p, name| p.name(name));
        self.put(") => (");
        self.list(&function.output, ", ", |p, name| p.name(name));
        self.put(")");
        self.end_line();
        if !function.value_info.is_empty() {
            self.put('<');
            self.list(&function.value_info, ", ", Self::value_info);
            self.put('>');
            self.end_line();
        }
        self.nodes(&function.node);
        self.end_line();
    }

    fn node(&mut self, node: &NodeProto) {
        if let Some(name) = &node.name {
            self.put('[');
            self.name(name);
            self.put("] ");
        }
        self.list(&node.output, ", ", |p, name| p.name(name));
        self.put(if node.output.is_empty() { "= " } else { " = " });
        if !node.domain().is_empty() {
            self.dotted(node.domain());
            self.put('.');
        }
        self.bare(node.op_type());
        if !node.overload().is_empty() {
            self.put(':');
            self.bare(node.overload());
        }
        let expressible = |attribute: &&AttributeProto| {
            let sparse = [AttributeType::SparseTensor, AttributeType::SparseTensors];
            is_identifier(attribute.name())
                && !kind(attribute).is_none_or(|kind| sparse.contains(&kind) && attribute.ref_attr_name.is_none())
        };
        let (kept, dropped): (Vec<_>, Vec<_>) = node.attribute.iter().partition(expressible);
        // A graph is long, and better read after the inputs.
        let graphs = kept.iter().any(|a| a.g.is_some() || !a.graphs.is_empty());
        if !graphs {
            self.attributes(&kept);
        }
        self.put(" (");
        self.list(&node.input, ", ", |p, name| p.name(name));
        self.put(')');
        if graphs {
            self.attributes(&kept);
        }
        for attribute in dropped {
            self.lost(format_args!("the attribute \"{}\"", attribute.name()));
        }
    }

    fn attributes(&mut self, attributes: &[&AttributeProto]) {
        if !attributes.is_empty() {
            self.put(" <");
            self.list(attributes, ", ", |p, attribute| p.attribute(attribute, false));
            self.put('>');
        }
    }

    fn attribute(&mut self, attribute: &AttributeProto, quotable: bool) {
        if quotable {
            self.name(attribute.name());
        } else {
            self.put(attribute.name());
        }
        let kind = kind(attribute);
        if let Some(name) = kind.and_then(attribute_name) {
            self.put(format_args!(": {name}"));
        }
        self.put(" = ");
        if let Some(reference) = &attribute.ref_attr_name {
            self.put('@');
            return self.name(reference);
        }
        match kind {
            Some(AttributeType::Int) => self.put(attribute.i()),
            Some(AttributeType::Float) => self.put(real(attribute.f())),
            Some(AttributeType::String) => self.bytes(attribute.s()),
            Some(AttributeType::Tensor) => self.constant(attribute.t.as_ref().unwrap_or(&TensorProto::default())),
            Some(AttributeType::Graph) => self.graph(attribute.g.as_ref().unwrap_or(&GraphProto::default()), true),
            Some(AttributeType::TypeProto) => self.type_or_lost(attribute.tp.as_ref()),
            _ => {
                self.put('[');
                self.list(&attribute.ints, ", ", |p, i| p.put(i));
                self.list(&attribute.floats, ", ", |p, f| p.put(real(*f)));
                self.list(&attribute.strings, ", ", |p, s| p.bytes(s));
                self.list(&attribute.tensors, ", ", Self::constant);
                self.list(&attribute.graphs, ", ", |p, graph| p.graph(graph, true));
                self.list(&attribute.type_protos, ", ", |p, of| p.type_or_lost(Some(of)));
                self.put(']');
            }
        }
    }

    fn value_info(&mut self, value: &ValueInfoProto) {
        // A type that holds nothing says nothing, and nothing is lost with it.
        match value.r#type.as_ref().filter(|of| of.value.is_some()).map(type_text) {
            Some(Some(text)) => self.put(format_args!("{text} ")),
            Some(None) => self.lost(format_args!("the type of \"{}\"", value.name())),
            None => {}
        }
        self.name(value.name());
    }

    fn type_or_lost(&mut self, of: Option<&TypeProto>) {
        match of.and_then(type_text) {
            Some(text) => self.put(text),
            None => {
                self.lost("a type");
                self.put("opaque()");
            }
        }
    }

    fn initializer(&mut self, tensor: &TensorProto) {
        self.tensor_type(tensor);
        self.put(' ');
        self.name(tensor.name());
        self.payload(tensor, " = ", "");
    }

    /// A tensor as the value of an attribute, where only a plain name can stand.
    fn constant(&mut self, tensor: &TensorProto) {
        self.tensor_type(tensor);
        if is_identifier(tensor.name()) {
            self.put(format_args!(" {}", tensor.name()));
        } else if !tensor.name().is_empty() {
            self.lost(format_args!("the name \"{}\"", tensor.name()));
        }
        // Without its content it needs the sign of equality still, to be told from a type.
        self.payload(tensor, " = ", " =");
    }

    fn tensor_type(&mut self, tensor: &TensorProto) {
        match element_name(tensor.data_type()) {
            Some(name) => self.put(name),
            None => {
                self.lost(format_args!("the element type {}", tensor.data_type()));
                self.put("float");
            }
        }
        if !tensor.dims.is_empty() {
            self.put('[');
            self.list(&tensor.dims, ",", |p, dim| p.put(dim));
            self.put(']');
        }
    }

    fn payload(&mut self, tensor: &TensorProto, equals: &str, elided: &str) {
        let elements = tensor.dims.iter().fold(1usize, |n, &d| n.saturating_mul(usize::try_from(d).unwrap_or(0)));
        let long = self.options.elide_above.is_some_and(|limit| elements > limit);
        if tensor.data_location() == DataLocation::External && !long {
            self.put(equals);
            return self.entries(&tensor.external_data);
        }
        if tensor.data_type() == DataType::String as i32 && !long {
            self.put(equals);
            self.put('{');
            self.list(&tensor.string_data, ", ", |p, text| p.bytes(text));
            return self.put('}');
        }
        let content = Tensor::from_proto(tensor);
        match content.as_ref().ok().and_then(|content| if long { None } else { numbers(content) }) {
            Some(numbers) => self.put(format_args!("{equals}{{{numbers}}}")),
            None if long => {
                let digest = content.ok().map(|content| Sha256::digest(content.data()));
                let digest = digest.map(|d| d.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>());
                let digest = digest.map_or(String::new(), |hex| format!(", sha256 {hex}"));
                self.put(elided);
                self.comments.push(format!("{elements} elements{digest}"));
            }
            None => {
                self.put(elided);
                self.lost(format_args!("the content of \"{}\"", tensor.name()));
            }
        }
    }
}

/// Values of the properties of a model or function.
enum Property<'a> {
    Number(i64),
    Text(&'a str),
    Opsets(&'a [OperatorSetIdProto]),
    Entries(&'a [StringStringEntryProto]),
}

/// The type of an attribute, told from what it holds where it is not given, as before IR version 2.
fn kind(attribute: &AttributeProto) -> Option<AttributeType> {
    use AttributeType::*;
    match AttributeType::try_from(attribute.r#type.unwrap_or(0)) {
        Ok(Undefined) | Err(_) => {}
        Ok(kind) => return Some(kind),
    }
    let held = [
        (attribute.i.is_some(), Int),
        (attribute.f.is_some(), Float),
        (attribute.s.is_some(), String),
        (attribute.t.is_some(), Tensor),
        (attribute.g.is_some(), Graph),
        (attribute.tp.is_some(), TypeProto),
        (!attribute.ints.is_empty(), Ints),
        (!attribute.floats.is_empty(), Floats),
        (!attribute.strings.is_empty(), Strings),
        (!attribute.tensors.is_empty(), Tensors),
        (!attribute.graphs.is_empty(), Graphs),
        (!attribute.type_protos.is_empty(), TypeProtos),
        (attribute.ref_attr_name.is_some(), Undefined),
    ];
    held.into_iter().find(|(held, _)| *held).map(|(_, kind)| kind)
}

/// The shortest digits that are read back as the same number; always with a point or an exponent.
fn real<T: std::fmt::Debug + Copy + Into<f64>>(value: T) -> String {
    let wide: f64 = value.into();
    match wide.is_nan() {
        true if wide.is_sign_negative() => "-nan".to_owned(),
        true => "nan".to_owned(),
        false => format!("{value:?}"),
    }
}

/// The content as the parser takes it: numbers, or bit patterns for what has no digits of its own. Elements below
/// eight bits go by the byte.
fn numbers(tensor: &Tensor) -> Option<String> {
    use DataType::*;
    let data = tensor.data();
    Some(match tensor.dtype() {
        Float | Complex64 => join(data, |b| real(f32::from_le_bytes(b))),
        Double | Complex128 => join(data, |b| real(f64::from_le_bytes(b))),
        Int64 => join(data, |b| i64::from_le_bytes(b).to_string()),
        Uint64 => join(data, |b| u64::from_le_bytes(b).to_string()),
        Int32 => join(data, |b| i32::from_le_bytes(b).to_string()),
        Uint32 => join(data, |b| u32::from_le_bytes(b).to_string()),
        Int16 => join(data, |b| i16::from_le_bytes(b).to_string()),
        Uint16 | Float16 | Bfloat16 => join(data, |b| u16::from_le_bytes(b).to_string()),
        Int8 => join(data, |[b]: [u8; 1]| (b as i8).to_string()),
        String | Undefined | Float6e2m3 | Float6e3m2 => return None,
        _ => join(data, |[b]: [u8; 1]| b.to_string()),
    })
}

fn join<const N: usize>(data: &[u8], show: impl Fn([u8; N]) -> String) -> String {
    data.chunks_exact(N).map(|c| show(c.try_into().expect("chunks of N bytes"))).collect::<Vec<_>>().join(",")
}
