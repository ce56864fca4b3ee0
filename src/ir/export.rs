//! [`Model`] to `ModelProto`: ids become names.

use super::{GraphId, Model, NodeId, Port};
use crate::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto};
use crate::onnx::tensor::{DataType, Tensor};

impl Model {
    /// The model as a protobuf message; payloads are shared, not copied.
    pub fn export(&self) -> ModelProto {
        ModelProto { graph: Some(self.export_graph(self.main())), ..self.header.clone() }
    }

    /// A model of one node alone, its inputs stored as constants, its outputs of the types and shapes given.
    pub fn export_alone(
        &self,
        id: NodeId,
        inputs: &[Option<Tensor>],
        outputs: &[(Option<DataType>, Vec<usize>)],
    ) -> ModelProto {
        let node = self.export_node(id);
        let port = |(name, (dtype, shape)): (&String, &(Option<DataType>, Vec<usize>))| {
            let dim = |&d: &usize| Dimension { value: Some(dimension::Value::DimValue(d as i64)), denotation: None };
            let tensor = type_proto::Tensor {
                elem_type: dtype.map(|d| d as i32),
                shape: Some(TensorShapeProto { dim: shape.iter().map(dim).collect() }),
            };
            let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), denotation: None };
            ValueInfoProto { name: Some(name.clone()), r#type: Some(ty), ..Default::default() }
        };
        let mut stored: Vec<(&String, &Tensor)> =
            node.input.iter().zip(inputs).filter_map(|(name, t)| Some((name, t.as_ref()?))).collect();
        // A value may be read twice, a constant stands once.
        stored.sort_by_key(|(name, _)| *name);
        stored.dedup_by_key(|(name, _)| *name);
        let graph = GraphProto {
            name: Some("node".to_owned()),
            initializer: stored.into_iter().map(|(name, t)| t.to_proto(name)).collect(),
            output: node.output.iter().zip(outputs).filter(|(name, _)| !name.is_empty()).map(port).collect(),
            node: vec![node],
            ..Default::default()
        };
        let (ir_version, opset_import) = (self.header.ir_version, self.header.opset_import.clone());
        ModelProto { ir_version, opset_import, graph: Some(graph), ..Default::default() }
    }

    fn export_graph(&self, id: GraphId) -> GraphProto {
        let graph = self.graph(id);
        GraphProto {
            node: graph.nodes.iter().map(|&n| self.export_node(n)).collect(),
            input: graph.inputs.iter().map(|p| self.export_port(p)).collect(),
            output: graph.outputs.iter().map(|p| self.export_port(p)).collect(),
            value_info: graph.value_info.iter().map(|p| self.export_port(p)).collect(),
            initializer: graph.initializers.iter().filter_map(|&v| self.value(v).tensor.clone()).collect(),
            ..graph.header.clone()
        }
    }

    fn export_port(&self, port: &Port) -> ValueInfoProto {
        ValueInfoProto { name: Some(self.value(port.value).name.clone()), ..port.info.clone() }
    }

    fn export_node(&self, id: NodeId) -> NodeProto {
        let node = self.node(id);
        let name = |v: &Option<super::ValueId>| v.map_or(String::new(), |v| self.value(v).name.clone());
        let mut proto = node.proto.clone();
        proto.input = node.inputs.iter().map(name).collect();
        proto.output = node.outputs.iter().map(name).collect();
        for body in &node.bodies {
            let graph = self.export_graph(body.graph);
            match body.position {
                None => proto.attribute[body.attribute].g = Some(graph),
                Some(_) => proto.attribute[body.attribute].graphs.push(graph),
            }
        }
        proto
    }
}
