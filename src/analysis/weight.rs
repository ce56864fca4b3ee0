//! The actual numbers of a contraction's filters.

use super::coupling::{Coupling, Source};
use super::infer::Shapes;
use crate::ir::{Def, Model, ValueId};
use crate::onnx::tensor::Tensor;
use crate::ops::{self, Action, Call, Effect};

/// The content of a value that is computed from constants alone. Nothing is copied for a stored constant.
/// `None` where a node on the way cannot be evaluated.
pub fn evaluate_constant(model: &Model, shapes: &Shapes, value: ValueId) -> Option<Tensor> {
    if let Some(proto) = model.constant(value) {
        return Tensor::from_proto(proto).ok();
    }
    if let Some(known) = shapes.fact(value).and_then(|f| f.value.clone()) {
        return Some(known);
    }
    let Def::Node(n, output) = model.value(value).def() else { return None };
    let node = model.node(n);
    let effect: &Effect = shapes.effect(n)?.as_ref().ok()?;
    let (row, version) = ops::lookup(model, node).ok()?;
    let facts = shapes.inputs(node);
    let inputs: Vec<Option<Tensor>> =
        node.inputs().iter().map(|i| i.and_then(|v| evaluate_constant(model, shapes, v))).collect();
    if node.inputs().iter().zip(&inputs).any(|(i, t)| i.is_some() && t.is_none()) {
        return None;
    }
    let tensors: Vec<Option<&Tensor>> = inputs.iter().map(Option::as_ref).collect();
    let outputs = ops::evaluate(row, &Call { node, version, inputs: &facts }, effect, &tensors)?;
    outputs.into_iter().nth(output)
}

/// The filters of a source as (values, filters, input channels, taps), row-major in that order.
pub fn filters(model: &Model, coupling: &Coupling, source: &Source) -> Option<(Tensor, usize, usize, usize)> {
    let shapes = &coupling.worlds.first()?.shapes;
    let effect = shapes.effect(source.node)?.as_ref().ok()?;
    let Action::Contract(c) = &effect.action else { return None };
    let view = c.operands.iter().find(|o| o.input == source.input)?;
    let weight = evaluate_constant(model, shapes, model.node(source.node).input(source.input)?)?;
    let weight = weight.reshaped(view.shape.clone())?;
    // Axes that reach the output number the filters, summed ones are their channels, the rest is the window.
    let shared = |l: char| c.operands.iter().filter(|o| o.letters.contains(&l)).count() > 1;
    let rank = |a: usize| {
        let l = view.letters[a];
        if c.output.letters.contains(&l) {
            0
        } else if shared(l) {
            1
        } else {
            2
        }
    };
    let mut order: Vec<usize> = (0..view.letters.len()).collect();
    order.sort_by_key(|&a| (rank(a), a));
    let extent = |r: usize| (0..view.shape.len()).filter(|&a| rank(a) == r).map(|a| view.shape[a]).product::<usize>();
    let sizes = (extent(0), extent(1), extent(2));
    let moved = order.iter().copied().filter(|&a| view.shape[a] > 1);
    let tensor = if moved.is_sorted() {
        weight.reshaped(vec![sizes.0, sizes.1, sizes.2])?
    } else {
        let steps = [ops::step::Step::Permute(order), ops::step::Step::Reshape(vec![sizes.0, sizes.1, sizes.2])];
        ops::step::apply(&steps, &weight)?
    };
    (sizes.0 == source.atoms.len()).then_some((tensor, sizes.0, sizes.1, sizes.2))
}
