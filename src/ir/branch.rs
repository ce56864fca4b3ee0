//! A branch of an `If` moved into the graph around it.

use super::model::{Def, Model, Node};
use super::{GraphId, NodeId};
use crate::onnx::proto::NodeProto;
use std::collections::HashMap;

impl Model {
    /// Replaces an `If` by the nodes of the branch that it takes. Its outputs keep names and ids; values of the branch
    /// get new names where others in the model have theirs. `false`, and nothing is changed, for branches with sparse
    /// initializers, before IR version 4 (whose initializers are inputs), and where outputs do not fit.
    pub fn take_branch(&mut self, node: NodeId, taken: GraphId) -> bool {
        let (graph, outputs) = (self.node(node).graph, self.node(node).outputs.clone());
        let body = self.graph(taken).clone();
        let fits = body.owner == Some(node) && outputs.len() <= body.outputs.len() && body.inputs.is_empty();
        if !fits || self.header.ir_version() < 4 || !body.header.sparse_initializer.is_empty() {
            return false;
        }
        let mut named: HashMap<String, usize> = HashMap::new();
        for v in self.values.iter().filter(|v| v.def != Def::Nowhere) {
            *named.entry(v.name.clone()).or_default() += 1;
        }
        for i in 0..self.values.len() {
            if self.values[i].graph != taken || self.values[i].def == Def::Nowhere {
                continue;
            }
            self.values[i].graph = graph;
            let name = self.values[i].name.clone();
            if named.get(&name).is_some_and(|&n| n > 1) {
                self.note_names();
                let free = self.free_name(&name);
                if let Some(tensor) = &mut self.values[i].tensor {
                    tensor.name = Some(free.clone());
                }
                self.values[i].name = free;
            }
        }
        let mut moved = body.nodes.clone();
        for (to, port) in outputs.iter().zip(&body.outputs).filter_map(|(v, port)| Some(((*v)?, port))) {
            let id = NodeId::at(self.nodes.len());
            let proto = NodeProto { op_type: Some("Identity".to_owned()), ..Default::default() };
            let (inputs, outputs) = (vec![Some(port.value)], vec![Some(to)]);
            self.nodes.push(Node { graph, proto, inputs, outputs, bodies: vec![], removed: false });
            self.values[to.index()].def = Def::Node(id, 0);
            moved.push(id);
        }
        for &n in &moved {
            self.nodes[n.index()].graph = graph;
        }
        self.nodes[node.index()].removed = true;
        let around = &mut self.graphs[graph.index()];
        around.initializers.extend(body.initializers);
        around.value_info.extend(body.value_info);
        let at = around.nodes.iter().position(|&n| n == node).expect("a live node is in its graph's list");
        around.nodes.splice(at..=at, moved);
        true
    }
}
