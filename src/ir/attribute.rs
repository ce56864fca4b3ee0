//! Typed access to the attributes of a node.

use super::Node;
use crate::onnx::proto::{AttributeProto, attribute_proto::AttributeType};

impl Node {
    pub fn attributes(&self) -> &[AttributeProto] {
        &self.proto.attribute
    }

    pub fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.proto.attribute.iter().find(|a| a.name() == name)
    }

    /// An integer attribute.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name)?.i
    }

    /// A float attribute.
    pub fn float(&self, name: &str) -> Option<f32> {
        self.attribute(name)?.f
    }

    /// A list of integers; `None` where the attribute is absent.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|a| a.ints.as_slice())
    }

    /// A string attribute; `None` where it is absent or not UTF-8.
    pub fn string(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.attribute(name)?.s.as_deref()?).ok()
    }

    /// Sets an integer attribute, adding it where it is absent.
    pub fn set_int(&mut self, name: &str, value: i64) {
        let a = self.attribute_mut(name, AttributeType::Int);
        a.i = Some(value);
    }

    /// Sets a list of integers, adding the attribute where it is absent.
    pub fn set_ints(&mut self, name: &str, value: Vec<i64>) {
        let a = self.attribute_mut(name, AttributeType::Ints);
        a.ints = value;
    }

    /// Removes an attribute, if it is there. Nodes with bodies keep theirs: bodies are found by attribute position.
    pub fn remove_attribute(&mut self, name: &str) {
        if self.bodies.is_empty() {
            self.proto.attribute.retain(|a| a.name() != name);
        }
    }

    fn attribute_mut(&mut self, name: &str, kind: AttributeType) -> &mut AttributeProto {
        let at = self.proto.attribute.iter().position(|a| a.name() == name).unwrap_or_else(|| {
            let new = AttributeProto { name: Some(name.to_owned()), r#type: Some(kind as i32), ..Default::default() };
            self.proto.attribute.push(new);
            self.proto.attribute.len() - 1
        });
        &mut self.proto.attribute[at]
    }
}
