//! What the interpreter may be asked to run.
//!
//! Guarantees: a node that passes means to tract what it means in ONNX.
//! Refuses: what tract does not know, and what it knows by the wrong meaning: it goes by the operator's name whatever
//! the domain, and by its own idea of some attributes.
//! How: a walk over all nodes, bodies of control flow included, before anything is handed over.

use super::CannotRun;
use super::translate::label;
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto};
use tract_onnx::model::OnnxOpRegister;

/// What tract 0.23.9 computes differently from ONNX without saying so, found by running ONNX's own tests of operators
/// against it. Not listed: maxima of no element at all, softmax of nothing but minus infinity.
fn known_wrong(node: &NodeProto) -> Option<&'static str> {
    let text = |name: &str| node.attribute.iter().find(|a| a.name() == name).map(|a| a.s());
    let float = |name: &str| node.attribute.iter().find(|a| a.name() == name).map(|a| a.f());
    match node.op_type() {
        "Attention" => Some("the interpreter ignores some of its attributes"),
        "LSTM" | "GRU" | "RNN" if text("direction") == Some(b"reverse") => Some("the interpreter does not reverse it"),
        "SpaceToDepth" if text("mode").is_some_and(|mode| mode != b"DCR") => Some("the interpreter ignores its mode"),
        "Swish" if float("alpha").is_some_and(|alpha| alpha != 1.0) => Some("the interpreter ignores its alpha"),
        "Celu" => Some("the interpreter gets it wrong on 16-bit floats"),
        "BitShift" => Some("the interpreter gets shifts by the width of the type wrong"),
        _ => None,
    }
}

/// Refuses a model with a node that the interpreter cannot be trusted with.
pub(super) fn model(model: &ModelProto) -> Result<(), CannotRun> {
    let graph = model.graph.as_ref().ok_or_else(|| CannotRun::new(None, "the model has no graph"))?;
    if !model.opset_import.iter().any(|o| is_onnx(o.domain())) {
        return Err(CannotRun::new(None, "the model does not say which version of ONNX's operators it uses"));
    }
    let onnx = tract_onnx::onnx();
    Walk { known: &onnx.op_register }.graph(graph)
}

fn is_onnx(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

struct Walk<'a> {
    known: &'a OnnxOpRegister,
}

impl Walk<'_> {
    fn graph(&self, graph: &GraphProto) -> Result<(), CannotRun> {
        for node in &graph.node {
            if let Some(reason) = self.refusal(node) {
                return Err(CannotRun::new(Some(label(node)), reason));
            }
            for body in node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)) {
                self.graph(body)?;
            }
        }
        Ok(())
    }

    fn refusal(&self, node: &NodeProto) -> Option<String> {
        let (domain, op) = (node.domain(), node.op_type());
        if !is_onnx(domain) {
            return Some(format!("{op} is an operator of domain '{domain}', which the interpreter does not know"));
        }
        // Dropout is one in training only, which the interpreter does not do.
        if op != "Dropout" && crate::ops::row_named("", op).is_some_and(|row| row.random) {
            return Some(format!("{op} gives another result at every run"));
        }
        if !self.known.0.contains_key(op) {
            return Some(format!("the interpreter does not know operator {op}"));
        }
        known_wrong(node).map(|reason| format!("{op}: {reason}"))
    }
}
