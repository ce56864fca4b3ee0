//! Operators that rearrange elements: each lowers to [`Step`]s.

use super::call::{Action, Call, Effect, Fact, Operand, Refusal, axis_at};
use super::step::Step;

pub(super) fn identity(call: &Call) -> Result<Effect, Refusal> {
    Effect::layout(call, vec![])
}

pub(super) fn reshape(call: &Call) -> Result<Effect, Refusal> {
    let from = call.shape(0)?;
    let target = call.ints_or_input("shape", 1)?.ok_or_else(|| Refusal::Invalid("no target shape".into()))?;
    let to = resolve_target(from, &target, call.int("allowzero", 0) != 0)?;
    Effect::layout(call, vec![Step::Reshape(to)])
}

/// The shape that `Reshape` gives: 0 copies an extent, -1 takes what is left.
fn resolve_target(from: &[usize], target: &[i64], allow_zero: bool) -> Result<Vec<usize>, Refusal> {
    let bad = |why: &str| Refusal::Invalid(format!("cannot reshape {from:?} to {target:?}: {why}"));
    let mut to = Vec::with_capacity(target.len());
    let mut open = None;
    for (axis, &d) in target.iter().enumerate() {
        to.push(match d {
            0 if !allow_zero => *from.get(axis).ok_or_else(|| bad("0 copies an axis that is not there"))?,
            -1 if open.is_none() => {
                open = Some(axis);
                1
            }
            d => usize::try_from(d).map_err(|_| bad("an extent is negative"))?,
        });
    }
    let total: usize = from.iter().product();
    let known = to.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(|| bad("the extents overflow"))?;
    if let Some(axis) = open {
        if known == 0 || !total.is_multiple_of(known) {
            return Err(bad("the elements do not divide"));
        }
        to[axis] = total / known;
    } else if known != total {
        return Err(bad("the number of elements differs"));
    }
    Ok(to)
}

pub(super) fn flatten(call: &Call) -> Result<Effect, Refusal> {
    let from = call.shape(0)?;
    let axis = match call.int("axis", 1) {
        a if a == from.len() as i64 => from.len(),
        a => axis_at(a, from.len())?,
    };
    let to = vec![from[..axis].iter().product(), from[axis..].iter().product()];
    Effect::layout(call, vec![Step::Reshape(to)])
}

pub(super) fn squeeze(call: &Call) -> Result<Effect, Refusal> {
    let from = call.shape(0)?;
    let axes = match call.ints_or_input("axes", 1)? {
        Some(axes) => axes.iter().map(|&a| axis_at(a, from.len())).collect::<Result<Vec<_>, _>>()?,
        None => (0..from.len()).filter(|&a| from[a] == 1).collect(),
    };
    if let Some(&a) = axes.iter().find(|&&a| from[a] != 1) {
        return Err(Refusal::Invalid(format!("cannot squeeze axis {a} of {from:?}: its extent is not 1")));
    }
    let to = (0..from.len()).filter(|a| !axes.contains(a)).map(|a| from[a]).collect();
    Effect::layout(call, vec![Step::Reshape(to)])
}

pub(super) fn unsqueeze(call: &Call) -> Result<Effect, Refusal> {
    let from = call.shape(0)?;
    let axes = call.ints_or_input("axes", 1)?.ok_or_else(|| Refusal::Invalid("no axes".into()))?;
    let rank = from.len() + axes.len();
    let axes = axes.iter().map(|&a| axis_at(a, rank)).collect::<Result<Vec<_>, _>>()?;
    let mut old = from.iter();
    let to: Vec<usize> =
        (0..rank).map(|a| if axes.contains(&a) { 1 } else { old.next().copied().unwrap_or(1) }).collect();
    if old.next().is_some() {
        return Err(Refusal::Invalid(format!("the axes {axes:?} are not distinct")));
    }
    Effect::layout(call, vec![Step::Reshape(to)])
}

pub(super) fn transpose(call: &Call) -> Result<Effect, Refusal> {
    let rank = call.shape(0)?.len();
    let perm = match call.node.ints("perm") {
        Some(p) => p.iter().map(|&a| axis_at(a, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).rev().collect(),
    };
    let mut seen = perm.clone();
    seen.sort_unstable();
    if seen != (0..rank).collect::<Vec<_>>() {
        return Err(Refusal::Invalid(format!("{perm:?} is not a permutation of {rank} axes")));
    }
    Effect::layout(call, vec![Step::Permute(perm)])
}

pub(super) fn concat(call: &Call) -> Result<Effect, Refusal> {
    concat_of(call, (0..call.inputs.len()).collect())
}

/// Some inputs end to end; the others are parameters.
pub(super) fn concat_of(call: &Call, inputs: Vec<usize>) -> Result<Effect, Refusal> {
    let first = *inputs.first().ok_or_else(|| Refusal::Invalid("nothing to concatenate".into()))?;
    let mut shape = call.shape(first)?.to_vec();
    // Before opset 4 the axis had a default.
    let axis = call.axis("axis", 1, shape.len())?;
    for &i in &inputs[1..] {
        let other = call.shape(i)?;
        let fits = other.len() == shape.len() && (0..shape.len()).all(|a| a == axis || other[a] == shape[a]);
        if !fits {
            return Err(Refusal::Invalid(format!("cannot concatenate {shape:?} and {other:?} along axis {axis}")));
        }
        shape[axis] += other[axis];
    }
    Ok(Effect::one(Fact::new(call.dtype(first), shape), Action::Concat { axis, inputs }))
}

/// Positions that a step may list; a longer list is not followed.
pub(super) const MOST_POSITIONS: usize = 1 << 20;

fn too_long(what: &str) -> Refusal {
    Refusal::Unknown(format!("{what} of more than {MOST_POSITIONS} positions is not followed"))
}

/// The half-open positions that a slice of one axis takes, in order.
fn slice_positions(extent: usize, start: i64, end: i64, step: i64) -> Result<Vec<usize>, Refusal> {
    if step == 0 {
        return Err(Refusal::Invalid("a slice with step 0".into()));
    }
    let n = extent as i64;
    let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
    let clamp = |p: i64| (if p < 0 { p.saturating_add(n) } else { p }).clamp(low, high);
    let (mut at, end) = (clamp(start), clamp(end));
    if (end.abs_diff(at) / step.unsigned_abs()) as usize >= MOST_POSITIONS {
        return Err(too_long("a slice"));
    }
    let mut out = Vec::new();
    while (step > 0 && at < end) || (step < 0 && at > end) {
        out.push(at as usize);
        at = at.saturating_add(step);
    }
    Ok(out)
}

/// Starts, ends, axes and steps of a `Slice`, whatever the operator's version.
pub(crate) struct SliceBounds {
    pub starts: Vec<i64>,
    pub ends: Vec<i64>,
    pub axes: Vec<usize>,
    pub steps: Vec<i64>,
}

pub(crate) fn slice_bounds(call: &Call) -> Result<SliceBounds, Refusal> {
    let rank = call.shape(0)?.len();
    let (starts, ends, axes, steps) = if call.version < 10 {
        let list = |name: &str| call.node.ints(name).map(<[i64]>::to_vec);
        (list("starts").unwrap_or_default(), list("ends").unwrap_or_default(), list("axes"), None)
    } else {
        let optional = |i| if call.has(i) { call.known(i).map(Some) } else { Ok(None) };
        (call.known(1)?, call.known(2)?, optional(3)?, optional(4)?)
    };
    let axes = match axes {
        Some(a) => a.iter().map(|&a| axis_at(a, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..starts.len()).collect(),
    };
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    let repeated = (1..axes.len()).any(|i| axes[..i].contains(&axes[i]));
    if repeated || [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] || axes.iter().any(|&a| a >= rank) {
        return Err(Refusal::Invalid("starts, ends, axes and steps of the slice do not agree".into()));
    }
    Ok(SliceBounds { starts, ends, axes, steps })
}

pub(super) fn slice(call: &Call) -> Result<Effect, Refusal> {
    let shape = call.shape(0)?;
    let b = slice_bounds(call)?;
    let mut steps = Vec::new();
    for j in 0..b.axes.len() {
        let axis = b.axes[j];
        let whole = b.steps[j] == 1 && b.starts[j] == 0 && b.ends[j] >= shape[axis] as i64;
        if whole {
            continue;
        }
        let indices = slice_positions(shape[axis], b.starts[j], b.ends[j], b.steps[j])?;
        if indices.len() != shape[axis] || b.steps[j] != 1 {
            steps.push(Step::Take { axis, indices });
        }
    }
    Effect::layout(call, steps)
}

/// Sizes of the parts of a `Split`, whatever the operator's version.
pub(crate) fn split_sizes(call: &Call) -> Result<(usize, Vec<usize>), Refusal> {
    let shape = call.shape(0)?;
    let axis = call.axis("axis", 0, shape.len())?;
    let parts = call.output_count();
    let sizes = match call.ints_or_input("split", 1)? {
        Some(s) => s.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>().unwrap_or_default(),
        // Equal parts; from opset 18 the last may be smaller.
        None => {
            let size = shape[axis].div_ceil(parts.max(1));
            (0..parts).map(|i| size.min(shape[axis].saturating_sub(i.saturating_mul(size)))).collect()
        }
    };
    let total = sizes.iter().try_fold(0usize, |n, &d| n.checked_add(d));
    if sizes.len() != parts || total != Some(shape[axis]) {
        return Err(Refusal::Invalid(format!("cannot split axis {axis} of {shape:?} into {parts} parts {sizes:?}")));
    }
    Ok((axis, sizes))
}

pub(super) fn split(call: &Call) -> Result<Effect, Refusal> {
    let (axis, sizes) = split_sizes(call)?;
    if sizes.iter().any(|&size| size > MOST_POSITIONS) {
        return Err(too_long("a part"));
    }
    let mut start = 0;
    let outputs = sizes.iter().map(|&size| {
        start += size;
        vec![Step::Take { axis, indices: (start - size..start).collect() }]
    });
    Effect::layouts(call, outputs.collect())
}

pub(super) fn expand(call: &Call) -> Result<Effect, Refusal> {
    let from = call.shape(0)?;
    let target = call.known(1)?.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>();
    let target = target.map_err(|_| Refusal::Invalid("a negative extent".into()))?;
    let to = broadcast(&[from, &target])?;
    let padded = [vec![1; to.len() - from.len()], from.to_vec()].concat();
    Effect::layout(call, vec![Step::Reshape(padded), Step::Expand(to)])
}

pub(super) fn tile(call: &Call) -> Result<Effect, Refusal> {
    let from = call.shape(0)?;
    let repeats = if call.version < 6 { repeats_along_one_axis(call)? } else { call.known(1)? };
    if repeats.len() != from.len() || repeats.iter().any(|&r| r < 0) {
        return Err(Refusal::Unknown(format!("repeats {repeats:?} for a tensor of shape {from:?}")));
    }
    // Each axis d becomes [r, d], which is read as one axis of r * d.
    let split: Vec<usize> = from.iter().flat_map(|&d| [1, d]).collect();
    let full: Vec<usize> = from.iter().zip(&repeats).flat_map(|(&d, &r)| [r as usize, d]).collect();
    // Out of bounds where it saturates.
    let to = from.iter().zip(&repeats).map(|(&d, &r)| (r as usize).saturating_mul(d)).collect();
    Effect::layout(call, vec![Step::Reshape(split), Step::Expand(full), Step::Reshape(to)])
}

/// Before opset 6 one axis was repeated; number and axis may be of any type.
fn repeats_along_one_axis(call: &Call) -> Result<Vec<i64>, Refusal> {
    let number = |i: usize| {
        let value = call.fact(i).and_then(|f| f.value.as_ref()).and_then(|t| t.to_f64());
        let first = value.and_then(|v| v.first().copied()).filter(|v| v.fract() == 0.0);
        first.ok_or_else(|| Refusal::Dynamic(format!("the content of input {i} is not known")))
    };
    let rank = call.shape(0)?.len();
    let mut repeats = vec![1; rank];
    repeats[axis_at(number(2)? as i64, rank)?] = number(1)? as i64;
    Ok(repeats)
}

/// Amounts before and after every axis of a `Pad`, whatever the operator's version.
pub(crate) fn pad_amounts(call: &Call) -> Result<Vec<(i64, i64)>, Refusal> {
    let rank = call.shape(0)?.len();
    let pads = if call.version < 11 {
        call.node.ints("pads").or_else(|| call.node.ints("paddings")).unwrap_or_default().to_vec()
    } else {
        call.known(1)?
    };
    let axes: Vec<usize> = if call.version >= 18 && call.has(3) {
        call.known(3)?.iter().map(|&a| axis_at(a, rank)).collect::<Result<_, _>>()?
    } else {
        (0..rank).collect()
    };
    if pads.len() != 2 * axes.len() {
        return Err(Refusal::Invalid(format!("{} pads for {} axes", pads.len(), axes.len())));
    }
    let mut out = vec![(0, 0); rank];
    for (j, &a) in axes.iter().enumerate() {
        out[a] = (pads[j], pads[axes.len() + j]);
    }
    Ok(out)
}

pub(super) fn pad(call: &Call) -> Result<Effect, Refusal> {
    let shape = call.shape(0)?;
    let amounts = pad_amounts(call)?;
    match call.node.string("mode").unwrap_or("constant") {
        "constant" => {}
        "edge" | "reflect" | "wrap" => return padded_with_copies(call, shape, &amounts),
        mode => return Err(Refusal::Unknown(format!("mode '{mode}'"))),
    }
    let mut steps = Vec::new();
    for (axis, (before, after)) in amounts.into_iter().enumerate() {
        if (before, after) == (0, 0) {
            continue;
        }
        let cut = |amount: i64| amount.min(0).saturating_neg();
        let (cut_front, cut_back) = (cut(before), cut(after));
        if cut_front > 0 || cut_back > 0 {
            if shape[axis] > MOST_POSITIONS {
                return Err(too_long("an axis that is cut"));
            }
            let indices = (cut_front..(shape[axis] as i64).saturating_sub(cut_back)).map(|i| i as usize).collect();
            steps.push(Step::Take { axis, indices });
        }
        let (before, after) = (before.max(0) as usize, after.max(0) as usize);
        if before.checked_add(after).and_then(|p| p.checked_add(shape[axis])).is_none_or(|p| p > 1 << 40) {
            return Err(Refusal::Invalid(format!("padding axis {axis} by {before} and {after}")));
        }
        steps.push(Step::Pad { axis, before, after });
    }
    Effect::layout(call, steps)
}

/// Which positions are copied hangs on all of their axis: with one gone, other ones would be.
fn padded_with_copies(call: &Call, shape: &[usize], amounts: &[(i64, i64)]) -> Result<Effect, Refusal> {
    let extent = |(&d, &(before, after)): (&usize, &(i64, i64))| {
        let padded = (d as i64).checked_add(before)?.checked_add(after)?;
        usize::try_from(padded).ok().filter(|&p| p <= 1 << 40)
    };
    let to: Option<Vec<usize>> = shape.iter().zip(amounts).map(extent).collect();
    let to = to.ok_or_else(|| Refusal::Invalid(format!("padding {shape:?} by {amounts:?}")))?;
    let operand = Operand::whole(0, shape.len()).mixing(|a| amounts[a] != (0, 0));
    Ok(Effect::map(call, to, vec![operand]))
}

/// The blocks of `DepthToSpace` and `SpaceToDepth`: batch, channels, height, width, block.
fn blocks(call: &Call) -> Result<[usize; 5], Refusal> {
    let shape = call.shape(0)?;
    let b = usize::try_from(call.int("blocksize", 0)).ok().filter(|&b| b > 0 && b < 1 << 16);
    match (shape, b) {
        (&[n, c, h, w], Some(b)) => Ok([n, c, h, w, b]),
        _ => Err(Refusal::Invalid(format!("four axes and a positive block are needed, not {shape:?} and {b:?}"))),
    }
}

pub(super) fn depth_to_space(call: &Call) -> Result<Effect, Refusal> {
    let [n, c, h, w, b] = blocks(call)?;
    if c % (b * b) != 0 {
        return Err(Refusal::Invalid(format!("{c} channels do not divide into blocks of {b} x {b}")));
    }
    let inner = c / (b * b);
    let (split, perm) = match call.node.string("mode").unwrap_or("DCR") {
        "DCR" => (vec![n, b, b, inner, h, w], vec![0, 3, 4, 1, 5, 2]),
        "CRD" => (vec![n, inner, b, b, h, w], vec![0, 1, 4, 2, 5, 3]),
        mode => return Err(Refusal::Unknown(format!("mode '{mode}'"))),
    };
    Effect::layout(call, vec![Step::Reshape(split), Step::Permute(perm), Step::Reshape(vec![n, inner, h * b, w * b])])
}

pub(super) fn space_to_depth(call: &Call) -> Result<Effect, Refusal> {
    let [n, c, h, w, b] = blocks(call)?;
    if h % b != 0 || w % b != 0 {
        return Err(Refusal::Invalid(format!("{h} x {w} does not divide into blocks of {b}")));
    }
    let split = Step::Reshape(vec![n, c, h / b, b, w / b, b]);
    let to = Step::Reshape(vec![n, c.saturating_mul(b * b), h / b, w / b]);
    // Which of block and channel counts faster.
    let perm = match call.node.string("mode").unwrap_or("DCR") {
        "DCR" => vec![0, 3, 5, 1, 2, 4],
        "CRD" => vec![0, 1, 3, 5, 2, 4],
        mode => return Err(Refusal::Unknown(format!("mode '{mode}'"))),
    };
    Effect::layout(call, vec![split, Step::Permute(perm), to])
}

/// The common shape of several tensors, as numpy broadcasts.
pub(super) fn broadcast(shapes: &[&[usize]]) -> Result<Vec<usize>, Refusal> {
    let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut out = vec![1; rank];
    for shape in shapes {
        for (o, &d) in out[rank - shape.len()..].iter_mut().zip(*shape) {
            if *o == 1 {
                *o = d;
            } else if d != 1 && d != *o {
                return Err(Refusal::Invalid(format!("the shapes {shapes:?} do not broadcast")));
            }
        }
    }
    Ok(out)
}
