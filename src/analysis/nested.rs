//! Shapes into and out of the bodies of `If`, `Loop` and `Scan`.
//!
//! Guarantees: what is said of a body's inputs holds in every iteration. A carried value has the shape of its initial
//! value only if the body, given that shape, gives it back; otherwise what the file declares for it is all that is
//! known.
//! Refuses: nothing; `Scan` before opset 9, which has a batch axis of its own, and bodies of other operators keep what
//! is declared.

use super::infer::{Shapes, visit};
use crate::ir::{Def, GraphId, Model, Node, NodeId, ValueId};
use crate::onnx::tensor::DataType;
use crate::ops::{Action, Effect, Fact};
use std::collections::BTreeMap;

/// How often bodies are gone through again because a carried value changes its shape, in one model.
const MOST_REPEATS: usize = 64;

/// Infers graph after graph, the bodies of a node before the node.
pub(super) struct Bodies<'a> {
    model: &'a Model,
    /// Facts that the file declares.
    declared: &'a BTreeMap<ValueId, Fact>,
    repeats: usize,
}

/// What a node feeds its body with and takes from it.
struct Ports {
    /// Inputs of the body that keep their shape from iteration to iteration, with the fact of the initial value.
    carried: Vec<(ValueId, Option<Fact>, ValueId)>,
    /// Other inputs of the body.
    fed: Vec<(ValueId, Fact)>,
}

impl<'a> Bodies<'a> {
    pub fn new(model: &'a Model, declared: &'a BTreeMap<ValueId, Fact>) -> Self {
        Self { model, declared, repeats: MOST_REPEATS }
    }

    pub fn graph(&mut self, graph: GraphId, shapes: &mut Shapes) {
        for &n in self.model.graph(graph).nodes() {
            if self.model.node(n).bodies().is_empty() {
                visit(self.model, n, shapes, self.declared);
            } else {
                self.node(n, shapes);
            }
        }
    }

    fn node(&mut self, n: NodeId, shapes: &mut Shapes) {
        let node = self.model.node(n);
        let body = node.bodies()[0].graph;
        let Some(ports) = iterated(self.model, node, shapes) else {
            node.bodies().iter().for_each(|b| self.graph(b.graph, shapes));
            let outputs = if branches(node).is_some() {
                self.joined(node, shapes)
            } else {
                vec![Fact::default(); node.outputs().len()]
            };
            return self.finish(n, outputs, shapes);
        };
        for (v, fact) in ports.fed {
            shapes.facts[v.index()] = Some(fact);
        }
        // Shapes that were assumed and did not come back are given up, at the second time all of them.
        let mut given_up: Vec<bool> = vec![self.repeats == 0; ports.carried.len()];
        for round in 0.. {
            for ((v, initial, _), given_up) in ports.carried.iter().zip(&given_up) {
                let kept = initial.clone().filter(|_| !given_up);
                shapes.facts[v.index()] = kept.or_else(|| self.declared.get(v).cloned());
            }
            self.graph(body, shapes);
            let changed = |k: usize| {
                let (v, _, out) = &ports.carried[k];
                !given_up[k] && shapes.shape(*v) != shapes.shape(*out)
            };
            let changed: Vec<bool> = (0..ports.carried.len()).map(changed).collect();
            if !changed.contains(&true) {
                break;
            }
            self.repeats = self.repeats.saturating_sub(1);
            given_up = if round == 0 && self.repeats > 0 {
                given_up.iter().zip(changed).map(|(a, b)| *a || b).collect()
            } else {
                vec![true; given_up.len()]
            };
        }
        let outputs = self.collected(node, shapes);
        self.finish(n, outputs, shapes);
    }

    fn finish(&self, n: NodeId, outputs: Vec<Fact>, shapes: &mut Shapes) {
        let node = self.model.node(n);
        let mut told = Vec::with_capacity(outputs.len());
        for (v, fact) in node.outputs().iter().zip(outputs) {
            let declared = v.and_then(|v| self.declared.get(&v).cloned());
            let fact = if fact.shape.is_some() { fact } else { declared.unwrap_or(fact) };
            if let Some(v) = *v {
                shapes.facts[v.index()] = Some(fact.clone());
            }
            told.push(fact);
        }
        let action = Action::Opaque("it has a body".to_owned());
        shapes.effects[n.index()] = Some(Ok(Effect { outputs: told, action }));
    }

    /// Outputs of an `If`: of a known shape where both branches agree.
    fn joined(&self, node: &Node, shapes: &Shapes) -> Vec<Fact> {
        let branches = node.bodies().iter().map(|b| self.model.graph(b.graph).outputs());
        let branches: Vec<Vec<ValueId>> = branches.map(|ports| ports.iter().map(|p| p.value).collect()).collect();
        let output = |i: usize| {
            let facts: Vec<Option<&Fact>> =
                branches.iter().map(|outputs| outputs.get(i).and_then(|&v| shapes.fact(v))).collect();
            match facts[..] {
                [Some(a), Some(b)] if a.shape == b.shape => Fact { value: None, ..a.clone() },
                _ => Fact::default(),
            }
        };
        (0..node.outputs().len()).map(output).collect()
    }

    /// Outputs of a `Loop` or `Scan`: last values of what is carried, then one of each iteration side by side.
    fn collected(&self, node: &Node, shapes: &Shapes) -> Vec<Fact> {
        let outputs: Vec<ValueId> =
            self.model.graph(node.bodies()[0].graph).outputs().iter().map(|p| p.value).collect();
        let is_scan = node.op_type() == "Scan";
        // The first output of a Loop's body is its condition.
        let skip = usize::from(!is_scan);
        let carried = carried_count(node).unwrap_or(0);
        let turns = if is_scan { turns(node, shapes) } else { None };
        let output = |i: usize| -> Fact {
            let Some(fact) = outputs.get(i + skip).and_then(|&v| shapes.fact(v)) else { return Fact::default() };
            if i < carried {
                return Fact { value: None, ..fact.clone() };
            }
            let shape = turns.zip(fact.shape.clone()).and_then(|(turns, mut shape)| {
                shape.insert(stacked_axis(node, i - carried, shape.len())?, turns);
                Some(shape)
            });
            Fact { dtype: fact.dtype, shape, value: None }
        };
        (0..node.outputs().len()).map(output).collect()
    }
}

/// What passes between a `Loop` or `Scan` and its body slice by slice, one slice an iteration.
#[derive(Default)]
pub(super) struct Slices {
    /// How many of the node's inputs, and of the body's outputs, go into every iteration whole.
    pub whole: (usize, usize),
    /// Input of the node, its axis, and the body's input that is a slice of it.
    pub inputs: Vec<(ValueId, usize, ValueId)>,
    /// Output of the body, the axis along which they are put side by side, and the output of the node.
    pub outputs: Vec<(ValueId, usize, Option<ValueId>)>,
}

/// `None` for other nodes, and where numbers or shapes do not fit.
pub(super) fn slices(model: &Model, node: &Node, shapes: &Shapes) -> Option<Slices> {
    iterated(model, node, shapes)?;
    let graph = model.graph(node.bodies()[0].graph);
    let (is_scan, carried) = (node.op_type() == "Scan", carried_count(node)?);
    let whole = if is_scan { (carried, carried) } else { (carried + 2, carried + 1) };
    let mut out = Slices { whole, ..Slices::default() };
    for (k, port) in graph.inputs().iter().enumerate().skip(whole.0) {
        let v = node.input(k)?;
        out.inputs.push((v, scanned_axis(node, k - whole.0, shapes.shape(v)?.len())?, port.value));
    }
    for (k, port) in graph.outputs().iter().enumerate().skip(whole.1) {
        let rank = shapes.shape(port.value)?.len();
        out.outputs.push((port.value, stacked_axis(node, k - whole.1, rank)?, node.output(k - whole.1 + carried)));
    }
    Some(out)
}

/// The axis of the node's output along which slices of so many axes lie.
fn stacked_axis(node: &Node, k: usize, rank: usize) -> Option<usize> {
    let at = node.ints("scan_output_axes").and_then(|a| a.get(k).copied()).unwrap_or(0);
    usize::try_from(if at < 0 { at + rank as i64 + 1 } else { at }).ok().filter(|&at| at <= rank)
}

/// Whether a node chooses between two graphs.
pub(super) fn branches(node: &Node) -> Option<[GraphId; 2]> {
    match node.bodies() {
        [a, b] if node.is_standard() && node.op_type() == "If" => Some([a.graph, b.graph]),
        _ => None,
    }
}

/// How many values a `Loop` or `Scan` carries from iteration to iteration; `None` for other nodes.
fn carried_count(node: &Node) -> Option<usize> {
    match node.op_type() {
        "Loop" => node.inputs().len().checked_sub(2),
        "Scan" => node.inputs().len().checked_sub(usize::try_from(node.int("num_scan_inputs")?).ok()?),
        _ => None,
    }
}

/// The axis that a `Scan` goes along in its scanned input `k`.
fn scanned_axis(node: &Node, k: usize, rank: usize) -> Option<usize> {
    let axis = node.ints("scan_input_axes").and_then(|a| a.get(k).copied()).unwrap_or(0);
    usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok().filter(|&a| a < rank)
}

/// How many iterations a `Scan` makes.
fn turns(node: &Node, shapes: &Shapes) -> Option<usize> {
    let first = carried_count(node)?;
    let shape = shapes.shape(node.input(first)?)?;
    shape.get(scanned_axis(node, 0, shape.len())?).copied()
}

/// What a `Loop` or `Scan` feeds its body with. `None` for other nodes, and where their number does not fit.
fn iterated(model: &Model, node: &Node, shapes: &Shapes) -> Option<Ports> {
    let scan = node.op_type() == "Scan";
    // Before opset 9 a Scan has a batch axis, and lengths as its first input.
    let known = node.is_standard() && (node.op_type() == "Loop" || (scan && model.opset("")? >= 9));
    let [body] = node.bodies() else { return None };
    let carried = carried_count(node).filter(|_| known)?;
    let graph = model.graph(body.graph);
    let inputs: Vec<ValueId> = graph.inputs().iter().map(|p| p.value).collect();
    let outputs: Vec<ValueId> = graph.outputs().iter().map(|p| p.value).collect();
    let skip = if scan { 0 } else { 2 };
    let fits = inputs.len() == node.inputs().len() && outputs.len() >= carried + usize::from(!scan);
    if !fits || inputs.iter().any(|&v| model.value(v).def() != Def::Input) {
        return None;
    }
    let fact = |i: usize| node.input(i).and_then(|v| shapes.fact(v)).map(|f| Fact { value: None, ..f.clone() });
    let mut ports = Ports { carried: Vec::new(), fed: Vec::new() };
    if !scan {
        ports.fed.push((inputs[0], Fact::new(Some(DataType::Int64), vec![])));
        ports.fed.push((inputs[1], Fact::new(Some(DataType::Bool), vec![])));
    }
    for k in 0..carried {
        ports.carried.push((inputs[skip + k], fact(skip + k), outputs[usize::from(!scan) + k]));
    }
    for (k, &v) in inputs.iter().enumerate().skip(skip + carried) {
        let Some(whole) = fact(k) else { continue };
        let slice = whole.shape.and_then(|mut shape| {
            shape.remove(scanned_axis(node, k - carried, shape.len())?);
            Some(shape)
        });
        if let Some(shape) = slice {
            ports.fed.push((v, Fact::new(whole.dtype, shape)));
        }
    }
    Some(ports)
}
