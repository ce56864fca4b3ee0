//! Calls of the model's own functions replaced by their bodies.
//!
//! Guarantees: an inlined call computes what the call did; the values that it gave keep names and ids, all others get
//! names that nothing in the model has. A call that is refused is left as it was.
//! Refuses: functions that call themselves, that were written for another version of an operator set than the
//! model's, that would make far more nodes than any network has, and calls that do not fit them.
//! How: the nodes of the body are read like those of a file, into the graph of the call, with the call's operands in
//! the place of the function's inputs. References to the function's attributes become the attributes of the call, or
//! their defaults; what has neither is left out.

use super::import::Importer;
use super::model::{Def, Model, Node};
use super::{NodeId, ValueId, order};
use crate::onnx::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto, OperatorSetIdProto};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Nodes beyond which nothing more is inlined: functions that call functions twice grow beyond any memory.
const MOST_NODES: usize = 1 << 20;
/// Calls within calls.
const MOST_DEPTH: usize = 256;

/// Why a call stays a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InlineError {
    /// No function of this domain, name and overload.
    #[error("the model has no function {0}")]
    Undefined(String),
    #[error("function {0} calls itself")]
    Recursive(String),
    #[error("function {0} would make more nodes than can be handled")]
    TooLarge(String),
    #[error(
        "function {function} is written for version {wanted} of the operators of domain '{domain}', the model uses {found}"
    )]
    Opset { function: String, domain: String, wanted: i64, found: i64 },
    /// More operands than the function has, a body that reads what is not there, an attribute of a kind that cannot
    /// be handed on.
    #[error("the call does not fit function {function}: {text}")]
    Misfit { function: String, text: String },
}

/// What became of the calls that were to be inlined.
#[derive(Debug, Clone, Default)]
pub struct Inlined {
    /// How many were.
    pub calls: usize,
    /// Calls that stay, and why.
    pub refused: Vec<(NodeId, InlineError)>,
}

/// Domain, name and overload; the standard domain has two spellings.
type Key = (String, String, String);

fn key(domain: &str, name: &str, overload: &str) -> Key {
    (canonical(domain).to_owned(), name.to_owned(), overload.to_owned())
}

fn canonical(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

impl Model {
    /// Replaces the calls of functions that `wanted` picks by the functions' bodies. Calls that come with a body are
    /// not looked at; functions that nothing calls any more are dropped.
    pub fn inline(&mut self, wanted: impl Fn(&Model, NodeId) -> bool) -> Inlined {
        if self.header.functions.is_empty() {
            return Inlined::default();
        }
        let calls: Vec<NodeId> =
            self.walk().into_iter().filter(|&n| self.is_local_function(self.node(n)) && wanted(self, n)).collect();
        let mut inliner = Inliner::new(self);
        let mut out = Inlined::default();
        let mut bodies: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for call in calls {
            match inliner.call(call) {
                Ok(body) => drop(bodies.insert(call, body)),
                Err(why) => out.refused.push((call, why)),
            }
        }
        out.calls = bodies.len();
        let called = inliner.called_before;
        for graph in &mut self.graphs {
            let spliced = |n: &NodeId| bodies.get(n).cloned().unwrap_or_else(|| vec![*n]);
            graph.nodes = graph.nodes.iter().flat_map(spliced).collect();
        }
        for call in bodies.keys() {
            self.nodes[call.index()].removed = true;
        }
        self.drop_functions(&called);
        out
    }

    /// [`Model::inline`] of every call, and of those that come with their bodies.
    pub fn inline_all(&mut self) -> Inlined {
        let mut out = Inlined::default();
        loop {
            let known: BTreeSet<NodeId> = out.refused.iter().map(|r| r.0).collect();
            let round = self.inline(|_, n| !known.contains(&n));
            out.calls += round.calls;
            out.refused.extend(round.refused);
            if round.calls == 0 {
                return out;
            }
        }
    }

    /// Drops the functions of `called` that nothing calls any more, and the operator sets that only they were of.
    fn drop_functions(&mut self, called: &BTreeSet<Key>) {
        let still = reachable(self);
        let gone = |f: &FunctionProto| {
            let key = key(f.domain(), f.name(), f.overload());
            called.contains(&key) && !still.contains(&key)
        };
        let (dropped, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.header.functions).into_iter().partition(gone);
        self.header.functions = kept;
        let mut used: BTreeSet<&str> = self.header.functions.iter().map(|f| canonical(f.domain())).collect();
        used.extend(self.header.functions.iter().flat_map(|f| &f.opset_import).map(|o| canonical(o.domain())));
        used.extend(self.nodes.iter().filter(|n| !n.removed).map(|n| canonical(n.domain())));
        let left: BTreeSet<String> = dropped
            .iter()
            .map(|f| canonical(f.domain()))
            .filter(|d| !d.is_empty() && !used.contains(d))
            .map(str::to_owned)
            .collect();
        self.header.opset_import.retain(|o| !left.contains(canonical(o.domain())));
    }
}

/// Functions that the nodes of the model call, directly or through others.
fn reachable(model: &Model) -> BTreeSet<Key> {
    let functions: HashMap<Key, &FunctionProto> =
        model.header.functions.iter().map(|f| (key(f.domain(), f.name(), f.overload()), f)).collect();
    let mut seen = BTreeSet::new();
    let mut queue: Vec<Key> = model.nodes.iter().filter(|n| !n.removed).map(|n| called(&n.proto)).collect();
    while let Some(key) = queue.pop() {
        if let Some(function) = functions.get(&key)
            && seen.insert(key)
        {
            each_node(&function.node, &mut |n| queue.push(called(n)));
        }
    }
    seen
}

fn called(node: &NodeProto) -> Key {
    key(node.domain(), node.op_type(), node.overload())
}

/// Visits nodes and those of the graphs within them.
fn each_node<'a>(nodes: &'a [NodeProto], visit: &mut dyn FnMut(&'a NodeProto)) {
    for node in nodes {
        visit(node);
        for graph in node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)) {
            each_node(&graph.node, visit);
        }
    }
}

struct Inliner<'a> {
    model: &'a mut Model,
    functions: HashMap<Key, FunctionProto>,
    /// Nodes that a function comes to with all that it calls; an error for one that cannot be inlined.
    sizes: HashMap<Key, Result<usize, InlineError>>,
    node_names: HashSet<String>,
    called_before: BTreeSet<Key>,
}

impl<'a> Inliner<'a> {
    fn new(model: &'a mut Model) -> Self {
        let functions = model.header.functions.iter();
        let functions = functions.map(|f| (key(f.domain(), f.name(), f.overload()), f.clone())).collect();
        let node_names = model.nodes.iter().map(|n| n.name().to_owned()).collect();
        let called_before = reachable(model);
        Self { model, functions, sizes: HashMap::new(), node_names, called_before }
    }

    /// The nodes that take the place of a call, in order.
    fn call(&mut self, call: NodeId) -> Result<Vec<NodeId>, InlineError> {
        let node = self.model.node(call).clone();
        let key = called(&node.proto);
        let shown = shown(&key);
        let function = self.functions.get(&key).cloned().ok_or_else(|| InlineError::Undefined(shown.clone()))?;
        let size = self.size(&key, 0)?;
        if self.model.node_count().saturating_add(size) > MOST_NODES {
            return Err(InlineError::TooLarge(shown));
        }
        let missing_domains = self.imports(&function, &shown)?;
        let misfit = |text: String| InlineError::Misfit { function: shown.clone(), text };
        let body = instance(&node, &function).map_err(misfit)?;

        let before = (self.model.nodes.len(), self.model.values.len(), self.model.graphs.len());
        let listed = self.model.graph(node.graph).nodes.len();
        let result = self.read(call, &node, &function, body);
        let nodes = self.model.graphs[node.graph.index()].nodes.split_off(listed);
        if let Err(text) = result {
            self.model.nodes.truncate(before.0);
            self.model.values.truncate(before.1);
            self.model.graphs.truncate(before.2);
            for (i, v) in node.outputs.iter().enumerate().filter_map(|(i, v)| Some((i, (*v)?))) {
                self.model.values[v.index()].def = Def::Node(call, i);
            }
            return Err(InlineError::Misfit { function: shown, text });
        }
        self.rename(&self.model.label(call), before);
        self.model.header.opset_import.extend(missing_domains);
        Ok(nodes)
    }

    /// Reads the body into the graph of the call.
    fn read(
        &mut self,
        call: NodeId,
        node: &Node,
        function: &FunctionProto,
        body: Vec<NodeProto>,
    ) -> Result<(), String> {
        self.model.note_names();
        let operands = function.input.iter().zip(&node.inputs).filter_map(|(name, v)| Some((name.clone(), (*v)?)));
        let scope: HashMap<String, ValueId> = operands.collect();
        let mut given: HashMap<&str, ValueId> = HashMap::new();
        let mut again: Vec<(&str, ValueId)> = Vec::new();
        for (name, v) in function.output.iter().zip(&node.outputs).filter_map(|(name, v)| Some((name, (*v)?))) {
            if scope.contains_key(name) || given.contains_key(name.as_str()) {
                again.push((name, v));
            } else {
                given.insert(name, v);
            }
        }
        let mut importer = Importer { model: &mut *self.model, scopes: vec![scope] };
        for mut proto in body {
            let (inputs, outputs) = (std::mem::take(&mut proto.input), std::mem::take(&mut proto.output));
            if let Some(name) = inputs.iter().find(|i| !i.is_empty() && importer.resolve(i).is_none()) {
                return Err(format!("its body reads '{name}', which nothing computes before"));
            }
            let id = NodeId::at(importer.model.nodes.len());
            let at = node.graph;
            let new = Node { graph: at, proto, inputs: vec![], outputs: vec![], bodies: vec![], removed: false };
            importer.model.nodes.push(new);
            importer.model.graphs[at.index()].nodes.push(id);
            for (i, name) in outputs.into_iter().enumerate() {
                let value = match given.remove(name.as_str()) {
                    _ if name.is_empty() => None,
                    Some(v) => {
                        importer.model.values[v.index()].def = Def::Node(id, i);
                        importer.scopes[0].insert(name, v);
                        Some(v)
                    }
                    None => Some(
                        importer
                            .define(at, name, Def::Node(id, i), || "a node of the function".to_owned())
                            .map_err(|e| e.to_string())?,
                    ),
                };
                importer.model.nodes[id.index()].outputs.push(value);
            }
            importer.connect(at, id, inputs).map_err(|e| e.to_string())?;
            let own = &importer.model.node(id).outputs;
            if order::reads(importer.model, id).iter().any(|v| own.contains(&Some(*v))) {
                return Err("a node of its body reads what it computes itself".to_owned());
            }
        }
        if let Some(name) = given.keys().min() {
            return Err(format!("its body does not compute its output '{name}'"));
        }
        for (name, v) in again {
            let from = self.resolved(call, node, function, name)?;
            self.hand_on(node, from, v);
        }
        Ok(())
    }

    /// What an output of the function that is also an input, or another output, stands for.
    fn resolved(&self, call: NodeId, node: &Node, function: &FunctionProto, name: &str) -> Result<ValueId, String> {
        let operand = function.input.iter().position(|i| i == name).map(|i| node.input(i));
        let first = || function.output.iter().position(|o| o == name).and_then(|i| node.output(i));
        let found = match operand {
            Some(given) => given,
            None => first(),
        };
        found.ok_or_else(|| format!("output '{name}' of '{}' is an input that is left out", self.model.label(call)))
    }

    fn hand_on(&mut self, like: &Node, from: ValueId, to: ValueId) {
        let id = NodeId::at(self.model.nodes.len());
        let proto = NodeProto { op_type: Some("Identity".to_owned()), ..Default::default() };
        let (graph, inputs, outputs) = (like.graph, vec![Some(from)], vec![Some(to)]);
        self.model.nodes.push(Node { graph, proto, inputs, outputs, bodies: vec![], removed: false });
        self.model.graphs[graph.index()].nodes.push(id);
        self.model.values[to.index()].def = Def::Node(id, 0);
    }

    /// Gives everything that is new a name of its own, after the call.
    fn rename(&mut self, label: &str, (nodes, values, graphs): (usize, usize, usize)) {
        for i in values..self.model.values.len() {
            let name = format!("{label}/{}", self.model.values[i].name);
            let name = self.model.free_name(&name);
            let value = &mut self.model.values[i];
            if let Some(tensor) = &mut value.tensor {
                tensor.name = Some(name.clone());
            }
            value.name = name;
        }
        for i in nodes..self.model.nodes.len() {
            let own = match self.model.nodes[i].name() {
                "" => self.model.nodes[i].op_type().to_owned(),
                name => name.to_owned(),
            };
            let hint = format!("{label}/{own}");
            let names = &self.node_names;
            let free = (0usize..).map(|k| if k == 0 { hint.clone() } else { format!("{hint}.{k}") });
            let name = free.into_iter().find(|n| !names.contains(n)).expect("some number is free");
            self.node_names.insert(name.clone());
            self.model.nodes[i].proto.name = Some(name);
        }
        // Annotations speak of tensors by the names that they had.
        for graph in &mut self.model.graphs[graphs..] {
            graph.header.quantization_annotation.clear();
        }
    }

    /// Nodes of a function with all that it calls.
    fn size(&mut self, key: &Key, depth: usize) -> Result<usize, InlineError> {
        match self.sizes.get(key) {
            Some(known) => return known.clone(),
            // Under way: it calls itself, unless this entry is replaced in the end.
            None => drop(self.sizes.insert(key.clone(), Err(InlineError::Recursive(shown(key))))),
        }
        if depth > MOST_DEPTH {
            return Err(InlineError::TooLarge(shown(key)));
        }
        let mut inner = Vec::new();
        let mut total = 0usize;
        each_node(&self.functions[key].node, &mut |n| {
            total += 1;
            inner.push(called(n));
        });
        for callee in inner.iter().filter(|k| self.functions.contains_key(*k)).cloned().collect::<Vec<_>>() {
            match self.size(&callee, depth + 1) {
                Ok(size) => total = total.saturating_add(size),
                Err(why) => {
                    self.sizes.insert(key.clone(), Err(why.clone()));
                    return Err(why);
                }
            }
        }
        self.sizes.insert(key.clone(), Ok(total));
        Ok(total)
    }

    /// Operator sets that the body needs and the model does not import; an error where they contradict each other.
    fn imports(&self, function: &FunctionProto, shown: &str) -> Result<Vec<OperatorSetIdProto>, InlineError> {
        let mut needed: BTreeSet<String> = BTreeSet::new();
        each_node(&function.node, &mut |n| {
            if !self.functions.contains_key(&called(n)) {
                needed.insert(canonical(n.domain()).to_owned());
            }
        });
        let mut missing = Vec::new();
        for domain in needed {
            let own = function.opset_import.iter().filter(|o| canonical(o.domain()) == domain);
            match (own.map(|o| o.version()).max(), self.model.opset(&domain)) {
                (Some(wanted), Some(found)) if wanted != found => {
                    return Err(InlineError::Opset { function: shown.to_owned(), domain, wanted, found });
                }
                (Some(wanted), None) => {
                    missing.push(OperatorSetIdProto { domain: Some(domain), version: Some(wanted) });
                }
                (None, _) => {
                    let text = format!("its body uses operators of domain '{domain}', which it does not import");
                    return Err(InlineError::Misfit { function: shown.to_owned(), text });
                }
                _ => {}
            }
        }
        Ok(missing)
    }
}

fn shown((domain, name, overload): &Key) -> String {
    let domain = if domain.is_empty() { String::new() } else { format!("{domain}.") };
    let overload = if overload.is_empty() { String::new() } else { format!(":{overload}") };
    format!("{domain}{name}{overload}")
}

/// The nodes of a function's body for one call: attributes are those of the call, operands that the call leaves out
/// are left out.
fn instance(call: &Node, function: &FunctionProto) -> Result<Vec<NodeProto>, String> {
    let (i, o) = (call.inputs.len(), call.outputs.len());
    if i > function.input.len() || o > function.output.len() {
        let (fi, fo) = (function.input.len(), function.output.len());
        return Err(format!("{i} inputs and {o} outputs are given, it has {fi} and {fo}"));
    }
    if !call.bodies.is_empty() {
        return Err("an attribute of the call is a graph".to_owned());
    }
    let mut attributes: BTreeMap<&str, &AttributeProto> =
        function.attribute_proto.iter().map(|a| (a.name(), a)).collect();
    for given in call.attributes() {
        if given.ref_attr_name.is_some() {
            return Err(format!("attribute '{}' refers to a function around the call", given.name()));
        }
        attributes.insert(given.name(), given);
    }
    let absent = |(i, name): (usize, &String)| call.input(i).is_none().then(|| name.clone());
    let absent: BTreeSet<String> = function.input.iter().enumerate().filter_map(absent).collect();
    let mut body = function.node.clone();
    bind(&mut body, &attributes, &absent)?;
    Ok(body)
}

fn bind(
    nodes: &mut [NodeProto],
    attributes: &BTreeMap<&str, &AttributeProto>,
    absent: &BTreeSet<String>,
) -> Result<(), String> {
    for node in nodes {
        for input in node.input.iter_mut().filter(|i| absent.contains(*i)) {
            input.clear();
        }
        while node.input.last().is_some_and(String::is_empty) {
            node.input.pop();
        }
        let mut bound = Vec::with_capacity(node.attribute.len());
        for mut attribute in std::mem::take(&mut node.attribute) {
            if let Some(name) = attribute.ref_attr_name.take().filter(|n| !n.is_empty()) {
                let Some(&given) = attributes.get(name.as_str()) else { continue };
                if attribute.r#type.is_some_and(|t| t != 0 && given.r#type.is_some_and(|g| g != 0 && g != t)) {
                    return Err(format!("attribute '{name}' is of another type than its body uses"));
                }
                attribute = AttributeProto { name: attribute.name, doc_string: attribute.doc_string, ..given.clone() };
            }
            attribute.g.iter_mut().chain(&mut attribute.graphs).try_for_each(|g| bind_graph(g, attributes, absent))?;
            bound.push(attribute);
        }
        node.attribute = bound;
    }
    Ok(())
}

fn bind_graph(
    graph: &mut GraphProto,
    attributes: &BTreeMap<&str, &AttributeProto>,
    absent: &BTreeSet<String>,
) -> Result<(), String> {
    if let Some(output) = graph.output.iter().find(|o| absent.contains(o.name())) {
        return Err(format!("a graph in its body hands on '{}', which the call leaves out", output.name()));
    }
    if !graph.sparse_initializer.is_empty() {
        return Err("a graph in its body has a sparse initializer".to_owned());
    }
    bind(&mut graph.node, attributes, absent)
}
