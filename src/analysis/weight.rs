//! The actual numbers of a contraction's filters.

use super::coupling::{Coupling, Source};
use super::infer::Shapes;
use crate::ir::{Def, Model, NodeId, ValueId};
use crate::onnx::tensor::Tensor;
use crate::ops::{self, Action, Call, Effect};
use std::collections::HashMap;

/// The content of a value that is computed from constants alone. Nothing is copied for a stored constant.
/// `None` where a node on the way cannot be evaluated, or makes far more of its operands than they are.
pub fn evaluate_constant(model: &Model, shapes: &Shapes, value: ValueId) -> Option<Tensor> {
    let mut found: HashMap<ValueId, Tensor> = HashMap::new();
    // No recursion: a chain may be as long as the file.
    let mut stack = vec![(value, false)];
    while let Some((v, ready)) = stack.pop() {
        if found.contains_key(&v) {
            continue;
        }
        if let Some(proto) = model.constant(v) {
            found.insert(v, Tensor::from_proto(proto).ok()?);
            continue;
        }
        if let Some(known) = shapes.fact(v).and_then(|f| f.value.clone()) {
            found.insert(v, known);
            continue;
        }
        let Def::Node(n, _) = model.value(v).def() else { return None };
        if !ready {
            stack.push((v, true));
            stack.extend(model.node(n).inputs().iter().flatten().map(|&v| (v, false)));
            continue;
        }
        let outputs = evaluate_node(model, shapes, n, &found)?;
        found.extend(model.node(n).outputs().iter().zip(outputs).filter_map(|(v, t)| Some(((*v)?, t))));
        found.get(&v)?;
    }
    found.remove(&value)
}

fn evaluate_node(model: &Model, shapes: &Shapes, n: NodeId, found: &HashMap<ValueId, Tensor>) -> Option<Vec<Tensor>> {
    let node = model.node(n);
    let effect: &Effect = shapes.effect(n)?.as_ref().ok()?;
    let (row, version) = ops::lookup(model, node).ok()?;
    let facts = shapes.inputs(node);
    let tensors: Vec<Option<&Tensor>> = node.inputs().iter().map(|i| found.get(&(*i)?)).collect();
    let read: usize = tensors.iter().flatten().map(|t| t.elements()).sum();
    let made = effect.outputs.iter().map(|f| f.shape.as_ref().map(|s| s.iter().product::<usize>()));
    let made = made.sum::<Option<usize>>()?;
    if made > read.saturating_mul(4).max(1 << 20) {
        return None;
    }
    ops::evaluate(row, &Call { node, version, inputs: &facts }, effect, &tensors)
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
