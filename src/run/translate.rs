//! A model's messages as tract's own, without a copy of the weights.
//!
//! Guarantees: every node carries a name from which an error of tract's is traced back to the node at fault, whatever
//! the model calls it; every input has the concrete shape asked for. Shapes that the file states for inner values are
//! left out: they may be symbolic or wrong, and tract works out its own.
//! Refuses: values and attributes that tract has no message for, such as sparse tensors.
//! How: tract reads external data through a trait. Each tensor of some size is declared external, its "offset" being
//! a place in a list of borrowed payloads, so that its bytes are copied once, into tract's tensor.

use super::{CannotRun, convert};
use crate::onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, tensor_shape_proto, type_proto,
};
use crate::onnx::tensor::{DataType, Tensor};
use bytes::Bytes;
use std::collections::HashSet;
use tract_onnx::data_resolver::ModelDataResolver;
use tract_onnx::pb;
use tract_onnx::prelude::{TractError, TractResult};
use tract_onnx::tract_hir::internal::format_err;

/// Smaller payloads are copied into the message.
const INLINE_BYTES: usize = 1 << 10;
/// Begins the name of every node handed to tract; its number follows.
const TAG: &str = "secateur.";

pub(super) struct Translation {
    pub model: pb::ModelProto,
    pub payloads: Payloads,
    pub labels: Labels,
    /// The element type declared for each output.
    pub outputs: Vec<Option<DataType>>,
}

/// The name of a node for a person: its own, or that of its first output.
pub(super) fn label(node: &NodeProto) -> &str {
    match node.name() {
        "" => node.output.iter().find(|o| !o.is_empty()).map_or("", |o| o),
        name => name,
    }
}

/// Bytes of tensors, given to tract on demand.
pub(super) struct Payloads(Vec<Bytes>);

impl ModelDataResolver for Payloads {
    fn read_bytes_from_path(
        &self,
        buffer: &mut Vec<u8>,
        _: &std::path::Path,
        place: usize,
        _: Option<usize>,
    ) -> TractResult<()> {
        let bytes = self.0.get(place).ok_or_else(|| format_err!("no payload {place}"))?;
        buffer.extend_from_slice(bytes);
        Ok(())
    }
}

/// From a name given to tract back to the node: its label and operator.
#[derive(Debug, Default)]
pub(super) struct Labels(Vec<(String, String)>);

impl Labels {
    fn push(&mut self, node: &NodeProto) -> String {
        self.0.push((label(node).to_owned(), node.op_type().to_owned()));
        format!("{TAG}{}", self.0.len() - 1)
    }

    pub(super) fn has_operator(&self, op: &str) -> bool {
        self.0.iter().any(|(_, o)| o == op)
    }

    fn find(&self, text: &str) -> Option<&(String, String)> {
        let after = &text[text.find(TAG)? + TAG.len()..];
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        self.0.get(after[..digits].parse::<usize>().ok()?)
    }

    /// The innermost node that `error` speaks of, else the one being worked `at`; the innermost cause is the reason.
    pub(super) fn blame(&self, error: &TractError, at: Option<&str>) -> CannotRun {
        let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
        let node = chain.iter().rev().find_map(|text| self.find(text)).or_else(|| self.find(at?));
        self.reason(node, chain.last().map_or("", |text| text))
    }

    pub(super) fn blame_panic(&self, message: &str, at: Option<&str>) -> CannotRun {
        self.reason(at.and_then(|name| self.find(name)), &format!("the interpreter panics: {message}"))
    }

    fn reason(&self, node: Option<&(String, String)>, text: &str) -> CannotRun {
        let mut text: String = text.lines().next().unwrap_or_default().chars().take(300).collect();
        if let Some((label, op)) = self.find(&text) {
            let place = text.find(TAG).expect("just found");
            let digits = text[place + TAG.len()..].bytes().take_while(u8::is_ascii_digit).count();
            text.replace_range(place..place + TAG.len() + digits, if label.is_empty() { op } else { label });
        }
        match node {
            Some((label, op)) => CannotRun::new(Some(label), format!("{op}: {text}")),
            None => CannotRun::new(None, text),
        }
    }
}

pub(super) fn model(model: &ModelProto, shapes: &[(String, DataType, Vec<usize>)]) -> Result<Translation, CannotRun> {
    let graph = model.graph.as_ref().ok_or_else(|| CannotRun::new(None, "the model has no graph"))?;
    let mut read = HashSet::new();
    names_read(graph, &mut read);
    let mut walk = Walk { read, payloads: Vec::new(), labels: Labels::default() };
    let mut translated = walk.graph(graph)?;

    let initialized: HashSet<&str> = graph.initializer.iter().map(TensorProto::name).collect();
    let mut taken = 0;
    let free = graph.input.iter().filter(|i| !initialized.contains(i.name()));
    for input in free {
        let Some((_, dtype, shape)) = shapes.iter().find(|(name, ..)| name == input.name()) else {
            return Err(CannotRun::new(None, format!("no shape is given for input '{}'", input.name())));
        };
        if let Some(declared) = element_type(input).filter(|declared| declared != dtype) {
            let reason = format!("input '{}' is of type {declared:?}, not {dtype:?}", input.name());
            return Err(CannotRun::new(None, reason));
        }
        if convert::datum_type(*dtype).is_none() {
            let reason = format!("input '{}' is of type {dtype:?}, which the interpreter lacks", input.name());
            return Err(CannotRun::new(None, reason));
        }
        let theirs = translated.input.iter_mut().find(|theirs| theirs.name == input.name()).expect("just translated");
        theirs.r#type = Some(tensor_type(*dtype as i32, Some(shape.iter().map(|&d| Some(d as i64)).collect())));
        taken += 1;
    }
    if taken != shapes.len() {
        return Err(CannotRun::new(None, format!("{} shapes are given for {taken} inputs", shapes.len())));
    }
    let default = |domain: &str| matches!(domain, "" | "ai.onnx");
    let opset = model.opset_import.iter().find(|o| default(o.domain())).map_or(0, |o| o.version());
    let model = pb::ModelProto {
        ir_version: model.ir_version(),
        opset_import: vec![pb::OperatorSetIdProto { domain: String::new(), version: opset }],
        graph: Some(translated),
        ..Default::default()
    };
    let outputs = graph.output.iter().map(element_type).collect();
    Ok(Translation { model, payloads: Payloads(walk.payloads), labels: walk.labels, outputs })
}

/// Every name that a node or a graph's end reads, in this graph and the bodies within.
fn names_read<'a>(graph: &'a GraphProto, read: &mut HashSet<&'a str>) {
    read.extend(graph.output.iter().map(ValueInfoProto::name));
    for node in &graph.node {
        read.extend(node.input.iter().map(String::as_str));
        node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)).for_each(|body| names_read(body, read));
    }
}

fn element_type(info: &ValueInfoProto) -> Option<DataType> {
    match info.r#type.as_ref()?.value.as_ref()? {
        type_proto::Value::TensorType(t) => DataType::try_from(t.elem_type()).ok(),
        _ => None,
    }
}

fn tensor_type(elem_type: i32, shape: Option<Vec<Option<i64>>>) -> pb::TypeProto {
    use pb::tensor_shape_proto::{Dimension, dimension::Value};
    let dimension = |d: Option<i64>| Dimension { value: d.map(Value::DimValue), ..Default::default() };
    let shape = shape.map(|dims| pb::TensorShapeProto { dim: dims.into_iter().map(dimension).collect() });
    let tensor = pb::type_proto::Tensor { elem_type, shape };
    pb::TypeProto { value: Some(pb::type_proto::Value::TensorType(tensor)), ..Default::default() }
}

struct Walk<'a> {
    read: HashSet<&'a str>,
    payloads: Vec<Bytes>,
    labels: Labels,
}

impl Walk<'_> {
    fn graph(&mut self, graph: &GraphProto) -> Result<pb::GraphProto, CannotRun> {
        let mut translated = pb::GraphProto { name: graph.name().to_owned(), ..Default::default() };
        if let Some(sparse) = graph.sparse_initializer.iter().filter_map(|s| s.values.as_ref()).next() {
            return Err(CannotRun::new(None, format!("initializer '{}' is a sparse tensor", sparse.name())));
        }
        for tensor in &graph.initializer {
            if self.read.contains(tensor.name()) {
                let reader = graph.node.iter().find(|n| n.input.iter().any(|i| i == tensor.name()));
                translated.initializer.push(self.tensor(tensor, reader.map(label))?);
            }
        }
        for info in &graph.input {
            // What an unread initializer leaves behind, as old files list every one, would become an input.
            if self.read.contains(info.name()) || !graph.initializer.iter().any(|t| t.name() == info.name()) {
                translated.input.push(value_info(info));
            }
        }
        for node in &graph.node {
            let theirs = self.node(node)?;
            translated.node.push(theirs);
        }
        let made: HashSet<&String> = graph.node.iter().flat_map(|node| &node.output).collect();
        let mut copies = Vec::new();
        for info in &graph.output {
            let mut theirs = value_info(info);
            if !made.contains(&theirs.name) {
                // tract forgets the type of an input or weight that is an output as well.
                let copy = NodeProto {
                    op_type: Some("Identity".to_owned()),
                    input: vec![theirs.name.clone()],
                    output: vec![format!("{TAG}copy.{}.{}", self.labels.0.len(), theirs.name)],
                    ..Default::default()
                };
                theirs.name = copy.output[0].clone();
                copies.push(self.node(&copy)?);
            }
            translated.output.push(theirs);
        }
        translated.node.extend(copies);
        Ok(translated)
    }

    fn node(&mut self, node: &NodeProto) -> Result<pb::NodeProto, CannotRun> {
        let name = self.labels.push(node);
        let attribute = node.attribute.iter().map(|a| self.attribute(a, node)).collect::<Result<_, _>>()?;
        Ok(pb::NodeProto {
            input: node.input.clone(),
            output: node.output.clone(),
            name,
            op_type: node.op_type().to_owned(),
            domain: node.domain().to_owned(),
            attribute,
            ..Default::default()
        })
    }

    fn attribute(&mut self, attribute: &AttributeProto, node: &NodeProto) -> Result<pb::AttributeProto, CannotRun> {
        let at = Some(label(node));
        let foreign = attribute.sparse_tensor.is_some()
            || !attribute.sparse_tensors.is_empty()
            || attribute.tp.is_some()
            || !attribute.type_protos.is_empty()
            || attribute.ref_attr_name.is_some();
        if foreign {
            let reason = format!("attribute '{}' is of a kind that the interpreter does not read", attribute.name());
            return Err(CannotRun::new(at, reason));
        }
        Ok(pb::AttributeProto {
            name: attribute.name().to_owned(),
            r#type: attribute.r#type.unwrap_or(0),
            f: attribute.f(),
            i: attribute.i(),
            s: attribute.s().to_vec(),
            t: attribute.t.as_ref().map(|t| self.tensor(t, at)).transpose()?,
            g: attribute.g.as_ref().map(|g| self.graph(g)).transpose()?,
            floats: attribute.floats.clone(),
            ints: attribute.ints.clone(),
            strings: attribute.strings.iter().map(|s| s.to_vec()).collect(),
            tensors: attribute.tensors.iter().map(|t| self.tensor(t, at)).collect::<Result<_, _>>()?,
            graphs: attribute.graphs.iter().map(|g| self.graph(g)).collect::<Result<_, _>>()?,
            ..Default::default()
        })
    }

    fn tensor(&mut self, tensor: &TensorProto, at: Option<&str>) -> Result<pb::TensorProto, CannotRun> {
        let content = Tensor::from_proto(tensor).map_err(|e| CannotRun::new(at, e.to_string()))?;
        if convert::datum_type(content.dtype()).is_none() {
            let reason =
                format!("tensor '{}' is of type {:?}, which the interpreter lacks", tensor.name(), content.dtype());
            return Err(CannotRun::new(at, reason));
        }
        let mut theirs = pb::TensorProto {
            name: tensor.name().to_owned(),
            dims: tensor.dims.clone(),
            data_type: content.dtype() as i32,
            ..Default::default()
        };
        if content.data().len() <= INLINE_BYTES {
            theirs.raw_data = content.data().to_vec();
        } else {
            // The path is checked to exist before the bytes are asked for, so it is one that always does.
            let entry = |key: &str, value: String| pb::StringStringEntryProto { key: key.to_owned(), value };
            theirs.external_data =
                vec![entry("location", ".".into()), entry("offset", self.payloads.len().to_string())];
            theirs.data_location = Some(pb::tensor_proto::DataLocation::External as i32);
            self.payloads.push(content.data().clone());
        }
        Ok(theirs)
    }
}

/// Name, type and the extents that are numbers.
fn value_info(info: &ValueInfoProto) -> pb::ValueInfoProto {
    let translated = info.r#type.as_ref().and_then(|t| match t.value.as_ref()? {
        type_proto::Value::TensorType(t) => {
            let extent = |d: &tensor_shape_proto::Dimension| match d.value {
                Some(tensor_shape_proto::dimension::Value::DimValue(v)) => Some(v),
                _ => None,
            };
            Some(tensor_type(t.elem_type(), t.shape.as_ref().map(|s| s.dim.iter().map(extent).collect())))
        }
        _ => None,
    });
    pb::ValueInfoProto { name: info.name().to_owned(), r#type: translated, ..Default::default() }
}
