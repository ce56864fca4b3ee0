//! The verifier.
//!
//! Invariants, checked by [`Model::check`](super::Model::check) between passes:
//!
//! 1. Every value that a live node reads is defined: by a live node, an input, or an initializer.
//! 2. A node's output lists itself as its definition, and no value has two definitions.
//! 3. Nodes of a graph are in an order in which every value is computed before it is read; a nested graph reads
//!    only its own values and those of the graphs around it that are computed before its owner.
//! 4. Names of values are unique within a scope (a graph and those around it).
//! 5. Every output of a graph is defined.
//! 6. A live node is listed once, in its own graph; a removed one is listed nowhere.
//! 7. An initializer has content, and is listed once.

use super::{Def, GraphId, Model, NodeId, ValueId};
use std::collections::HashSet;

/// An invariant that does not hold: a bug of the pass that ran last.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invariant {invariant} is broken at '{place}': {text}")]
pub struct Violation {
    /// Its number in the list of this module's documentation.
    pub invariant: u8,
    /// Node or value.
    pub place: String,
    pub text: String,
}

impl Model {
    /// Checks every invariant; the first that is broken, in execution order, is returned.
    pub fn check(&self) -> Result<(), Violation> {
        let mut visible = HashSet::new();
        let mut names = HashSet::new();
        let mut listed = HashSet::new();
        Checker { model: self, visible: &mut visible, names: &mut names, listed: &mut listed }.graph(self.main())
    }
}

struct Checker<'a> {
    model: &'a Model,
    /// Values computed so far, in the graph under way and around it.
    visible: &'a mut HashSet<ValueId>,
    names: &'a mut HashSet<&'a str>,
    listed: &'a mut HashSet<NodeId>,
}

impl<'a> Checker<'a> {
    fn graph(&mut self, id: GraphId) -> Result<(), Violation> {
        let model = self.model;
        let graph = model.graph(id);
        let mut own = Vec::new();
        let inputs = graph.inputs().iter().map(|p| p.value).filter(|&v| model.value(v).def() == Def::Input);
        for v in inputs.chain(graph.initializers().iter().copied()) {
            self.define(v, &mut own)?;
            if model.value(v).def() == Def::Initializer && model.value(v).tensor.is_none() {
                return Err(self.broken(7, model.value(v).name(), "the initializer has no content"));
            }
        }
        for &n in graph.nodes() {
            let node = model.node(n);
            let place = model.label(n);
            if node.is_removed() || node.graph() != id || !self.listed.insert(n) {
                return Err(self.broken(6, &place, "the node is removed, or listed in a graph that is not its own"));
            }
            for v in node.inputs().iter().flatten() {
                self.readable(*v, &place)?;
            }
            for body in node.bodies() {
                self.graph(body.graph)?;
            }
            for (i, v) in node.outputs().iter().enumerate().filter_map(|(i, v)| Some((i, (*v)?))) {
                if model.value(v).def() != Def::Node(n, i) {
                    return Err(self.broken(
                        2,
                        model.value(v).name(),
                        &format!("node '{place}' is not its definition"),
                    ));
                }
                self.define(v, &mut own)?;
            }
        }
        for port in graph.outputs() {
            self.readable(port.value, &format!("output of graph '{}'", graph.name()))
                .map_err(|v| Violation { invariant: 5, ..v })?;
        }
        for v in own {
            self.visible.remove(&v);
            self.names.remove(model.value(v).name());
        }
        Ok(())
    }

    fn define(&mut self, v: ValueId, own: &mut Vec<ValueId>) -> Result<(), Violation> {
        let name = self.model.value(v).name();
        if !self.visible.insert(v) {
            return Err(self.broken(2, name, "the value has two definitions"));
        }
        if !self.names.insert(name) {
            return Err(self.broken(4, name, "two values of one scope share the name"));
        }
        own.push(v);
        Ok(())
    }

    fn readable(&self, v: ValueId, place: &str) -> Result<(), Violation> {
        let value = self.model.value(v);
        if self.visible.contains(&v) || value.def() == Def::Sparse {
            return Ok(());
        }
        let (invariant, text) = match value.def() {
            Def::Node(n, _) if !self.model.node(n).is_removed() => (3, "is read before it is computed"),
            _ => (1, "is read but nothing defines it"),
        };
        Err(self.broken(invariant, place, &format!("'{}' {text}", value.name())))
    }

    fn broken(&self, invariant: u8, place: &str, text: &str) -> Violation {
        Violation { invariant, place: place.to_owned(), text: text.to_owned() }
    }
}
