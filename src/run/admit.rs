//! What the interpreter may be asked to run.
//!
//! Guarantees: a node that passes means to tract what it means in ONNX.
//! Refuses: what tract does not know, and what it knows by the wrong meaning: it goes by the operator's name whatever
//! the domain, and by its own idea of some attributes.
//! How: a walk over all nodes, bodies of control flow included, before anything is handed over.

use super::CannotRun;
use super::translate::label;
use crate::onnx::proto::{GraphProto, ModelProto, NodeProto};
use std::collections::HashSet;
use tract_onnx::model::OnnxOpRegister;

/// Operators whose result differs from run to run, so that two runs prove nothing.
const RANDOM: [&str; 6] =
    ["Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"];

/// Refuses a model with a node that the interpreter cannot be trusted with.
pub(super) fn model(model: &ModelProto) -> Result<(), CannotRun> {
    let graph = model.graph.as_ref().ok_or_else(|| CannotRun::new(None, "the model has no graph"))?;
    let opset = model.opset_import.iter().find(|o| is_onnx(o.domain())).map(|o| o.version());
    let Some(opset) = opset else {
        return Err(CannotRun::new(None, "the model does not say which version of ONNX's operators it uses"));
    };
    let functions = model.functions.iter().map(|f| (f.domain(), f.name())).collect();
    let onnx = tract_onnx::onnx();
    Walk { known: &onnx.op_register, functions, opset }.graph(graph)
}

fn is_onnx(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

struct Walk<'a> {
    known: &'a OnnxOpRegister,
    functions: HashSet<(&'a str, &'a str)>,
    opset: i64,
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
        if self.functions.contains(&(domain, op)) {
            return Some(format!("{domain}.{op} is a function of the model itself; inline it to run it"));
        }
        if !is_onnx(domain) {
            return Some(format!("{op} is an operator of domain '{domain}', which the interpreter does not know"));
        }
        if RANDOM.contains(&op) {
            return Some(format!("{op} gives another result at every run"));
        }
        if !self.known.0.contains_key(op) {
            return Some(format!("the interpreter does not know operator {op}"));
        }
        None
    }
}
