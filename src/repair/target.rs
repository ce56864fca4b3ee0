//! What a contraction should compute in the pruned model.
//!
//! Its output in the original, as far as the channels are still there. Where it is then added to something else (the
//! other branch of a residual block), also what that has lost: the sum is what later layers read, so the branch that
//! is computed last can make good what the other one lost.

use crate::analysis::{Shapes, evaluate_constant};
use crate::ir::{Model, NodeId, Uses, ValueId};

/// The other operand of the sum that a contraction's output ends in.
#[derive(Debug, Clone, PartialEq)]
pub struct Residual {
    pub other: ValueId,
    /// By how much the sum grows with the output, channel by channel (axis 1); `None` for one to one.
    pub slope: Option<Vec<f64>>,
}

/// Follows an output through what is affine channel by channel to the sum. `varies` tells what depends on the input.
pub fn residual(
    model: &Model,
    shapes: &Shapes,
    uses: &Uses,
    varies: &dyn Fn(ValueId) -> bool,
    output: ValueId,
) -> Option<Residual> {
    let (mut at, mut slope) = (output, None::<Vec<f64>>);
    loop {
        let [(reader, input)] = uses.readers(at)[..] else { return None };
        if uses.is_output(at) {
            return None;
        }
        let node = model.node(reader);
        if !node.is_standard() || node.graph() != model.main() {
            return None;
        }
        match (node.op_type(), node.inputs().len()) {
            ("Identity" | "Dropout", _) => {}
            ("Add" | "Sum", 2) => {
                let other = node.input(1 - input)?;
                if varies(other) {
                    let same = shapes.shape(other)? == shapes.shape(at)?;
                    return (same && other != at).then_some(Residual { other, slope });
                }
            }
            ("BatchNormalization", _) if input == 0 => {
                let factor = normalising_factor(model, shapes, reader)?;
                slope = Some(match slope {
                    None => factor,
                    Some(s) => s.iter().zip(&factor).map(|(a, b)| a * b).collect(),
                });
            }
            _ => return None,
        }
        at = node.output(0)?;
    }
}

/// What a batch normalisation multiplies each channel with.
fn normalising_factor(model: &Model, shapes: &Shapes, node: NodeId) -> Option<Vec<f64>> {
    let n = model.node(node);
    let list = |i: usize| evaluate_constant(model, shapes, n.input(i)?)?.to_f64();
    let epsilon = f64::from(n.float("epsilon").unwrap_or(1e-5));
    let (scale, variance) = (list(1)?, list(4)?);
    Some(scale.iter().zip(&variance).map(|(s, v)| s / (v + epsilon).sqrt()).collect())
}
