//! Every change of a model's edges. Nothing outside this file connects, disconnects, adds or removes.

use super::model::{Def, Model, Node, Port, Value};
use super::{GraphId, NodeId, ValueId};
use crate::onnx::proto::{NodeProto, TensorProto, ValueInfoProto};
use crate::onnx::tensor::Tensor;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

impl Model {
    /// Makes input `i` of a node read `value` (`None` leaves the input out), growing the list where it is shorter.
    pub fn set_input(&mut self, node: NodeId, i: usize, value: Option<ValueId>) {
        let inputs = &mut self.nodes[node.index()].inputs;
        if inputs.len() <= i {
            inputs.resize(i + 1, None);
        }
        inputs[i] = value;
    }

    /// Makes every reader of a value read `instead` of it, in one walk. Graph outputs are not touched.
    pub fn replace_all_reads(&mut self, instead: impl Fn(ValueId) -> ValueId) {
        for node in self.nodes.iter_mut().filter(|n| !n.removed) {
            for v in node.inputs.iter_mut().flatten() {
                *v = instead(*v);
            }
        }
    }

    /// Gives output `i` of `node` to be computed by `by` (its output `j`) from now on; the value keeps name and id.
    /// The value that `by` computed there before is defined nowhere any more.
    pub fn take_over_output(&mut self, node: NodeId, i: usize, by: NodeId, j: usize) {
        let value = self.nodes[node.index()].outputs[i].take();
        if let Some(v) = value {
            self.values[v.index()].def = Def::Node(by, j);
        }
        let outputs = &mut self.nodes[by.index()].outputs;
        if outputs.len() <= j {
            outputs.resize(j + 1, None);
        }
        let before = std::mem::replace(&mut outputs[j], value);
        if let Some(v) = before {
            self.retire(v);
        }
    }

    /// Leaves out output `i` of a node, which must be unused and optional. The list ends at the last output in use.
    pub fn drop_output(&mut self, node: NodeId, i: usize) {
        let outputs = &mut self.nodes[node.index()].outputs;
        let before = outputs[i].take();
        while outputs.len() > 1 && outputs.last() == Some(&None) {
            outputs.pop();
        }
        if let Some(v) = before {
            self.retire(v);
        }
    }

    /// A value that nothing computes any more, and its declarations.
    fn retire(&mut self, value: ValueId) {
        self.values[value.index()].def = Def::Nowhere;
        let graph = self.values[value.index()].graph;
        self.graphs[graph.index()].value_info.retain(|p| p.value != value);
    }

    /// Turns a value that a node computes into an initializer of its graph. The node loses the output, and is removed
    /// with its last one.
    pub fn make_initializer(&mut self, value: ValueId, tensor: &Tensor) {
        let v = &mut self.values[value.index()];
        let def = std::mem::replace(&mut v.def, Def::Initializer);
        v.tensor = Some(tensor.to_proto(&v.name));
        self.list_initializer(value, tensor);
        if let Def::Node(node, i) = def {
            let outputs = &mut self.nodes[node.index()].outputs;
            outputs[i] = None;
            if outputs.iter().all(Option::is_none) {
                self.remove_node(node);
            }
        }
    }

    /// A new initializer under a name that is free everywhere in the model and starts with `hint`.
    pub fn add_initializer(&mut self, graph: GraphId, hint: &str, tensor: &Tensor) -> ValueId {
        let name = self.free_name(hint);
        let proto = tensor.to_proto(&name);
        let id = ValueId::at(self.values.len());
        self.values.push(Value { name, graph, def: Def::Initializer, tensor: Some(proto) });
        self.list_initializer(id, tensor);
        id
    }

    /// Lists a new initializer in its graph; before IR version 4 the main graph's had to be inputs as well.
    fn list_initializer(&mut self, value: ValueId, tensor: &Tensor) {
        let graph = self.value(value).graph;
        self.graphs[graph.index()].initializers.push(value);
        if self.header.ir_version() < 4 && graph == self.main() {
            let info = declaration(self.value(value).name(), tensor);
            self.graphs[graph.index()].inputs.push(Port { value, info });
        }
    }

    /// A copy of a node, with its own outputs under free names, placed right before `before` in the same graph.
    /// Nodes with bodies cannot be copied: `None`.
    pub fn add_copy(&mut self, of: NodeId, before: NodeId) -> Option<NodeId> {
        let original = self.node(of).clone();
        if !original.bodies.is_empty() {
            return None;
        }
        let mut proto = original.proto.clone();
        if proto.name.is_some() {
            proto.name = Some(self.free_node_name(original.name()));
        }
        let names: Vec<Option<String>> =
            original.outputs.iter().map(|o| o.map(|v| self.value(v).name.clone())).collect();
        let id = self.insert_node(proto, original.inputs.clone(), before);
        for (i, name) in names.into_iter().enumerate() {
            let value = name.map(|hint| {
                let name = self.free_name(&hint);
                let value = ValueId::at(self.values.len());
                let graph = self.nodes[id.index()].graph;
                self.values.push(Value { name, graph, def: Def::Node(id, i), tensor: None });
                value
            });
            self.nodes[id.index()].outputs.push(value);
        }
        Some(id)
    }

    fn insert_node(&mut self, proto: NodeProto, inputs: Vec<Option<ValueId>>, before: NodeId) -> NodeId {
        let id = NodeId::at(self.nodes.len());
        let graph = self.node(before).graph;
        self.nodes.push(Node { graph, proto, inputs, outputs: Vec::new(), bodies: Vec::new(), removed: false });
        let list = &mut self.graphs[graph.index()].nodes;
        let at = list.iter().position(|&n| n == before).expect("a live node is in its graph's list");
        list.insert(at, id);
        id
    }

    /// [`Model::set_constant`] of many, with one walk over the declarations.
    pub fn set_constants(&mut self, contents: &[(ValueId, Tensor)]) {
        let mut shapes = BTreeMap::new();
        for (value, tensor) in contents {
            self.set_content(*value, tensor);
            shapes.insert(*value, tensor.shape().iter().map(|&d| Some(d)).collect());
        }
        self.declare_shapes(&shapes);
    }

    /// Lets what a node computes as output `i` pass a new node of the standard domain, `op_type (output, with)`, right
    /// behind it: the value keeps its name and readers, and the new node computes it.
    pub fn follow_by(&mut self, node: NodeId, i: usize, op_type: &str, with: ValueId) {
        let Some(value) = self.node(node).output(i) else { return };
        let graph = self.node(node).graph;
        let (hint, label) = (self.value(value).name.clone(), self.label(node));
        let name = self.free_name(&hint);
        let inner = ValueId::at(self.values.len());
        self.values.push(Value { name, graph, def: Def::Node(node, i), tensor: None });
        self.nodes[node.index()].outputs[i] = Some(inner);
        let id = NodeId::at(self.nodes.len());
        let name = Some(self.free_node_name(&label));
        let proto = NodeProto { op_type: Some(op_type.to_owned()), name, ..Default::default() };
        let (inputs, outputs) = (vec![Some(inner), Some(with)], vec![Some(value)]);
        self.nodes.push(Node { graph, proto, inputs, outputs, bodies: Vec::new(), removed: false });
        self.values[value.index()].def = Def::Node(id, 0);
        let list = &mut self.graphs[graph.index()].nodes;
        let at = list.iter().position(|&n| n == node).expect("a live node is in its graph's list");
        list.insert(at + 1, id);
    }

    /// Replaces the content of an initializer or of a `Constant` node, keeping its name and other fields. The
    /// declarations of the value's shape follow.
    pub fn set_constant(&mut self, value: ValueId, tensor: &Tensor) {
        self.set_constants(&[(value, tensor.clone())]);
    }

    fn set_content(&mut self, value: ValueId, tensor: &Tensor) {
        let slot = match self.value(value).def {
            Def::Initializer => self.values[value.index()].tensor.as_mut(),
            Def::Node(n, _) => self.nodes[n.index()].proto.attribute.iter_mut().find_map(|a| a.t.as_mut()),
            _ => None,
        };
        let Some(slot) = slot else { return };
        let TensorProto { dims, raw_data, data_type, .. } = tensor.to_proto("");
        (slot.dims, slot.raw_data, slot.data_type) = (dims, raw_data, data_type);
        // The payload now lies in `raw_data`; the typed fields would contradict it.
        slot.float_data.clear();
        slot.int32_data.clear();
        slot.int64_data.clear();
        slot.double_data.clear();
        slot.uint64_data.clear();
    }

    /// Updates the declared shapes of values wherever they are declared: `Some` replaces a fixed extent, `None` keeps
    /// what stands there. A declaration of another rank is left alone.
    pub fn declare_shapes(&mut self, shapes: &BTreeMap<ValueId, Vec<Option<usize>>>) {
        for graph in &mut self.graphs {
            let lists = [&mut graph.inputs, &mut graph.outputs, &mut graph.value_info];
            for port in lists.into_iter().flatten() {
                if let Some(shape) = shapes.get(&port.value) {
                    narrow_declaration(&mut port.info, shape);
                }
            }
        }
    }

    /// Makes a node another operator of the standard domain; its edges stay.
    pub fn set_operator(&mut self, id: NodeId, op_type: &str) {
        self.nodes[id.index()].proto.op_type = Some(op_type.to_owned());
    }

    /// Removes a node. Its outputs must be unused; the verifier says so where they are not.
    pub fn remove_node(&mut self, id: NodeId) {
        let node = &mut self.nodes[id.index()];
        node.removed = true;
        let graph = node.graph;
        self.graphs[graph.index()].nodes.retain(|&n| n != id);
    }

    /// Removes several nodes in one walk, as [`Model::remove_node`] does one.
    pub fn remove_nodes(&mut self, ids: &BTreeSet<NodeId>) {
        for &id in ids {
            self.nodes[id.index()].removed = true;
        }
        for graph in &mut self.graphs {
            graph.nodes.retain(|n| !ids.contains(n));
        }
    }

    /// Removes initializers that nothing reads, their declarations included.
    pub fn remove_initializers(&mut self, ids: &BTreeSet<ValueId>) {
        for graph in &mut self.graphs {
            graph.initializers.retain(|v| !ids.contains(v));
            graph.inputs.retain(|p| !ids.contains(&p.value));
            graph.value_info.retain(|p| !ids.contains(&p.value));
        }
        for id in ids {
            self.values[id.index()].def = Def::Nowhere;
        }
    }

    /// Drops nodes that nothing needs, and initializers and declarations that nothing reads. Returns the number of
    /// nodes and of initializers removed. Inputs and outputs of the main graph stay.
    pub fn sweep(&mut self) -> (usize, usize) {
        let mut live_nodes: HashSet<NodeId> = HashSet::new();
        let mut live_values: HashSet<ValueId> = HashSet::new();
        let mut queue: Vec<ValueId> = self.graph(self.main()).outputs.iter().map(|p| p.value).collect();
        while let Some(v) = queue.pop() {
            if !live_values.insert(v) {
                continue;
            }
            if let Def::Node(n, _) = self.value(v).def
                && live_nodes.insert(n)
            {
                // Of a body only what its outputs depend on: a dead node in it keeps nothing around it alive.
                let node = self.node(n);
                queue.extend(node.inputs.iter().flatten());
                queue.extend(node.bodies.iter().flat_map(|b| &self.graph(b.graph).outputs).map(|p| p.value));
            }
        }
        let mut removed = (0, 0);
        for g in self.live_graphs() {
            let nodes = std::mem::take(&mut self.graphs[g.index()].nodes);
            let (keep, drop): (Vec<_>, Vec<_>) = nodes.into_iter().partition(|n| live_nodes.contains(n));
            for n in &drop {
                self.nodes[n.index()].removed = true;
            }
            removed.0 += drop.len();
            self.graphs[g.index()].nodes = keep;
        }
        for g in self.live_graphs() {
            let kept: HashSet<ValueId> = self.graph(g).inputs.iter().map(|p| p.value).collect();
            let kept: HashSet<ValueId> = kept.into_iter().filter(|&v| self.is_overridable(v)).collect();
            let values = &self.values;
            let graph = &mut self.graphs[g.index()];
            let before = graph.initializers.len();
            graph.initializers.retain(|v| live_values.contains(v) || kept.contains(v));
            removed.1 += before - graph.initializers.len();
            // Inputs that are not fed are initializers of a file before IR version 4, and go with them.
            let gone = |v: &ValueId| !live_values.contains(v) && !kept.contains(v);
            graph.inputs.retain(|p| values[p.value.index()].def != Def::Initializer || !gone(&p.value));
            graph
                .value_info
                .retain(|p| live_values.contains(&p.value) && !matches!(values[p.value.index()].def, Def::Nowhere));
        }
        removed
    }

    /// A value name that no graph of the model uses: `hint` itself or `hint.1`, `hint.2`, ... It counts as used from
    /// now on.
    pub(super) fn free_name(&mut self, hint: &str) -> String {
        let used = self.note_names();
        let mut last = match used.get(hint) {
            None => {
                used.insert(hint.to_owned(), 0);
                return hint.to_owned();
            }
            Some(last) => *last,
        };
        loop {
            last += 1;
            let name = format!("{hint}.{last}");
            if !used.contains_key(&name) {
                used.insert(hint.to_owned(), last);
                used.insert(name.clone(), 0);
                return name;
            }
        }
    }

    /// Names in use: those that values have now, and all that were made since the first call. By name, the number that
    /// was tried last after it: names are never given back, so none below is free again.
    pub(super) fn note_names(&mut self) -> &mut HashMap<String, usize> {
        let values = &self.values;
        self.names.get_or_insert_with(|| values.iter().map(|v| (v.name.clone(), 0)).collect())
    }

    fn free_node_name(&self, hint: &str) -> String {
        let used: HashSet<&str> = self.nodes.iter().map(|n| n.name()).collect();
        free(hint, |name| used.contains(name))
    }

    /// A node's attributes, for change.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.index()]
    }
}

fn free(hint: &str, used: impl Fn(&str) -> bool) -> String {
    if !used(hint) {
        return hint.to_owned();
    }
    (1usize..).map(|i| format!("{hint}.{i}")).find(|n| !used(n)).expect("some number is free")
}

/// The declaration of a constant.
fn declaration(name: &str, tensor: &Tensor) -> ValueInfoProto {
    use crate::onnx::proto::{TensorShapeProto, TypeProto, tensor_shape_proto::*, type_proto};
    let dim = |&d: &usize| Dimension { value: Some(dimension::Value::DimValue(d as i64)), denotation: None };
    let shape = Some(TensorShapeProto { dim: tensor.shape().iter().map(dim).collect() });
    let tensor = type_proto::Tensor { elem_type: Some(tensor.dtype() as i32), shape };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), denotation: None };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(ty), ..Default::default() }
}

fn narrow_declaration(info: &mut ValueInfoProto, shape: &[Option<usize>]) {
    use crate::onnx::proto::{tensor_shape_proto::dimension, type_proto};
    let Some(type_proto::Value::TensorType(t)) = info.r#type.as_mut().and_then(|t| t.value.as_mut()) else { return };
    let Some(declared) = t.shape.as_mut().filter(|s| s.dim.len() == shape.len()) else { return };
    for (dim, new) in declared.dim.iter_mut().zip(shape) {
        if let (Some(dimension::Value::DimValue(d)), Some(new)) = (dim.value.as_mut(), new) {
            *d = *new as i64;
        }
    }
}
