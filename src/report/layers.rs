//! What the reports know of single nodes.

use crate::analysis::Shapes;
use crate::ir::{Model, NodeId};

/// The shape of a node's first output; `None` for extents that differ between the assignments.
pub(super) fn output_shape(model: &Model, worlds: &[&Shapes], node: NodeId) -> Option<Vec<Option<usize>>> {
    let value = model.node(node).output(0)?;
    let mut shapes = worlds.iter().map(|w| w.shape(value));
    let first: Vec<Option<usize>> = shapes.next()??.iter().map(|&d| Some(d)).collect();
    shapes.try_fold(first, |mut known, other| {
        let other = other?;
        if other.len() != known.len() {
            return None;
        }
        for (k, o) in known.iter_mut().zip(other) {
            *k = k.filter(|k| k == o);
        }
        Some(known)
    })
}

/// The shape of the node's largest constant operand.
pub(super) fn weight_shape(shapes: &Shapes, constant: &[bool], model: &Model, node: NodeId) -> Option<Vec<usize>> {
    let inputs = model.node(node).inputs().iter().flatten();
    let known = inputs.filter(|v| constant[v.index()]).filter_map(|&v| shapes.shape(v));
    // Of equals the first: `max_by_key` would take the last.
    known.rev().max_by_key(|s| s.iter().product::<usize>()).map(<[usize]>::to_vec)
}

/// `64x3x7x7`; `?` for what is not known, `scalar` without axes.
pub(super) fn shape_text(shape: &[Option<usize>]) -> String {
    if shape.is_empty() {
        return "scalar".to_owned();
    }
    let extents: Vec<String> = shape.iter().map(|d| d.map_or("?".to_owned(), |d| d.to_string())).collect();
    extents.join("x")
}

pub(super) fn fixed_text(shape: &[usize]) -> String {
    shape_text(&shape.iter().map(|&d| Some(d)).collect::<Vec<_>>())
}
