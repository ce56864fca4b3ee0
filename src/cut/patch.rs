//! Small integer vectors that nodes read as parameters: shapes, sizes, bounds.

use crate::analysis::Coupling;
use crate::ir::{Def, Model, NodeId};
use crate::onnx::tensor::Tensor;

/// Gives input `i` of a node constants of its own: entry `j` of the vector becomes `change[j]` where that is `Some`.
/// A constant, or what is computed from extents that the file fixes, is replaced by a constant of the node's own, so
/// that other readers keep theirs; of a concatenation only such parts are: entries that follow a symbolic dimension
/// stay computed (and are checked after the cut).
pub(super) fn patch(
    model: &mut Model,
    coupling: &Coupling,
    node: NodeId,
    i: usize,
    old: &[i64],
    change: &[Option<i64>],
) {
    if change.iter().zip(old).all(|(c, o)| c.is_none_or(|c| c == *o)) {
        return;
    }
    let Some(value) = model.node(node).input(i) else { return };
    let graph = model.node(node).graph();
    if is_constant(coupling, value) {
        let new: Vec<i64> = change.iter().zip(old).map(|(c, o)| c.unwrap_or(*o)).collect();
        replace(model, node, i, &new);
        return;
    }
    let Def::Node(producer, 0) = model.value(value).def() else { return };
    let joins = model.node(producer).op_type() == "Concat" && model.node(producer).is_standard();
    if !joins || model.node(producer).graph() != graph {
        return;
    }
    let Some(copy) = model.add_copy(producer, node) else { return };
    let mut start = 0;
    for part in 0..model.node(copy).inputs().len() {
        let Some(v) = model.node(copy).input(part) else { continue };
        let Some(len) = coupling.worlds[0].shapes.shape(v).map(|s| s.iter().product::<usize>()) else { return };
        let end = (start + len).min(old.len());
        patch(model, coupling, copy, part, &old[start..end], &change[start..end]);
        start = end;
    }
    let own = model.node(copy).output(0);
    model.set_input(node, i, own);
}

/// Gives input `i` of a node a new constant vector.
pub(super) fn replace(model: &mut Model, node: NodeId, i: usize, values: &[i64]) {
    let hint = match model.node(node).input(i) {
        Some(v) => model.value(v).name().to_owned(),
        None => format!("{}.{i}", model.label(node)),
    };
    let shape = model.node(node).input(i).and_then(|v| Some(model.constant(v)?.dims.len())).unwrap_or(1);
    let extents: &[usize] = if shape == 0 { &[] } else { &[values.len()] };
    let graph = model.node(node).graph();
    let own = model.add_initializer(graph, &hint, &Tensor::from_i64(extents, values));
    model.set_input(node, i, Some(own));
}

/// Whether a value is the same for every input and size, so that a constant may take its place in a node.
pub(super) fn is_constant(coupling: &Coupling, value: crate::ir::ValueId) -> bool {
    let flag = |list: &[bool]| list.get(value.index()).copied();
    // Values younger than the analysis are the constants that this cut has added.
    flag(&coupling.constant).unwrap_or(true) || flag(&coupling.fixed).unwrap_or(true)
}
