//! Reshapes as exporters write them: stated numbers, 0 and -1, or vectors that are computed from shapes.

use super::draft::{Draft, Value};

/// One entry of a target shape.
#[derive(Debug, Clone, Copy)]
pub enum To<'a> {
    /// The extent of an axis of some value.
    Same(&'a Value, usize),
    Number(usize),
    /// What is left; the number if it is known.
    Rest(Option<usize>),
}

impl To<'_> {
    fn known(self) -> Option<usize> {
        match self {
            To::Same(v, axis) => v.dims[axis],
            To::Number(n) => Some(n),
            To::Rest(n) => n,
        }
    }
}

/// The extent of one axis as a vector of one entry, computed at run time.
pub fn extent(d: &mut Draft, x: &Value, axis: usize) -> String {
    match d.random.below(if d.opset >= 15 { 3 } else { 2 }) {
        0 => {
            let shape = d.node("Shape", "", &[&x.name]);
            let at = d.int(axis as i64);
            let scalar = d.node("Gather", "axis = 0", &[&shape, &at]);
            let zero = d.ints(&[0]);
            d.node("Unsqueeze", "", &[&scalar, &zero])
        }
        1 => {
            let shape = d.node("Shape", "", &[&x.name]);
            let (start, end, axes) = (d.ints(&[axis as i64]), d.ints(&[axis as i64 + 1]), d.ints(&[0]));
            d.node("Slice", "", &[&shape, &start, &end, &axes])
        }
        _ => d.node("Shape", &format!("start = {axis}, end = {}", axis + 1), &[&x.name]),
    }
}

/// A target shape as a vector. Stated where that is possible, sometimes computed all the same.
pub fn target(d: &mut Draft, x: &Value, to: &[To]) -> String {
    let zero_copies = |i: usize| matches!(to[i], To::Same(v, axis) if v.name == x.name && axis == i);
    let unknown = (0..to.len()).filter(|&i| to[i].known().is_none() && !zero_copies(i)).count();
    if unknown <= 1 && d.random.chance(60) {
        let mut free = unknown == 1 || d.random.chance(50);
        let numbers: Vec<i64> = (0..to.len())
            .map(|i| match (to[i], to[i].known()) {
                (To::Rest(_), _) if free => {
                    free = false;
                    -1
                }
                (_, Some(n)) if !(zero_copies(i) && d.random.chance(50)) => n as i64,
                _ if zero_copies(i) => 0,
                _ => -1,
            })
            .collect();
        if numbers.iter().filter(|&&n| n == -1).count() <= 1 {
            return d.ints(&numbers);
        }
    }
    let parts: Vec<String> = to
        .iter()
        .map(|&part| match part {
            To::Same(v, axis) => extent(d, v, axis),
            To::Number(n) => d.ints(&[n as i64]),
            To::Rest(_) => d.ints(&[-1]),
        })
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    d.node("Concat", "axis = 0", &parts)
}

/// Gives a value another shape.
pub fn reshape(d: &mut Draft, x: &Value, to: &[To]) -> Value {
    let shape = target(d, x, to);
    let name = d.node("Reshape", "", &[&x.name, &shape]);
    Value { name, dims: to.iter().map(|t| t.known()).collect() }
}

/// Reduces the axes in space by their mean, as the operator set's version writes it.
pub fn reduce(d: &mut Draft, op: &str, x: &Value, axes: &[i64], keep: bool) -> Value {
    // Of the reductions only ReduceSum took its axes as an input before version 18.
    let name = if d.opset >= 18 || op == "ReduceSum" {
        let at = d.ints(axes);
        d.node(op, &format!("keepdims = {}", u8::from(keep)), &[&x.name, &at])
    } else {
        d.node(op, &format!("axes = {axes:?}, keepdims = {}", u8::from(keep)), &[&x.name])
    };
    let rank = x.rank() as i64;
    let reduced = |a: usize| axes.iter().any(|&b| (b + rank) % rank == a as i64);
    let dims = (0..x.rank())
        .filter_map(|a| match (reduced(a), keep) {
            (false, _) => Some(x.dims[a]),
            (true, true) => Some(Some(1)),
            (true, false) => None,
        })
        .collect();
    Value { name, dims }
}
