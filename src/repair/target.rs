//! What a contraction should compute in the pruned model.
//!
//! Its output in the original, as far as the channels are still there. Where it is then added to something else (the
//! other branch of a residual block), also what that has lost: the sum is what later layers read, so the branch that
//! is computed last can make good what the other one lost. Where limits follow (a ReLU, a clip, the range of a
//! quantiser), what lies beyond them need not be met, as long as it stays there.
//!
//! How: a walk along the only readers, as long as the table says that they are affine place by place
//! ([`Affine`]).

use crate::analysis::{Shapes, evaluate_constant};
use crate::ir::{Model, NodeId, Uses, ValueId};
use crate::ops::affine::{Affine, UNLIMITED};
use crate::ops::{self, Call};

/// What a contraction's output ends in: `scale * output + offset + factor * other`, within limits.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// The other operand of a sum.
    pub other: Option<ValueId>,
    /// The axis that the lists run along; each has one element where all have.
    pub axis: usize,
    pub scale: Vec<f64>,
    pub offset: Vec<f64>,
    /// What `other` is multiplied with.
    pub factor: Vec<f64>,
    pub limits: (f64, f64),
}

impl Default for Ending {
    fn default() -> Self {
        let (scale, offset, factor) = (vec![1.0], vec![0.0], vec![1.0]);
        Self { other: None, axis: 0, scale, offset, factor, limits: UNLIMITED }
    }
}

impl Ending {
    /// Whether something is cut off at its limits.
    pub fn is_limited(&self) -> bool {
        self.limits != UNLIMITED
    }

    /// Where the other operand is not known: neither are the limits, then.
    pub fn alone(self) -> Self {
        match self.other {
            Some(_) => Self { other: None, limits: UNLIMITED, ..self },
            None => self,
        }
    }

    /// This, followed by one more operator; `None` where that is not of this form.
    fn then(&self, next: &Affine) -> Option<Self> {
        let (own, more) = (self.scale.len(), next.scale.len());
        if own > 1 && more > 1 && (self.axis != next.axis || own != more) {
            return None;
        }
        let (axis, count) = if own > 1 { (self.axis, own) } else { (next.axis, more) };
        let at = |list: &[f64], i: usize| list[if list.len() > 1 { i } else { 0 }];
        let scaled = |list: &[f64]| -> Vec<f64> { (0..count).map(|i| at(list, i) * at(&next.scale, i)).collect() };
        let offset = scaled(&self.offset).iter().enumerate().map(|(i, o)| o + at(&next.offset, i)).collect();
        let limit = |l: f64| l * next.scale[0] + next.offset[0];
        let mut limits = match self.limits {
            UNLIMITED => UNLIMITED,
            // Each channel has limits of its own then.
            _ if more > 1 || next.scale[0] == 0.0 => return None,
            (low, high) if next.scale[0] > 0.0 => (limit(low), limit(high)),
            (low, high) => (limit(high), limit(low)),
        };
        limits = (limits.0.max(next.limits.0), limits.1.min(next.limits.1));
        let (scale, factor) = (scaled(&self.scale), scaled(&self.factor));
        Some(Self { other: self.other, axis, scale, offset, factor, limits })
    }
}

/// Follows an output as far as what becomes of it is affine. `varies` tells what depends on the input.
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
    let step = |at: ValueId, found: &Ending| -> Option<(ValueId, Ending)> {
        let [(reader, input)] = uses.readers(at)[..] else { return None };
        if uses.is_output(at) || model.node(reader).graph() != model.main() {
            return None;
        }
        let next = affine(model, shapes, reader, input)?;
        let mut after = found.then(&next)?;
        if let Some(i) = next.other {
            let other = model.node(reader).input(i)?;
            // A quantiser's range holds both signs, and next to nothing is cut off; a ReLU is no detail.
            let nearly_whole = found.limits.0 < 0.0 && found.limits.1 > 0.0;
            if found.other.is_some() || !varies(other) || other == at || !nearly_whole {
                return None;
            }
            after = Ending { other: Some(other), factor: vec![1.0; after.scale.len()], limits: next.limits, ..after };
        }
        Some((model.node(reader).output(0)?, after))
    };
    while let Some((next, after)) = step(at, &found) {
        (at, found) = (next, after);
    }
    found
}

/// What becomes of a value until it is another one; `None` where that is not affine within limits, or others read it on
/// the way.
pub fn between(model: &Model, shapes: &Shapes, uses: &Uses, from: ValueId, to: ValueId) -> Option<Ending> {
    let mut found = Ending::default();
    let mut at = from;
    loop {
        let [(reader, input)] = uses.readers(at)[..] else { return None };
        if uses.is_output(at) {
            return None;
        }
        if at == to {
            return Some(found);
        }
        let next = affine(model, shapes, reader, input).filter(|a| a.other.is_none())?;
        found = found.then(&next)?;
        at = model.node(reader).output(0)?;
    }
}

/// What a node makes of one of its operands.
fn affine(model: &Model, shapes: &Shapes, node: NodeId, input: usize) -> Option<Affine> {
    let (row, version) = ops::lookup(model, model.node(node)).ok()?;
    let facts = shapes.inputs(model.node(node));
    let call = Call { node: model.node(node), version, inputs: &facts };
    let constant = |i: usize| list(model, shapes, node, i);
    (row.affine)(&call, input, &constant)
}

fn list(model: &Model, shapes: &Shapes, node: NodeId, input: usize) -> Option<Vec<f64>> {
    evaluate_constant(model, shapes, model.node(node).input(input)?)?.to_f64()
}

/// The mean and the deviation of each channel of a value (axis 1) that a batch normalisation reads.
pub fn statistics(model: &Model, shapes: &Shapes, uses: &Uses, value: ValueId) -> Option<(Vec<f64>, Vec<f64>)> {
    let kept = |n: NodeId| ops::row_of(model.node(n)).map(|row| row.statistics.clone()).filter(|s| s.len() == 2);
    let mut readers = uses.readers(value).iter().filter(|r| r.1 == 0);
    let (reader, kept) = readers.find_map(|&(n, _)| Some((n, kept(n)?)))?;
    let epsilon = f64::from(model.node(reader).float("epsilon").unwrap_or(1e-5));
    let (mean, variance) = (list(model, shapes, reader, kept.start)?, list(model, shapes, reader, kept.start + 1)?);
    Some((mean, variance.iter().map(|v| (v + epsilon).sqrt()).collect()))
}
