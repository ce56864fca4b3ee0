//! Labels into and out of the bodies of control-flow operators.
//!
//! What a body reads of the graphs around it are the same values there and here, so nothing has to be done for them.
//! An `If` hands on the outputs of one of two graphs: labels at the same place are joined, as by an elementwise choice.
//! A `Scan` feeds its body with slices and puts slices side by side: labels along other axes pass. What a `Loop` or `Scan`
//! carries from one iteration into the next is pinned.

use super::super::field::Field;
use super::super::nested::{branches, slices};
use super::Flow;
use super::elementwise::Aligned;
use crate::ir::{GraphId, NodeId, ValueId};

impl Flow<'_> {
    /// Visits the nodes of a graph in order, bodies before their nodes.
    pub(super) fn graph(&mut self, graph: GraphId) {
        for &n in self.model.graph(graph).nodes() {
            if !self.model.node(n).bodies().is_empty() {
                self.enter(n);
                self.model.node(n).bodies().iter().for_each(|b| self.graph(b.graph));
            }
            self.node(n);
        }
    }

    /// Labels of the slices that a node feeds its body with.
    fn enter(&mut self, n: NodeId) {
        let Some(slices) = slices(self.model, self.model.node(n), &self.world.shapes) else { return };
        for (whole, axis, slice) in slices.inputs {
            let shape = self.world.shapes.shape(whole).map(<[usize]>::to_vec).unwrap_or_default();
            if shape.contains(&0) {
                continue;
            }
            let text = "each turn reads one position along this axis";
            let reason = self.coupling.atoms.reason(Some(n), "nested-graph", text);
            let fields = self.fields(whole).into_iter().filter_map(|f| self.fold(f, &[axis], &shape, reason));
            let lower = |f: Field| Field { axes: f.axes.iter().map(|&a| a - usize::from(a > axis)).collect(), ..f };
            let fields = fields.map(lower).collect();
            self.set(Some(slice), fields);
        }
    }

    pub(super) fn with_bodies(&mut self, n: NodeId) {
        if let Some(graphs) = branches(self.model.node(n)) {
            return self.branches(n, graphs);
        }
        let op = self.model.node(n).op_type();
        let iterates = self.model.node(n).is_standard() && matches!(op, "Loop" | "Scan");
        let text = |what: &str| {
            format!("{what} the body of {op} '{}', whose values go from turn to turn", self.model.label(n))
        };
        let (rule, enters, leaves) = if iterates {
            ("nested-graph", text("it enters"), text("it leaves"))
        } else {
            let text = format!("nothing is known of how channels pass {op}, which has a body");
            ("opaque", text.clone(), text)
        };
        let slices = slices(self.model, self.model.node(n), &self.world.shapes);
        let (inputs, outputs) = slices.as_ref().map_or((usize::MAX, usize::MAX), |s| s.whole);
        let enters = self.coupling.atoms.reason(Some(n), rule, enters);
        for v in self.model.node(n).inputs().iter().take(inputs).flatten() {
            self.pin_value(*v, enters);
        }
        let leaves = self.coupling.atoms.reason(Some(n), rule, leaves);
        for body in self.model.node(n).bodies() {
            for port in self.model.graph(body.graph).outputs().iter().take(outputs) {
                self.pin_value(port.value, leaves);
            }
        }
        for (slice, axis, whole) in slices.into_iter().flat_map(|s| s.outputs) {
            let fields = self.fields(slice);
            let known = whole.is_none_or(|v| self.world.shapes.shape(v).is_some_and(|s| !s.contains(&0)));
            if !known {
                fields.iter().for_each(|f| self.pin(f, leaves));
                continue;
            }
            let lift = |f: Field| Field { axes: f.axes.iter().map(|&a| a + usize::from(a >= axis)).collect(), ..f };
            self.set(whole, fields.into_iter().map(lift).collect());
        }
    }

    fn branches(&mut self, n: NodeId, graphs: [GraphId; 2]) {
        let ends = |g: GraphId| self.model.graph(g).outputs().iter().map(|p| p.value).collect::<Vec<ValueId>>();
        let (one, other) = (ends(graphs[0]), ends(graphs[1]));
        for i in 0..one.len().max(other.len()) {
            let pair = one.get(i).copied().zip(other.get(i).copied());
            let shape = pair.and_then(|(a, b)| {
                let (a, b) = (self.world.shapes.shape(a)?, self.world.shapes.shape(b)?);
                (a == b && !a.contains(&0)).then(|| a.to_vec())
            });
            let (Some((a, b)), Some(shape)) = (pair, shape) else {
                let text = "the branches of the If hand on different shapes, or unknown ones";
                let reason = self.coupling.atoms.reason(Some(n), "nested-graph", text);
                one.get(i).into_iter().chain(other.get(i)).for_each(|&v| self.pin_value(v, reason));
                continue;
            };
            let spans: Vec<bool> = shape.iter().map(|&d| d > 1).collect();
            let side = |fields| Aligned { fields, spans: spans.clone() };
            let sides = vec![side(self.fields(a)), side(self.fields(b))];
            let fields = self.combine(n, &shape, sides);
            self.set(self.model.node(n).output(i), fields);
        }
    }
}
