//! What no runtime would run, found before any work is done on it.
//!
//! Guarantees: a model that is refused here contradicts itself whatever sizes its symbolic dimensions take; the error
//! names the node and the two numbers that do not fit.
//! Refuses: standard operator sets newer than the table (their operators may mean something else by now) or older
//! than the first, constants whose payload does not fill their shape, and weights that do not fit the channels they are
//! given. Everything else that is odd is left to
//! the analysis, which pins what it does not understand.
//! How: the shapes that were inferred anyway are searched for contractions and normalisations whose rule found a
//! contradiction. With symbolic dimensions that may be the fault of the sizes assumed, so the number of channels has
//! to be the same under another assignment.

use super::infer::{Shapes, infer};
use super::size::{Sizes, is_symbolic};
use crate::ir::{Model, Node, NodeId};
use crate::onnx::tensor::{Tensor, TensorError};
use crate::ops::{NEWEST_OPSET, Refusal};

/// Why a model is refused as a whole.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Invalid {
    /// The standard operators' version is beyond what the table was written for.
    #[error(
        "the model uses version {found} of ONNX's operators (opset_import), this build knows versions 1 to \
         {NEWEST_OPSET}; export it with an older opset, or update secateur"
    )]
    Opset { found: i64 },
    /// A constant is not what it says.
    #[error("{0}; the file is damaged, export the model again")]
    Payload(TensorError),
    /// A weight contradicts what it is applied to.
    #[error("node '{node}' ({op}): {text}{inputs}; no runtime can run this, export the model again")]
    Contradiction { node: String, op: String, text: String, inputs: String },
}

/// Checks a model whose shapes are known; `worlds` are those of [`infer_all`](super::infer_all).
pub fn validate(model: &Model, worlds: &[Shapes]) -> Result<(), Invalid> {
    if let Some(found) = model.opset("").filter(|v| !(1..=NEWEST_OPSET).contains(v)) {
        return Err(Invalid::Opset { found });
    }
    for value in model.constants() {
        let content = model.constant(value).map(Tensor::from_proto);
        if let Some(Err(e @ (TensorError::Payload { .. } | TensorError::Shape { .. }))) = content {
            return Err(Invalid::Payload(e));
        }
    }
    let Some(first) = worlds.first() else { return Ok(()) };
    for &n in model.graph(model.main()).nodes() {
        let Some(text) = contradiction(model, first, n) else { continue };
        let everywhere = worlds.iter().all(|w| contradiction(model, w, n).is_some());
        if everywhere && (!is_symbolic(model) || independent_of_sizes(model, first, n)) {
            let node = model.node(n);
            return Err(Invalid::Contradiction {
                node: model.label(n),
                op: node.op_type().to_owned(),
                text: text.to_owned(),
                inputs: named_inputs(model, node),
            });
        }
    }
    Ok(())
}

fn contradiction<'a>(model: &Model, shapes: &'a Shapes, n: NodeId) -> Option<&'a str> {
    let node = model.node(n);
    let weighted = matches!(node.op_type(), "Conv" | "ConvTranspose" | "Gemm" | "MatMul" | "BatchNormalization");
    // An operand of unknown shape contradicts nothing.
    if !node.inputs().iter().flatten().all(|&v| shapes.shape(v).is_some()) {
        return None;
    }
    match shapes.effect(n) {
        Some(Err(Refusal::Invalid(text))) if weighted && node.is_standard() => Some(text),
        _ => None,
    }
}

/// Whether the operands contradict each other in numbers that do not hang on the sizes assumed.
fn independent_of_sizes(model: &Model, first: &Shapes, n: NodeId) -> bool {
    let Some(met) = meeting(model, first, n) else { return false };
    // Extents that no dense layer has, so that none comes out right (or equally wrong) by chance.
    let sizes = Sizes { batch: first.sizes.batch + 1, other: first.sizes.other + 32, ..first.sizes.clone() };
    met.0 != met.1 && meeting(model, &infer(model, sizes), n) == Some(met)
}

/// The channels that a node is given, and those that its weight is for.
fn meeting(model: &Model, shapes: &Shapes, n: NodeId) -> Option<(usize, usize)> {
    let node = model.node(n);
    let shape = |i: usize| shapes.shape(node.input(i)?);
    let (x, w) = (shape(0)?, shape(1)?);
    let from_end = |s: &[usize], k: usize| s.get(s.len().checked_sub(k)?).copied();
    let flag = |name: &str| node.int(name).unwrap_or(0) != 0;
    match node.op_type() {
        "Conv" => {
            let group = usize::try_from(node.int("group").unwrap_or(1)).ok()?;
            Some((*x.get(1)?, w.get(1)?.checked_mul(group)?))
        }
        "ConvTranspose" => Some((*x.get(1)?, *w.first()?)),
        "BatchNormalization" => Some((*x.get(1)?, *w.first()?)),
        "Gemm" => Some((from_end(x, 1 + usize::from(flag("transA")))?, from_end(w, 2 - usize::from(flag("transB")))?)),
        "MatMul" => Some((from_end(x, 1)?, from_end(w, 2.min(w.len()))?)),
        _ => None,
    }
}

fn named_inputs(model: &Model, node: &Node) -> String {
    let names: Vec<String> =
        node.inputs().iter().take(2).flatten().map(|&v| format!("'{}'", model.value(v).name())).collect();
    format!(" (inputs {})", names.join(" and "))
}
