//! What a contraction should compute in the pruned model.
//!
//! Its output in the original, as far as the channels are still there. Where it is then added to something else (the
//! other branch of a residual block), also what that has lost: the sum is what later layers read, so the branch that
//! is computed last can make good what the other one lost. Where a ReLU follows, what lies below zero need not be met,
//! as long as it stays there.

use crate::analysis::{Shapes, evaluate_constant};
use crate::ir::{Model, NodeId, Uses, ValueId};

/// What a contraction's output ends in: `scale * output + offset + other`, channel by channel (axis 1), perhaps rectified.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ending {
    /// The other operand of a sum.
    pub other: Option<ValueId>,
    /// Scale and offset of each channel; `None` for 1 and 0.
    pub affine: Option<(Vec<f64>, Vec<f64>)>,
    /// Whether a ReLU alone reads it.
    pub rectified: bool,
}

/// Follows an output through what is affine channel by channel. `varies` tells what depends on the input.
pub fn ending(
    model: &Model,
    shapes: &Shapes,
    uses: &Uses,
    varies: &dyn Fn(ValueId) -> bool,
    output: ValueId,
) -> Ending {
    let mut found = Ending::default();
    let mut at = output;
    // One step; `None` where the way ends.
    let step = |at: ValueId, found: &mut Ending| -> Option<ValueId> {
        let [(reader, input)] = uses.readers(at)[..] else { return None };
        let node = model.node(reader);
        if uses.is_output(at) || !node.is_standard() || node.graph() != model.main() {
            return None;
        }
        match (node.op_type(), node.inputs().len()) {
            ("Identity" | "Dropout", _) => {}
            ("Add" | "Sum", 2) if found.other.is_none() => {
                let other = node.input(1 - input)?;
                let same = shapes.shape(other)? == shapes.shape(at)?;
                if !(varies(other) && same && other != at) {
                    return None;
                }
                found.other = Some(other);
            }
            ("BatchNormalization", _) if input == 0 && found.other.is_none() => {
                let (scale, offset) = normalising(model, shapes, reader)?;
                found.affine = Some(match found.affine.take() {
                    None => (scale, offset),
                    Some((s, o)) => (
                        s.iter().zip(&scale).map(|(a, b)| a * b).collect(),
                        o.iter().zip(&scale).zip(&offset).map(|((o, b), c)| o * b + c).collect(),
                    ),
                });
            }
            ("Relu", 1) => {
                found.rectified = true;
                return None;
            }
            ("Clip", _) => {
                let low = match node.input(1) {
                    Some(v) => evaluate_constant(model, shapes, v)?.to_f64()?.first().copied()?,
                    None => f64::from(node.float("min")?),
                };
                found.rectified = low == 0.0;
                return None;
            }
            _ => return None,
        }
        node.output(0)
    };
    while let Some(next) = step(at, &mut found) {
        at = next;
    }
    found
}

/// What a batch normalisation multiplies each channel with, and what it adds.
fn normalising(model: &Model, shapes: &Shapes, node: NodeId) -> Option<(Vec<f64>, Vec<f64>)> {
    let (scale, shift) = (list(model, shapes, node, 1)?, list(model, shapes, node, 2)?);
    let (mean, deviation) = moments(model, shapes, node)?;
    let factor: Vec<f64> = scale.iter().zip(&deviation).map(|(s, d)| s / d).collect();
    let offset = shift.iter().zip(&mean).zip(&factor).map(|((b, m), f)| b - m * f).collect();
    Some((factor, offset))
}

/// The mean and the deviation of each channel that a batch normalisation was trained on.
fn moments(model: &Model, shapes: &Shapes, node: NodeId) -> Option<(Vec<f64>, Vec<f64>)> {
    let epsilon = f64::from(model.node(node).float("epsilon").unwrap_or(1e-5));
    let (mean, variance) = (list(model, shapes, node, 3)?, list(model, shapes, node, 4)?);
    Some((mean, variance.iter().map(|v| (v + epsilon).sqrt()).collect()))
}

fn list(model: &Model, shapes: &Shapes, node: NodeId, input: usize) -> Option<Vec<f64>> {
    evaluate_constant(model, shapes, model.node(node).input(input)?)?.to_f64()
}

/// The mean and the deviation of each channel of a value (axis 1) that a batch normalisation reads.
pub fn statistics(model: &Model, shapes: &Shapes, uses: &Uses, value: ValueId) -> Option<(Vec<f64>, Vec<f64>)> {
    let normalises = |&&(n, input): &&(NodeId, usize)| {
        model.node(n).is_standard() && model.node(n).op_type() == "BatchNormalization" && input == 0
    };
    let &(reader, _) = uses.readers(value).iter().find(normalises)?;
    moments(model, shapes, reader)
}
