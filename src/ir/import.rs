//! `ModelProto` to [`Model`]: names become ids.

use super::model::{Body, Def, Graph, Model, Node, Port, Value};
use super::{GraphId, NodeId, ValueId, order};
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, ValueInfoProto};
use std::collections::{BTreeMap, HashMap};

/// Why a model is not a graph that can be worked on. Names node and value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The file has no main graph.
    #[error("the model has no graph")]
    NoGraph,
    /// The main graph computes nothing.
    #[error("the graph '{graph}' is empty: it has no nodes and no outputs")]
    Empty { graph: String },
    /// Something is read that no node, input or initializer provides.
    #[error("node '{node}' ({op}) reads '{value}', which no node, input or initializer of the graph defines")]
    Undefined { node: String, op: String, value: String },
    /// A graph output that nothing computes.
    #[error("output '{value}' of graph '{graph}' is defined by no node, input or initializer")]
    UndefinedOutput { graph: String, value: String },
    /// Two definitions of one name in the same scope.
    #[error("'{value}' is defined twice, the second time by {by}")]
    Duplicate { value: String, by: String },
    /// A name is missing where ONNX requires one.
    #[error("{what} of graph '{graph}' has no name")]
    Unnamed { what: &'static str, graph: String },
    /// Nodes that need each other's outputs.
    #[error("the graph has a cycle through node '{node}'")]
    Cycle { node: String },
}

impl Model {
    /// Takes a decoded file into the representation. Nodes that are not in topological order are sorted, stably.
    pub fn import(mut proto: ModelProto) -> Result<Self, ImportError> {
        let graph = proto.graph.take().ok_or(ImportError::NoGraph)?;
        if graph.node.is_empty() && graph.output.is_empty() {
            return Err(ImportError::Empty { graph: graph.name().to_owned() });
        }
        let mut model = Model {
            header: proto,
            graphs: Vec::new(),
            nodes: Vec::new(),
            values: Vec::new(),
            names: None,
            unnamed: BTreeMap::new(),
        };
        Importer { model: &mut model, scopes: Vec::new() }.graph(graph, None)?;
        Ok(model)
    }
}

pub(super) struct Importer<'a> {
    pub model: &'a mut Model,
    /// Names of the graph under way, and of those around it.
    pub scopes: Vec<HashMap<String, ValueId>>,
}

impl Importer<'_> {
    fn graph(&mut self, mut proto: GraphProto, owner: Option<NodeId>) -> Result<GraphId, ImportError> {
        let id = GraphId::at(self.model.graphs.len());
        let nodes = std::mem::take(&mut proto.node);
        let (inputs, outputs) = (std::mem::take(&mut proto.input), std::mem::take(&mut proto.output));
        let (initializers, infos) = (std::mem::take(&mut proto.initializer), std::mem::take(&mut proto.value_info));
        let sparse: Vec<String> =
            proto.sparse_initializer.iter().filter_map(|s| Some(s.values.as_ref()?.name().to_owned())).collect();
        let name = proto.name().to_owned();
        self.model.graphs.push(Graph {
            header: proto,
            owner,
            nodes: Vec::with_capacity(nodes.len()),
            inputs: Vec::new(),
            outputs: Vec::new(),
            initializers: Vec::new(),
            value_info: Vec::new(),
        });
        self.scopes.push(HashMap::new());
        let unnamed = |what| ImportError::Unnamed { what, graph: name.clone() };

        for info in inputs {
            let value_name = info.name().to_owned();
            if value_name.is_empty() {
                return Err(unnamed("an input"));
            }
            let value = self.define(id, value_name, Def::Input, || format!("an input of graph '{name}'"))?;
            self.model.graphs[id.index()].inputs.push(Port { value, info });
        }
        for tensor in initializers {
            let value_name = tensor.name().to_owned();
            if value_name.is_empty() {
                return Err(unnamed("an initializer"));
            }
            // An initializer may also be listed among the inputs: then it is that input's default.
            let listed = self.scope().get(&value_name).copied();
            let value = match listed.filter(|&v| self.model.value(v).def == Def::Input) {
                Some(v) => {
                    self.model.values[v.index()].def = Def::Initializer;
                    v
                }
                None => {
                    self.define(id, value_name, Def::Initializer, || format!("an initializer of graph '{name}'"))?
                }
            };
            self.model.values[value.index()].tensor = Some(tensor);
            self.model.graphs[id.index()].initializers.push(value);
        }
        for value_name in sparse {
            match self.scope().get(&value_name).copied().filter(|&v| self.model.value(v).def == Def::Input) {
                Some(v) => self.model.values[v.index()].def = Def::Sparse,
                None => drop(self.define(id, value_name, Def::Sparse, || "a sparse initializer".to_owned())?),
            }
        }
        // All outputs are defined before any input is resolved: the file may list nodes in any order.
        let mut pending = Vec::with_capacity(nodes.len());
        for proto in nodes {
            let node = self.declare(id, proto)?;
            pending.push(node);
        }
        for (node, inputs) in pending {
            self.connect(id, node, inputs)?;
        }
        for info in infos {
            let value = self.resolve(info.name()).unwrap_or_else(|| self.nowhere(id, &info));
            self.model.graphs[id.index()].value_info.push(Port { value, info });
        }
        for info in outputs {
            if info.name().is_empty() {
                return Err(unnamed("an output"));
            }
            let value = self
                .resolve(info.name())
                .filter(|&v| self.model.value(v).def != Def::Nowhere)
                .ok_or_else(|| ImportError::UndefinedOutput { graph: name.clone(), value: info.name().to_owned() })?;
            self.model.graphs[id.index()].outputs.push(Port { value, info });
        }
        self.scopes.pop();
        order::sort(self.model, id).map_err(|node| ImportError::Cycle { node: self.model.label(node) })?;
        Ok(id)
    }

    /// Adds a node and its outputs; returns the names that it reads.
    fn declare(&mut self, graph: GraphId, mut proto: NodeProto) -> Result<(NodeId, Vec<String>), ImportError> {
        let id = NodeId::at(self.model.nodes.len());
        let (inputs, outputs) = (std::mem::take(&mut proto.input), std::mem::take(&mut proto.output));
        let by = if proto.name().is_empty() { proto.op_type().to_owned() } else { proto.name().to_owned() };
        let node = Node { graph, proto, inputs: Vec::new(), outputs: Vec::new(), bodies: Vec::new(), removed: false };
        self.model.nodes.push(node);
        self.model.graphs[graph.index()].nodes.push(id);
        for (i, name) in outputs.into_iter().enumerate() {
            let value = if name.is_empty() {
                None
            } else {
                Some(self.define(graph, name, Def::Node(id, i), || format!("node '{by}'"))?)
            };
            self.model.nodes[id.index()].outputs.push(value);
        }
        Ok((id, inputs))
    }

    /// Resolves a node's inputs and takes the graphs out of its attributes.
    pub fn connect(&mut self, graph: GraphId, id: NodeId, inputs: Vec<String>) -> Result<(), ImportError> {
        for name in inputs {
            let value = if name.is_empty() { None } else { Some(self.read(id, &name)?) };
            self.model.nodes[id.index()].inputs.push(value);
        }
        let mut attributes = std::mem::take(&mut self.model.nodes[id.index()].proto.attribute);
        for (attribute, a) in attributes.iter_mut().enumerate() {
            let single = a.g.take().map(|g| (None, g));
            let many = std::mem::take(&mut a.graphs).into_iter().enumerate().map(|(i, g)| (Some(i), g));
            for (position, body) in single.into_iter().chain(many) {
                let body = self.graph(body, Some(id))?;
                self.model.nodes[id.index()].bodies.push(Body { attribute, position, graph: body });
            }
        }
        self.model.nodes[id.index()].proto.attribute = attributes;
        debug_assert_eq!(self.model.node(id).graph, graph);
        Ok(())
    }

    fn read(&self, node: NodeId, name: &str) -> Result<ValueId, ImportError> {
        self.resolve(name).ok_or_else(|| ImportError::Undefined {
            node: self.model.label(node),
            op: self.model.node(node).op_type().to_owned(),
            value: name.to_owned(),
        })
    }

    pub fn resolve(&self, name: &str) -> Option<ValueId> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name).copied())
    }

    fn scope(&mut self) -> &mut HashMap<String, ValueId> {
        self.scopes.last_mut().expect("a graph is under way")
    }

    pub fn define(
        &mut self,
        graph: GraphId,
        name: String,
        def: Def,
        by: impl Fn() -> String,
    ) -> Result<ValueId, ImportError> {
        let id = ValueId::at(self.model.values.len());
        if self.scope().insert(name.clone(), id).is_some() {
            return Err(ImportError::Duplicate { value: name, by: by() });
        }
        self.model.values.push(Value { name, graph, def, tensor: None });
        Ok(id)
    }

    fn nowhere(&mut self, graph: GraphId, info: &ValueInfoProto) -> ValueId {
        let id = ValueId::at(self.model.values.len());
        self.model.values.push(Value { name: info.name().to_owned(), graph, def: Def::Nowhere, tensor: None });
        id
    }
}
