//! [`Model`] to `ModelProto`: ids become names.

use super::{GraphId, Model, NodeId, Port, ValueId};
use crate::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use crate::onnx::proto::{
    GraphProto, ModelProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use crate::onnx::tensor::{DataType, Tensor};
use std::collections::BTreeSet;

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
        let port =
            |(name, (dtype, shape)): (&String, &(Option<DataType>, Vec<usize>))| declared(name.clone(), *dtype, shape);
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

    /// A model of some nodes of the main graph, in the order given: `inputs` are fed under the types and shapes given,
    /// `stored` are constants, `outputs` are what it gives. Initializers that the nodes read come along.
    pub fn export_part(
        &self,
        nodes: &[NodeId],
        inputs: &[(ValueId, DataType, Vec<usize>)],
        stored: &[(ValueId, &Tensor)],
        outputs: &[ValueId],
    ) -> ModelProto {
        let given: BTreeSet<ValueId> = inputs.iter().map(|i| i.0).chain(stored.iter().map(|s| s.0)).collect();
        let own: BTreeSet<ValueId> =
            nodes.iter().flat_map(|&n| self.node(n).outputs().iter().flatten().copied()).collect();
        let reads: BTreeSet<ValueId> = nodes.iter().flat_map(|&n| self.reads_of(n)).collect();
        let name = |v: ValueId| self.value(v).name.clone();
        let constants = reads
            .iter()
            .filter(|v| !given.contains(v) && !own.contains(v))
            .filter_map(|&v| self.constant(v).map(|t| TensorProto { name: Some(name(v)), ..t.clone() }));
        let fed = |(v, dtype, shape): &(ValueId, DataType, Vec<usize>)| declared(name(*v), Some(*dtype), shape);
        let untyped = |&v: &ValueId| ValueInfoProto { name: Some(name(v)), ..Default::default() };
        let graph = GraphProto {
            name: Some("part".to_owned()),
            node: nodes.iter().map(|&n| self.export_node(n)).collect(),
            input: inputs.iter().map(fed).collect(),
            output: outputs.iter().map(untyped).collect(),
            initializer: constants.chain(stored.iter().map(|(v, t)| t.to_proto(&name(*v)))).collect(),
            ..Default::default()
        };
        ModelProto { graph: Some(graph), ..self.header.clone() }
    }

    /// What a node reads of the main graph: its inputs, and what its bodies capture.
    pub fn reads_of(&self, id: NodeId) -> Vec<ValueId> {
        let mut out: Vec<ValueId> = Vec::new();
        let mut nodes = vec![id];
        while let Some(n) = nodes.pop() {
            out.extend(self.node(n).inputs().iter().flatten());
            for body in self.node(n).bodies() {
                let graph = self.graph(body.graph);
                nodes.extend(&graph.nodes);
                out.extend(graph.outputs.iter().map(|p| p.value));
            }
        }
        out.retain(|&v| self.value(v).graph() == self.main());
        out.sort_unstable();
        out.dedup();
        out
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
        let name = |v: &Option<ValueId>| v.map_or(String::new(), |v| self.value(v).name.clone());
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

/// A declaration of a tensor.
fn declared(name: String, dtype: Option<DataType>, shape: &[usize]) -> ValueInfoProto {
    let dim = |&d: &usize| Dimension { value: Some(dimension::Value::DimValue(d as i64)), denotation: None };
    let tensor = type_proto::Tensor {
        elem_type: dtype.map(|d| d as i32),
        shape: Some(TensorShapeProto { dim: shape.iter().map(dim).collect() }),
    };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), denotation: None };
    ValueInfoProto { name: Some(name), r#type: Some(ty), ..Default::default() }
}
