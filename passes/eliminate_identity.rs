//! # What it does
//!
//! Removes nodes that hand on their input as it is, whatever the sizes of symbolic dimensions:
//!
//! - `Identity`; `Dropout` in inference; `Cast` and `CastLike` to the type that the input has; `Concat`, `Sum`, `Max`,
//!   `Min` and `Mean` of one operand; `Transpose` by the identity permutation; `Pad` by nothing;
//! - `Reshape`, `Flatten`, `Squeeze`, `Unsqueeze`, `Expand`, `Tile`, `Slice`, `Split` and `Transpose` (of axes of
//!   extent 1) where shape, target and bounds are fixed by the file and nothing moves.
//!
//! Readers read the input instead. Where the result is an output of the graph, the node that computes the input takes
//! over the output's name.
//!
//! # When it refuses
//!
//! - `graph-output`: the result is an output of the graph and its input is one too, or is a graph input, a constant
//!   or a value of another graph. No name can be given up, so the node stays.
//! - `mask`: the mask of the `Dropout` is read.
//! - `training-mode`: the `Dropout` is in training mode, or its mode is not a constant.
//!
//! # Options
//!
//! None.
//!
//! # Example
//!
//! ```text
//! a = Relu (x)                 y = Relu (x)
//! y = Identity (a)       ->
//! ```

use super::{ArgumentError, Arguments, Context, Outcome, Pass, PassError, Remark, counted};
use crate::analysis::Fixed;
use crate::ir::{Def, Model, NodeId, ValueId};
use crate::onnx::tensor::Tensor;
use crate::ops::{Action, step::Step};
use std::collections::{BTreeMap, BTreeSet};

/// Removes nodes that do nothing.
#[derive(Debug, Clone, Default)]
pub struct EliminateIdentity;

pub(super) fn make(_: &mut Arguments) -> Result<Box<dyn Pass>, ArgumentError> {
    Ok(Box::new(EliminateIdentity))
}

impl Pass for EliminateIdentity {
    fn name(&self) -> &'static str {
        "eliminate-identity"
    }

    fn run(&self, model: &mut Model, context: &Context) -> Result<Outcome, PassError> {
        let fixed = Fixed::of(model, &context.sizes);
        let uses = model.uses();
        let mut instead: BTreeMap<ValueId, ValueId> = BTreeMap::new();
        let mut removed: BTreeSet<NodeId> = BTreeSet::new();
        let mut remarks = Vec::new();
        for n in model.walk() {
            match verdict(model, &fixed, n) {
                Verdict::Works => continue,
                Verdict::Refused(rule, text) => {
                    remarks.push(Remark::at(model, n, rule, text));
                    continue;
                }
                Verdict::Nothing => {}
            }
            let node = model.node(n);
            let (Some(input), Some(output)) = (node.input(0), node.output(0)) else { continue };
            if node.outputs().iter().flatten().skip(1).any(|&v| !uses.is_unused(v)) {
                remarks.push(Remark::at(model, n, "mask", "a further output of the node is read"));
                continue;
            }
            let input = resolve(&instead, input);
            if !uses.is_output(output) {
                instead.insert(output, input);
                removed.insert(n);
                continue;
            }
            let producer = match model.value(input).def() {
                Def::Node(p, i) if model.value(input).graph() == node.graph() && !uses.is_output(input) => (p, i),
                _ => {
                    let text = format!(
                        "its result is the output '{}' of the graph, and its input '{}' has a name to keep as well",
                        model.value(output).name(),
                        model.value(input).name()
                    );
                    remarks.push(Remark::at(model, n, "graph-output", text));
                    continue;
                }
            };
            model.take_over_output(n, 0, producer.0, producer.1);
            instead.insert(input, output);
            removed.insert(n);
        }
        model.replace_all_reads(|v| resolve(&instead, v));
        model.remove_nodes(&removed);
        let summary = format!("removed {} without effect", counted(removed.len(), "node"));
        Ok(Outcome { changes: removed.len(), summary, remarks, ..Outcome::default() })
    }
}

/// The value that is read in place of `v`.
fn resolve(instead: &BTreeMap<ValueId, ValueId>, mut v: ValueId) -> ValueId {
    while let Some(&next) = instead.get(&v) {
        v = next;
    }
    v
}

enum Verdict {
    /// The node hands on input 0 as output 0.
    Nothing,
    /// The node does something.
    Works,
    /// It would do nothing, but for a guard.
    Refused(&'static str, &'static str),
}

fn verdict(model: &Model, fixed: &Fixed, n: NodeId) -> Verdict {
    let node = model.node(n);
    if !node.is_standard() || model.is_local_function(node) || !node.bodies().is_empty() {
        return Verdict::Works;
    }
    let opset = model.opset("").unwrap_or(0);
    let input_type = || fixed.shapes().fact(node.input(0)?)?.dtype;
    let nothing = match node.op_type() {
        "Identity" => true,
        "Dropout" => return dropout(model, fixed, n, opset),
        "Cast" => node.int("to").is_some_and(|to| input_type().is_some_and(|t| t as i64 == to)),
        "CastLike" => {
            let like = node.input(1).and_then(|v| fixed.shapes().fact(v)?.dtype);
            like.is_some() && like == input_type()
        }
        "Concat" | "Sum" | "Max" | "Min" | "Mean" => node.inputs().len() == 1,
        "Pad" => pads_nothing(model, fixed, n, opset),
        "Transpose" if node.ints("perm").is_some_and(|p| p.iter().copied().eq(0..p.len() as i64)) => true,
        "Transpose" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Expand" | "Tile" | "Slice" | "Split" => {
            moves_nothing(fixed, model, n)
        }
        _ => false,
    };
    if nothing { Verdict::Nothing } else { Verdict::Works }
}

fn dropout(model: &Model, fixed: &Fixed, n: NodeId, opset: i64) -> Verdict {
    let node = model.node(n);
    if opset < 7 && node.int("is_test").unwrap_or(0) == 0 {
        return Verdict::Refused("training-mode", "is_test is not set");
    }
    match node.input(2).filter(|_| opset >= 12) {
        None => Verdict::Nothing,
        Some(mode) => match fixed.value(mode).and_then(Tensor::to_i64) {
            Some(v) if v == [0] => Verdict::Nothing,
            Some(_) => Verdict::Refused("training-mode", "training_mode is true"),
            None => Verdict::Refused("training-mode", "training_mode is not a constant"),
        },
    }
}

fn pads_nothing(model: &Model, fixed: &Fixed, n: NodeId, opset: i64) -> bool {
    let node = model.node(n);
    let pads = if opset < 11 {
        node.ints("pads").or_else(|| node.ints("paddings")).map(<[i64]>::to_vec)
    } else {
        node.input(1).and_then(|v| fixed.value(v)?.to_i64())
    };
    pads.is_some_and(|p| p.iter().all(|&p| p == 0))
}

/// Whether a layout operator leaves every element where it is, under fixed extents and parameters.
fn moves_nothing(fixed: &Fixed, model: &Model, n: NodeId) -> bool {
    let node = model.node(n);
    let Some(Ok(effect)) = fixed.shapes().effect(n) else { return false };
    let Action::Layout { input: 0, outputs } = &effect.action else { return false };
    let parameters = node.inputs().iter().skip(1).flatten().all(|&v| fixed.value(v).is_some());
    let (Some(from), [steps], true) = (node.input(0).and_then(|v| fixed.shape(v)), &outputs[..], parameters) else {
        return false;
    };
    let mut shape = from.to_vec();
    for step in steps {
        let stays = match step {
            Step::Reshape(_) => true,
            Step::Expand(to) => *to == shape,
            Step::Permute(perm) => perm.iter().filter(|&&p| shape[p] > 1).is_sorted(),
            Step::Take { axis, indices } => indices.iter().copied().eq(0..shape[*axis]),
            Step::Pad { before, after, .. } => before + after == 0,
        };
        if !stays {
            return false;
        }
        shape = step.shape(&shape);
    }
    shape == from
}
