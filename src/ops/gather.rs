//! Elements at positions that another tensor names. Positions that are known are a rearrangement; of others only the
//! axes along which nothing is looked up pass.

use super::call::{Action, Call, Effect, Fact, Operand, Refusal, axis_at};
use super::layout::MOST_POSITIONS;
use super::step::Step;
use crate::onnx::tensor::DataType;

pub(super) fn gather(call: &Call) -> Result<Effect, Refusal> {
    let shape = call.shape(0)?;
    let axis = call.axis("axis", 0, shape.len())?;
    let places = call.shape(1)?;
    let to = [&shape[..axis], places, &shape[axis + 1..]].concat();
    let steady = places.iter().product::<usize>() <= MOST_POSITIONS;
    let Some(indices) = call.known(1).ok().filter(|_| steady) else {
        // Which entries come out is decided at run time: the axis is mixed, the others pass.
        let shift = |a: usize| if a < axis { a } else { a + places.len() - 1 };
        let axes = (0..shape.len()).map(|a| (a != axis).then(|| shift(a))).collect();
        return Ok(Effect::map(call, to, vec![Operand::over(0, axes)]));
    };
    let indices = indices.iter().map(|&i| axis_at(i, shape[axis])).collect::<Result<Vec<_>, _>>()?;
    Effect::layout(call, vec![Step::Take { axis, indices }, Step::Reshape(to)])
}

/// `GatherElements`: as many positions as the result has elements.
pub(super) fn gather_elements(call: &Call) -> Result<Effect, Refusal> {
    let (x, places) = (call.shape(0)?, call.shape(1)?);
    let axis = call.axis("axis", 0, x.len())?;
    if places.len() != x.len() {
        return Err(Refusal::Invalid(format!("positions {places:?} for a tensor of shape {x:?}")));
    }
    let mixed = |a: usize| a == axis || places[a] != x[a];
    let operands = vec![Operand::whole(0, x.len()).mixing(mixed), Operand::whole(1, x.len())];
    Ok(Effect::map(call, places.to_vec(), operands))
}

/// Leading axes of the data that `GatherND` and `ScatterND` look up, and how many before them are a batch.
fn looked_up(call: &Call, batch: usize) -> Result<usize, Refusal> {
    let (x, places) = (call.shape_of_rank(0, 1)?, call.shape_of_rank(1, 1)?);
    let depth = places[places.len() - 1];
    let fits = batch < places.len() && batch + depth <= x.len() && x[..batch] == places[..batch] && depth > 0;
    fits.then_some(depth).ok_or_else(|| Refusal::Invalid(format!("positions {places:?} in a tensor of shape {x:?}")))
}

/// `GatherND`: slices at positions that are rows of the last axis of input 1.
pub(super) fn gather_nd(call: &Call) -> Result<Effect, Refusal> {
    let (x, places) = (call.shape_of_rank(0, 1)?, call.shape_of_rank(1, 1)?);
    let batch = usize::try_from(call.int("batch_dims", 0));
    let batch = batch.map_err(|_| Refusal::Invalid("a negative batch_dims".into()))?;
    let depth = looked_up(call, batch)?;
    let lead = places.len() - 1;
    let shape = [&places[..lead], &x[batch + depth..]].concat();
    let data = (0..x.len()).map(|a| match a {
        a if a < batch => Some(a),
        a => a.checked_sub(batch + depth).map(|rest| lead + rest),
    });
    let operands =
        vec![Operand::over(0, data.collect()), Operand::over(1, (0..=lead).map(|a| (a < lead).then_some(a)).collect())];
    Ok(Effect::map(call, shape, operands))
}

/// `ScatterND`: slices of the data replaced; the axes behind the positions pass.
pub(super) fn scatter_nd(call: &Call) -> Result<Effect, Refusal> {
    let (x, places, updates) = (call.shape(0)?, call.shape(1)?, call.shape(2)?);
    let depth = looked_up(call, 0)?;
    let lead = places.len() - 1;
    if *updates != [&places[..lead], &x[depth..]].concat() {
        return Err(Refusal::Invalid(format!("updates {updates:?} at {places:?} of a tensor of shape {x:?}")));
    }
    let operands = vec![
        Operand::whole(0, x.len()).mixing(|a| a < depth),
        Operand::over(1, vec![None; places.len()]),
        Operand::over(2, (0..updates.len()).map(|a| a.checked_sub(lead).map(|r| depth + r)).collect()),
    ];
    Ok(Effect::map(call, x.to_vec(), operands))
}

/// `ScatterElements`, before opset 11 `Scatter`: single elements replaced along an axis.
pub(super) fn scatter_elements(call: &Call) -> Result<Effect, Refusal> {
    let (x, places, updates) = (call.shape(0)?, call.shape(1)?, call.shape(2)?);
    let axis = call.axis("axis", 0, x.len())?;
    if places.len() != x.len() || updates != places {
        return Err(Refusal::Invalid(format!("updates {updates:?} at {places:?} of a tensor of shape {x:?}")));
    }
    let mixed = |a: usize| a == axis || places[a] != x[a];
    let operands = (0..3).map(|i| Operand::whole(i, x.len()).mixing(mixed)).collect();
    Ok(Effect::map(call, x.to_vec(), operands))
}

/// `TensorScatter`: a part of one axis replaced.
pub(super) fn tensor_scatter(call: &Call) -> Result<Effect, Refusal> {
    let (x, update) = (call.shape(0)?, call.shape(1)?);
    let axis = call.axis("axis", -2, x.len())?;
    if update.len() != x.len() {
        return Err(Refusal::Invalid(format!("an update {update:?} of a tensor of shape {x:?}")));
    }
    // Where to begin is one number an item of the batch.
    let operands = (0..2).map(|i| Operand::whole(i, x.len()).mixing(|a| a == axis || a == 0)).collect();
    Ok(Effect::map(call, x.to_vec(), operands))
}

/// `OneHot`: a new axis of `depth`.
pub(super) fn one_hot(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape(0)?;
    let depth = call.fact(1).and_then(|f| f.value.as_ref()).and_then(|t| t.to_f64());
    let depth =
        depth.and_then(|d| d.first().copied()).ok_or_else(|| Refusal::Dynamic("the depth is not known".into()))?;
    if !(0.0..=MOST_POSITIONS as f64).contains(&depth) {
        return Err(Refusal::Unknown(format!("a depth of {depth}")));
    }
    let axis = call.axis("axis", -1, x.len() + 1)?;
    let shape = [&x[..axis], &[depth as usize], &x[axis..]].concat();
    let operand = Operand::over(0, (0..x.len()).map(|a| Some(if a < axis { a } else { a + 1 })).collect());
    Ok(Effect::one(Fact::new(call.dtype(2), shape), Action::Map(vec![operand])))
}

/// `Compress`: which positions stay is a mask along one axis.
pub(super) fn compress(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape(0)?;
    let kept = call.known(1)?.iter().filter(|&&k| k != 0).count();
    let Some(axis) = call.node.int("axis") else {
        let operand = Operand::over(0, vec![None; x.len()]);
        return Ok(Effect::map(call, vec![kept], vec![operand]));
    };
    let axis = axis_at(axis, x.len())?;
    let mut shape = x.to_vec();
    shape[axis] = kept;
    Ok(Effect::map(call, shape, vec![Operand::whole(0, x.len()).mixing(|a| a == axis)]))
}

/// `TopK`: the largest along an axis, and where they were.
pub(super) fn top_k(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape(0)?;
    let axis = call.axis("axis", -1, x.len())?;
    let k = if call.version < 10 { call.node.int("k") } else { call.known(1)?.first().copied() };
    let k = k.and_then(|k| usize::try_from(k).ok()).filter(|&k| k <= x[axis]);
    let k = k.ok_or_else(|| Refusal::Invalid(format!("more than all of axis {axis} of {x:?}")))?;
    let mut shape = x.to_vec();
    shape[axis] = k;
    let mut effect = Effect::map(call, shape.clone(), vec![Operand::whole(0, x.len()).mixing(|a| a == axis)]);
    effect.outputs.push(Fact::new(Some(DataType::Int64), shape));
    Ok(effect)
}
