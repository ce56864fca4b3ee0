//! The arenas and read access to them.

use super::{GraphId, NodeId, ValueId};
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A whole ONNX model. Cheap to clone: payloads are shared.
#[derive(Debug, Clone)]
pub struct Model {
    /// Everything of the file but the main graph (`graph` is `None` here).
    pub(super) header: ModelProto,
    pub(super) graphs: Vec<Graph>,
    pub(super) nodes: Vec<Node>,
    pub(super) values: Vec<Value>,
    /// Names of values, made when the first new one is needed.
    pub(super) names: Option<HashMap<String, usize>>,
    /// Constants that the file does not hold under their name: see [`Model::unnamed`].
    pub(super) unnamed: BTreeMap<ValueId, Unnamed>,
}

/// The main graph, or the body of a control-flow node.
#[derive(Debug, Clone)]
pub struct Graph {
    /// Name, doc string, annotations, metadata and sparse initializers; the lists below are empty in it.
    pub(super) header: GraphProto,
    /// The node whose body this is; `None` for the main graph.
    pub(super) owner: Option<NodeId>,
    pub(super) nodes: Vec<NodeId>,
    pub(super) inputs: Vec<Port>,
    pub(super) outputs: Vec<Port>,
    pub(super) initializers: Vec<ValueId>,
    pub(super) value_info: Vec<Port>,
}

/// A value in one of a graph's typed lists.
#[derive(Debug, Clone)]
pub struct Port {
    pub value: ValueId,
    /// The declaration; its `name` is that of the value.
    pub info: ValueInfoProto,
}

/// One operator application.
#[derive(Debug, Clone)]
pub struct Node {
    pub(super) graph: GraphId,
    /// Operator, name, attributes and all else; `input` and `output` are empty, graphs are taken out of attributes.
    pub(super) proto: NodeProto,
    /// `None` where an optional input is left out.
    pub(super) inputs: Vec<Option<ValueId>>,
    pub(super) outputs: Vec<Option<ValueId>>,
    pub(super) bodies: Vec<Body>,
    pub(super) removed: bool,
}

/// A nested graph in an attribute of a node.
#[derive(Debug, Clone, Copy)]
pub struct Body {
    /// Index of the attribute.
    pub attribute: usize,
    /// Position in `graphs` of the attribute, `None` for `g`.
    pub position: Option<usize>,
    pub graph: GraphId,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Def {
    /// Output number `.1` of a node.
    Node(NodeId, usize),
    /// An input of its graph that has no initializer.
    Input,
    /// An initializer, also where it is listed among the inputs (IR 3, or an overridable default).
    Initializer,
    /// A sparse initializer: carried along, never looked into.
    Sparse,
    /// Named in `value_info` only.
    Nowhere,
}

/// What a constant is that a plan, which speaks of tensors of the file, has no name for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unnamed {
    /// It stands in the body of a function.
    Function,
    /// It is written as plain numbers, or holds one number only, so that its shape says all of it.
    Plain,
    /// One reader's own copy of a constant that holds one number only.
    Copy { of: ValueId },
}

/// A tensor (or sequence, map, optional) that flows along edges.
#[derive(Debug, Clone)]
pub struct Value {
    pub(super) name: String,
    pub(super) graph: GraphId,
    pub(super) def: Def,
    /// Content of an initializer.
    pub(super) tensor: Option<TensorProto>,
}

impl Model {
    /// The main graph's id.
    pub fn main(&self) -> GraphId {
        GraphId(0)
    }

    pub fn graph(&self, id: GraphId) -> &Graph {
        &self.graphs[id.index()]
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// Everything of the file that is not in the main graph.
    pub fn header(&self) -> &ModelProto {
        &self.header
    }

    /// Size of the value arena, for side tables indexed by [`ValueId::index`].
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// Size of the node arena, for side tables indexed by [`NodeId::index`].
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Live nodes, each graph in execution order, the bodies of a node before the node itself.
    pub fn walk(&self) -> Vec<NodeId> {
        let mut out = Vec::with_capacity(self.nodes.len());
        self.walk_graph(self.main(), &mut out);
        out
    }

    fn walk_graph(&self, graph: GraphId, out: &mut Vec<NodeId>) {
        for &n in &self.graph(graph).nodes {
            for body in &self.node(n).bodies {
                self.walk_graph(body.graph, out);
            }
            out.push(n);
        }
    }

    /// Ids of all graphs that are still part of the model, outermost first.
    pub fn live_graphs(&self) -> Vec<GraphId> {
        let mut out = vec![self.main()];
        let mut next = 0;
        while next < out.len() {
            for &n in &self.graph(out[next]).nodes {
                out.extend(self.node(n).bodies.iter().map(|b| b.graph));
            }
            next += 1;
        }
        out
    }

    /// Version of an operator set in use; the standard domain has two spellings.
    pub fn opset(&self, domain: &str) -> Option<i64> {
        fn canonical(domain: &str) -> &str {
            if domain == "ai.onnx" { "" } else { domain }
        }
        let wanted = canonical(domain);
        self.header.opset_import.iter().find(|o| canonical(o.domain()) == wanted).map(|o| o.version())
    }

    /// Whether a node calls a function that the model itself defines.
    pub fn is_local_function(&self, node: &Node) -> bool {
        self.header.functions.iter().any(|f| f.name() == node.op_type() && f.domain() == node.domain())
    }

    /// The content of a constant: an initializer's or that of a `Constant` node's `value` attribute.
    pub fn constant(&self, id: ValueId) -> Option<&TensorProto> {
        let value = self.value(id);
        match value.def {
            Def::Initializer => value.tensor.as_ref(),
            Def::Node(n, 0) => {
                let node = self.node(n);
                (node.op_type() == "Constant" && node.is_standard()).then(|| node.attribute("value")?.t.as_ref())?
            }
            _ => None,
        }
    }

    /// Every value of the arena, in its order.
    pub fn values(&self) -> impl Iterator<Item = ValueId> + use<> {
        (0..self.values.len()).map(ValueId::at)
    }

    /// Every value that [`Model::constant`] has content for, in arena order.
    pub fn constants(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.values().filter(|&v| self.constant(v).is_some())
    }

    /// Why a constant is none of the tensors that the file names, where it was made for the time of a cut.
    pub fn unnamed(&self, id: ValueId) -> Option<Unnamed> {
        self.unnamed.get(&id).copied()
    }

    /// Whether a caller may replace the content of an initializer: it is the default of an input. Before IR version 4
    /// every initializer had to be listed among the inputs, which meant nothing.
    pub fn is_overridable(&self, id: ValueId) -> bool {
        let value = self.value(id);
        value.def == Def::Initializer
            && self.header.ir_version() >= 4
            && self.graph(value.graph).inputs.iter().any(|p| p.value == id)
    }

    /// Who reads each value, and which values leave their graph.
    pub fn uses(&self) -> Uses {
        let mut uses = Uses { readers: vec![Vec::new(); self.values.len()], outputs: BTreeSet::new() };
        for n in self.walk() {
            for (i, input) in self.node(n).inputs.iter().enumerate() {
                if let Some(v) = input {
                    uses.readers[v.index()].push((n, i));
                }
            }
        }
        for g in self.live_graphs() {
            uses.outputs.extend(self.graph(g).outputs.iter().map(|p| p.value));
        }
        uses
    }

    /// A name for messages: the node's own, or its first output where it has none.
    pub fn label(&self, id: NodeId) -> String {
        let node = self.node(id);
        if !node.name().is_empty() {
            return node.name().to_owned();
        }
        match node.outputs.iter().flatten().next() {
            Some(&v) => self.value(v).name.clone(),
            None => format!("{}#{}", node.op_type(), id.index()),
        }
    }
}

/// Readers of every value; a snapshot that edits do not update.
#[derive(Debug, Clone)]
pub struct Uses {
    readers: Vec<Vec<(NodeId, usize)>>,
    outputs: BTreeSet<ValueId>,
}

impl Uses {
    /// Nodes and input positions that read the value, nested graphs included, in [`Model::walk`] order.
    pub fn readers(&self, value: ValueId) -> &[(NodeId, usize)] {
        self.readers.get(value.index()).map_or(&[], Vec::as_slice)
    }

    /// Whether the value is an output of the main graph or of a body.
    pub fn is_output(&self, value: ValueId) -> bool {
        self.outputs.contains(&value)
    }

    /// Whether nothing at all reads the value.
    pub fn is_unused(&self, value: ValueId) -> bool {
        self.readers(value).is_empty() && !self.is_output(value)
    }
}

impl Graph {
    pub fn name(&self) -> &str {
        self.header.name()
    }

    /// The node whose body this graph is; `None` for the main graph.
    pub fn owner(&self) -> Option<NodeId> {
        self.owner
    }

    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// Formal inputs, initializers that are listed among them included.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    pub fn initializers(&self) -> &[ValueId] {
        &self.initializers
    }

    /// Declared types of inner values.
    pub fn value_info(&self) -> &[Port] {
        &self.value_info
    }
}

impl Node {
    pub fn graph(&self) -> GraphId {
        self.graph
    }

    pub fn op_type(&self) -> &str {
        self.proto.op_type()
    }

    /// The domain as written; see [`Node::is_standard`] for the standard one.
    pub fn domain(&self) -> &str {
        self.proto.domain()
    }

    /// Whether the operator is one of ONNX's own (`""` or its alias `ai.onnx`).
    pub fn is_standard(&self) -> bool {
        matches!(self.domain(), "" | "ai.onnx")
    }

    pub fn name(&self) -> &str {
        self.proto.name()
    }

    pub fn inputs(&self) -> &[Option<ValueId>] {
        &self.inputs
    }

    pub fn outputs(&self) -> &[Option<ValueId>] {
        &self.outputs
    }

    /// Input `i`, `None` where it is left out.
    pub fn input(&self, i: usize) -> Option<ValueId> {
        self.inputs.get(i).copied().flatten()
    }

    /// Output `i`, `None` where it is left out.
    pub fn output(&self, i: usize) -> Option<ValueId> {
        self.outputs.get(i).copied().flatten()
    }

    pub fn bodies(&self) -> &[Body] {
        &self.bodies
    }

    pub fn is_removed(&self) -> bool {
        self.removed
    }
}

impl Value {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn graph(&self) -> GraphId {
        self.graph
    }

    pub fn def(&self) -> Def {
        self.def
    }
}
