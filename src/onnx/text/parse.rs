//! Text to a model.
//!
//! Guarantees: the message that comes back has the same fields set as the one that `onnx.parser` makes.
//! Refuses, with line and column: what the grammar does not allow, numbers that do not fit, and nesting so deep that
//! no reader would take the model.

use super::names::{attribute_type, begins_type, element_of, element_type, is_special_float, list_of};
use super::scan::{Literal, ParseError, Scanner, real};
use crate::onnx::proto::attribute_proto::AttributeType;
use crate::onnx::proto::tensor_proto::{DataLocation, DataType};
use crate::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use crate::onnx::proto::*;

type Parsed<T> = Result<T, ParseError>;

/// Graphs within graphs and types within types; each takes up to three of the hundred levels that protobuf allows.
const DEEPEST: usize = 30;

/// The model that `text` describes.
pub fn parse(text: &str) -> Result<ModelProto, ParseError> {
    let mut parser = Parser { scan: Scanner::new(text), depth: 0 };
    parser.model()
}

struct Parser<'a> {
    scan: Scanner<'a>,
    depth: usize,
}

impl Parser<'_> {
    fn model(&mut self) -> Parsed<ModelProto> {
        let mut model = ModelProto::default();
        if self.scan.matches('<') {
            loop {
                let at = self.scan.mark();
                let key = self.scan.word("a property of the model")?;
                self.scan.expect(':')?;
                match key {
                    "ir_version" => model.ir_version = Some(self.scan.integer("an IR version")?),
                    "opset_import" => model.opset_import = self.opsets()?,
                    "producer_name" => model.producer_name = Some(self.scan.string("a quoted name")?),
                    "producer_version" => model.producer_version = Some(self.scan.string("a quoted version")?),
                    "domain" => model.domain = Some(self.scan.string("a quoted domain")?),
                    "model_version" => model.model_version = Some(self.scan.integer("a version")?),
                    "doc_string" => model.doc_string = Some(self.scan.string("a quoted text")?),
                    "metadata_props" => {
                        self.scan.expect('[')?;
                        model.metadata_props = self.entries()?;
                    }
                    _ => return Err(self.scan.error_at(at, format!("'{key}' is not a property of a model"))),
                }
                if !self.scan.matches(',') {
                    break;
                }
            }
            self.scan.expect('>')?;
        }
        model.graph = Some(self.graph()?);
        while !self.scan.at_end() {
            model.functions.push(self.function()?);
        }
        Ok(model)
    }

    fn opsets(&mut self) -> Parsed<Vec<OperatorSetIdProto>> {
        self.scan.expect('[')?;
        self.list(']', |p| {
            let domain = Some(p.scan.string("a quoted domain")?);
            p.scan.expect(':')?;
            Ok(OperatorSetIdProto { domain, version: Some(p.scan.integer("a version")?) })
        })
    }

    /// `"key": "value"` pairs up to `]`.
    fn entries(&mut self) -> Parsed<Vec<StringStringEntryProto>> {
        self.list(']', |p| {
            let key = Some(p.scan.string("a quoted key")?);
            p.scan.expect(':')?;
            Ok(StringStringEntryProto { key, value: Some(p.scan.string("a quoted value")?) })
        })
    }

    /// Items divided by commas up to `close`; the opening sign is taken already.
    fn list<T>(&mut self, close: char, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        if self.scan.matches(close) {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if !self.scan.matches(',') {
                break;
            }
        }
        if !self.scan.matches(close) {
            return Err(self.scan.expected(&format!("',' or '{close}'")));
        }
        Ok(items)
    }

    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth == DEEPEST {
            let at = self.scan.mark();
            return Err(self.scan.error_at(at, format!("nested deeper than {DEEPEST}")));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn graph(&mut self) -> Parsed<GraphProto> {
        self.nested(|p| {
            let mut graph = GraphProto { name: Some(p.scan.name("the name of a graph")?), ..Default::default() };
            if p.scan.matches('(') {
                graph.input = p.list(')', |p| {
                    let value = p.value_info()?;
                    if p.scan.matches('=') {
                        graph.initializer.push(p.initializer(&value)?);
                    }
                    Ok(value)
                })?;
            }
            p.scan.expect_arrow()?;
            p.scan.expect('(')?;
            graph.output = p.list(')', Self::value_info)?;
            if p.scan.matches('<') {
                // An entry with a payload is an initializer, any other describes a value.
                p.list('>', |p| {
                    let value = p.value_info()?;
                    if p.scan.matches('=') {
                        graph.initializer.push(p.initializer(&value)?);
                    } else {
                        graph.value_info.push(value);
                    }
                    Ok(())
                })?;
            }
            graph.node = p.nodes()?;
            Ok(graph)
        })
    }

    fn value_info(&mut self) -> Parsed<ValueInfoProto> {
        let r#type = self.optional_type()?;
        Ok(ValueInfoProto { name: Some(self.scan.name("the name of a value")?), r#type, ..Default::default() })
    }

    fn optional_type(&mut self) -> Parsed<Option<TypeProto>> {
        begins_type(self.scan.peek_word()).then(|| self.r#type()).transpose()
    }

    fn initializer(&mut self, value: &ValueInfoProto) -> Parsed<TensorProto> {
        let mut tensor = TensorProto { name: value.name.clone(), ..Default::default() };
        self.payload(&mut tensor, value.r#type.as_ref())?;
        Ok(tensor)
    }

    fn nodes(&mut self) -> Parsed<Vec<NodeProto>> {
        self.scan.expect('{')?;
        let mut nodes = Vec::new();
        while !self.scan.matches('}') {
            nodes.push(self.node()?);
        }
        Ok(nodes)
    }

    fn node(&mut self) -> Parsed<NodeProto> {
        let mut node = NodeProto::default();
        if self.scan.matches('[') {
            let quoted = self.scan.peek() == Some(b'"');
            node.name = Some(match quoted {
                true => self.scan.string("the name of a node")?,
                false => self.scan.optional_word().to_owned(),
            });
            self.scan.expect(']')?;
        }
        node.output = self.operands()?;
        self.scan.expect('=')?;
        let mut operator = self.scan.word("an operator")?;
        let mut domain = String::new();
        while self.scan.matches('.') {
            if !domain.is_empty() {
                domain.push('.');
            }
            domain.push_str(operator);
            operator = self.scan.word("an operator")?;
        }
        node.domain = Some(domain);
        node.op_type = Some(operator.to_owned());
        if self.scan.matches(':') {
            node.overload = Some(self.scan.word("an overload")?.to_owned());
        }
        node.attribute = self.attributes()?;
        self.scan.expect('(')?;
        node.input = self.operands()?;
        self.scan.expect(')')?;
        if node.attribute.is_empty() {
            // They may stand on either side of the inputs.
            node.attribute = self.attributes()?;
        }
        Ok(node)
    }

    /// Names of inputs or outputs, any of which may be empty. A comma at the end adds nothing.
    fn operands(&mut self) -> Parsed<Vec<String>> {
        let mut names = Vec::new();
        loop {
            match self.scan.peek() {
                Some(b'"') => names.push(self.scan.string("a name")?),
                Some(b',') => names.push(String::new()),
                _ => match self.scan.optional_word() {
                    "" => return Ok(names),
                    word => names.push(word.to_owned()),
                },
            }
            if !self.scan.matches(',') {
                return Ok(names);
            }
        }
    }

    fn attributes(&mut self) -> Parsed<Vec<AttributeProto>> {
        if !self.scan.matches('<') {
            return Ok(Vec::new());
        }
        self.list('>', |p| {
            let name = p.scan.word("the name of an attribute")?.to_owned();
            p.attribute(name)
        })
    }

    /// `: type = value`, after the name.
    fn attribute(&mut self, name: String) -> Parsed<AttributeProto> {
        let mut declared = None;
        if self.scan.matches(':') {
            let at = self.scan.mark();
            let word = self.scan.word("the type of an attribute")?;
            let unknown = || self.scan.error_at(at, format!("'{word}' is not a type of attributes"));
            declared = Some(attribute_type(word).ok_or_else(unknown)?);
        }
        self.scan.expect('=')?;
        let at = self.scan.mark();
        let mut attribute = AttributeProto { name: Some(name), ..Default::default() };
        if !self.scan.matches('[') {
            self.single(&mut attribute, declared)?;
            return Ok(attribute);
        }
        let element = declared.and_then(element_of);
        if declared.is_some() && element.is_none() {
            return Err(self.scan.error_at(at, "a list where the declared type is a single value"));
        }
        let mut found = None;
        let items = self.list(']', |p| {
            let at = p.scan.mark();
            let mut item = AttributeProto::default();
            // The first element decides for a list without a declared type.
            p.single(&mut item, element.or(found))?;
            found = found.or(AttributeType::try_from(item.r#type.unwrap_or(0)).ok());
            match item.ref_attr_name {
                Some(_) => Err(p.scan.error_at(at, "a reference cannot be an element of a list")),
                None => Ok(item),
            }
        })?;
        let Some(kind) = declared.or(found.and_then(list_of)) else {
            return Err(self.scan.error_at(at, "an empty list needs a type: 'name: ints = []'"));
        };
        attribute.r#type = Some(kind as i32);
        for item in items {
            attribute.ints.extend(item.i);
            attribute.floats.extend(item.f);
            attribute.strings.extend(item.s);
            attribute.tensors.extend(item.t);
            attribute.graphs.extend(item.g);
            attribute.type_protos.extend(item.tp);
        }
        Ok(attribute)
    }

    fn single(&mut self, attribute: &mut AttributeProto, expected: Option<AttributeType>) -> Parsed<()> {
        let at = self.scan.mark();
        if self.scan.matches('@') {
            attribute.ref_attr_name = Some(self.scan.name("the name of an attribute")?);
            attribute.r#type = expected.map(|kind| kind as i32);
            return Ok(());
        }
        let word = self.scan.peek_word();
        let kind = if begins_type(word) {
            let of = self.r#type()?;
            let payload_follows = matches!(self.scan.peek(), Some(b'{' | b'=')) || !self.scan.peek_word().is_empty();
            if payload_follows {
                let name = self.scan.optional_word().to_owned();
                let mut tensor = TensorProto { name: Some(name), ..Default::default() };
                self.scan.matches('=');
                self.payload(&mut tensor, Some(&of))?;
                attribute.t = Some(tensor);
                AttributeType::Tensor
            } else {
                attribute.tp = Some(of);
                AttributeType::TypeProto
            }
        } else if !word.is_empty() && !is_special_float(word) {
            attribute.g = Some(self.graph()?);
            AttributeType::Graph
        } else {
            match self.scan.literal("the value of an attribute")? {
                Literal::Int(text) if expected != Some(AttributeType::Float) => {
                    let range = |_| self.scan.error_at(at, format!("{text} is out of range"));
                    attribute.i = Some(text.parse().map_err(range)?);
                    AttributeType::Int
                }
                Literal::Int(text) | Literal::Float(text) => {
                    let range = || self.scan.error_at(at, format!("{text} is out of range or not a number"));
                    attribute.f = Some(real(text).ok_or_else(range)?);
                    AttributeType::Float
                }
                Literal::Text(text) => {
                    attribute.s = Some(text.into());
                    AttributeType::String
                }
            }
        };
        attribute.r#type = Some(kind as i32);
        match expected {
            Some(expected) if expected != kind => {
                let (expected, kind) = (expected.as_str_name(), kind.as_str_name());
                Err(self.scan.error_at(at, format!("the attribute is of type {expected}, its value of type {kind}")))
            }
            _ => Ok(()),
        }
    }

    fn r#type(&mut self) -> Parsed<TypeProto> {
        use type_proto::*;
        self.nested(|p| {
            let at = p.scan.mark();
            let word = p.scan.word("a type")?;
            let value = if let Some(dtype) = element_type(word) {
                let shape = p.shape()?;
                Value::TensorType(Tensor { elem_type: Some(dtype as i32), shape })
            } else {
                p.scan.expect('(')?;
                let value = match word {
                    "seq" => Value::SequenceType(Sequence { elem_type: Some(p.r#type()?.into()) }.into()),
                    "optional" => Value::OptionalType(Optional { elem_type: Some(p.r#type()?.into()) }.into()),
                    "map" => {
                        let key_type = Some(p.element_type()? as i32);
                        p.scan.expect(',')?;
                        Value::MapType(Map { key_type, value_type: Some(p.r#type()?.into()) }.into())
                    }
                    "sparse_tensor" => {
                        let elem_type = Some(p.element_type()? as i32);
                        Value::SparseTensorType(SparseTensor { elem_type, shape: p.shape()? })
                    }
                    "opaque" => Value::OpaqueType(p.opaque()?),
                    _ => return Err(p.scan.error_at(at, format!("'{word}' is not a type"))),
                };
                p.scan.expect(')')?;
                value
            };
            Ok(TypeProto { value: Some(value), ..Default::default() })
        })
    }

    fn opaque(&mut self) -> Parsed<type_proto::Opaque> {
        let mut name = self.scan.optional_word().to_owned();
        while !name.is_empty() && self.scan.matches('.') {
            name.push('.');
            name.push_str(self.scan.word("a name")?);
        }
        if !name.is_empty() && self.scan.matches(',') {
            let domain = Some(name);
            return Ok(type_proto::Opaque { domain, name: Some(self.scan.word("a name")?.to_owned()) });
        }
        Ok(type_proto::Opaque { domain: None, name: (!name.is_empty()).then_some(name) })
    }

    fn element_type(&mut self) -> Parsed<DataType> {
        let at = self.scan.mark();
        let word = self.scan.word("an element type")?;
        element_type(word).ok_or_else(|| self.scan.error_at(at, format!("'{word}' is not an element type")))
    }

    /// `[N, 3, ?]`; nothing means a scalar, `[]` that the rank is not known.
    fn shape(&mut self) -> Parsed<Option<TensorShapeProto>> {
        if !self.scan.matches('[') {
            return Ok(Some(TensorShapeProto::default()));
        }
        let dim = self.list(']', |p| {
            let value = match p.scan.peek() {
                Some(b'?') => {
                    p.scan.expect('?')?;
                    None
                }
                Some(b'"') => Some(dimension::Value::DimParam(p.scan.string("a dimension")?)),
                _ => Some(match p.scan.optional_word() {
                    "" => dimension::Value::DimValue(p.scan.integer("a dimension")?),
                    symbol => dimension::Value::DimParam(symbol.to_owned()),
                }),
            };
            Ok(Dimension { value, denotation: None })
        })?;
        Ok((!dim.is_empty()).then_some(TensorShapeProto { dim }))
    }

    /// `{1, 2}` or `["location": "file"]`, or nothing, for a tensor of type `of`.
    fn payload(&mut self, tensor: &mut TensorProto, of: Option<&TypeProto>) -> Parsed<()> {
        let at = self.scan.mark();
        let Some(type_proto::Value::TensorType(of)) = of.and_then(|of| of.value.as_ref()) else {
            return Err(self.scan.error_at(at, "a constant needs the type of a tensor"));
        };
        let Some(shape) = &of.shape else {
            return Err(self.scan.error_at(at, "a constant needs a shape: '[]' leaves its rank open"));
        };
        tensor.data_type = of.elem_type;
        for dim in &shape.dim {
            match dim.value {
                Some(dimension::Value::DimValue(extent)) => tensor.dims.push(extent),
                _ => return Err(self.scan.error_at(at, "the dimensions of a constant must be numbers")),
            }
        }
        if self.scan.matches('[') {
            tensor.data_location = Some(DataLocation::External as i32);
            tensor.external_data = self.entries()?;
        } else if self.scan.matches('{') {
            let dtype = of.element();
            self.list('}', |p| {
                match dtype {
                    DataType::Float | DataType::Complex64 => tensor.float_data.push(p.scan.real("a number")?),
                    DataType::Double | DataType::Complex128 => tensor.double_data.push(p.scan.real("a number")?),
                    DataType::Int64 => tensor.int64_data.push(p.scan.integer("an integer")?),
                    DataType::Uint32 | DataType::Uint64 => tensor.uint64_data.push(p.scan.integer("an integer")?),
                    DataType::String => tensor.string_data.push(p.scan.string("a string")?.into()),
                    _ => tensor.int32_data.push(p.scan.integer("an integer")?),
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn function(&mut self) -> Parsed<FunctionProto> {
        let mut function = FunctionProto::default();
        if self.scan.matches('<') {
            self.list('>', |p| {
                let at = p.scan.mark();
                let key = p.scan.word("a property of the function")?;
                p.scan.expect(':')?;
                match key {
                    "opset_import" => function.opset_import = p.opsets()?,
                    "doc_string" => function.doc_string = Some(p.scan.string("a quoted text")?),
                    "domain" => function.domain = Some(p.scan.string("a quoted domain")?),
                    "overload" => function.overload = Some(p.scan.string("a quoted overload")?),
                    _ => return Err(p.scan.error_at(at, format!("'{key}' is not a property of a function"))),
                }
                Ok(())
            })?;
        }
        function.name = Some(self.scan.name("the name of a function")?);
        if self.scan.matches('<') {
            self.list('>', |p| {
                let name = p.scan.name("the name of an attribute")?;
                if matches!(p.scan.peek(), Some(b':' | b'=')) {
                    function.attribute_proto.push(p.attribute(name)?);
                } else {
                    function.attribute.push(name);
                }
                Ok(())
            })?;
        }
        let mut typed = Vec::new();
        let mut parameters = |p: &mut Self| {
            p.scan.expect('(')?;
            p.list(')', |p| {
                let value = p.value_info()?;
                let name = value.name().to_owned();
                if value.r#type.is_some() {
                    typed.push(value);
                }
                Ok(name)
            })
        };
        function.input = parameters(self)?;
        self.scan.expect_arrow()?;
        function.output = parameters(self)?;
        function.value_info = typed;
        if self.scan.matches('<') {
            function.value_info.extend(self.list('>', Self::value_info)?);
        }
        function.node = self.nodes()?;
        Ok(function)
    }
}

impl type_proto::Tensor {
    fn element(&self) -> DataType {
        DataType::try_from(self.elem_type()).unwrap_or(DataType::Undefined)
    }
}
