//! [`Model`] to `ModelProto`: ids become names.

use super::{GraphId, Model, Port};
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, ValueInfoProto};

impl Model {
    /// The model as a protobuf message; payloads are shared, not copied.
    pub fn export(&self) -> ModelProto {
        ModelProto { graph: Some(self.export_graph(self.main())), ..self.header.clone() }
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

    fn export_node(&self, id: super::NodeId) -> NodeProto {
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
