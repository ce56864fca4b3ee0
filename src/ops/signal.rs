//! Spectra, windows, and what accumulates or reverses along an axis.

use super::call::{Action, Call, Effect, Fact, Operand, Refusal, axis_at};
use crate::onnx::tensor::DataType;

/// The one number that an input holds.
fn number(call: &Call, i: usize) -> Result<usize, Refusal> {
    let value = call.known(i)?.first().copied().and_then(|v| usize::try_from(v).ok());
    value.ok_or_else(|| Refusal::Invalid(format!("input {i} is not a positive number")))
}

/// The element type that an attribute states, single precision where it states none.
fn stated(call: &Call) -> Option<DataType> {
    DataType::try_from(i32::try_from(call.int("output_datatype", 1)).ok()?).ok()
}

/// `CumSum`, `CumProd`: along the axis that an input names.
pub(super) fn cumulative(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape(0)?;
    let axis = *call.known(1)?.first().ok_or_else(|| Refusal::Invalid("no axis".into()))?;
    let axis = axis_at(axis, x.len())?;
    Ok(Effect::map(call, x.to_vec(), vec![Operand::whole(0, x.len()).mixing(|a| a == axis)]))
}

/// `ReverseSequence`: along time, by a length for each item of the batch.
pub(super) fn reverse_sequence(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape(0)?;
    let (time, batch) = (call.axis("time_axis", 0, x.len())?, call.axis("batch_axis", 1, x.len())?);
    Ok(Effect::map(call, x.to_vec(), vec![Operand::whole(0, x.len()).mixing(|a| a == time || a == batch)]))
}

/// `Trilu`, and `Inverse` of com.microsoft: matrices along the last two axes.
pub(super) fn matrices(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape_of_rank(0, 2)?;
    let lead = x.len() - 2;
    Ok(Effect::map(call, x.to_vec(), vec![Operand::whole(0, x.len()).mixing(|a| a >= lead)]))
}

/// `Det`: one number for each matrix.
pub(super) fn determinant(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape_of_rank(0, 2)?;
    let lead = x.len() - 2;
    Ok(Effect::map(call, x[..lead].to_vec(), vec![Operand::whole(0, x.len()).mixing(|a| a >= lead)]))
}

/// `EyeLike`: of the input only the shape matters.
pub(super) fn eye_like(call: &Call) -> Result<Effect, Refusal> {
    let shape = call.shape(0)?.to_vec();
    let stated = call.node.int("dtype").and_then(|t| DataType::try_from(i32::try_from(t).ok()?).ok());
    Ok(Effect::one(Fact::new(stated.or(call.dtype(0)), shape), Action::ShapeOnly))
}

/// `DFT`: one axis, and the last, which is real and imaginary part.
pub(super) fn dft(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape_of_rank(0, 2)?;
    let last = x.len() - 1;
    let axis = match call.version {
        ..20 => call.int("axis", 1),
        _ if call.has(2) => *call.known(2)?.first().ok_or_else(|| Refusal::Invalid("no axis".into()))?,
        _ => -2,
    };
    let axis = axis_at(axis, x.len())?;
    let (inverse, onesided) = (call.int("inverse", 0) != 0, call.int("onesided", 0) != 0);
    if axis == last || !(1..=2).contains(&x[last]) || (inverse && onesided) {
        return Err(Refusal::Unknown(format!("axis {axis} of {x:?}, inverse {inverse}, onesided {onesided}")));
    }
    let length = if call.has(1) { number(call, 1)? } else { x[axis] };
    let mut shape = x.to_vec();
    shape[axis] = if onesided { length / 2 + 1 } else { length };
    shape[last] = 2;
    Ok(Effect::map(call, shape, vec![Operand::whole(0, x.len()).mixing(|a| a == axis || a == last)]))
}

/// `STFT` of signals `[n, length, 1 or 2]`.
pub(super) fn stft(call: &Call) -> Result<Effect, Refusal> {
    let &[n, length, parts] = call.shape(0)? else { return Err(Refusal::Invalid("three axes are needed".into())) };
    let step = number(call, 1)?;
    let frame = if call.has(3) { number(call, 3)? } else { call.shape_of_rank(2, 1)?[0] };
    if step == 0 || frame > length || !(1..=2).contains(&parts) {
        return Err(Refusal::Invalid(format!("frames of {frame} by {step} of {length} positions")));
    }
    let bins = if call.int("onesided", 1) != 0 { frame / 2 + 1 } else { frame };
    let shape = vec![n, (length - frame) / step + 1, bins, 2];
    Ok(Effect::map(call, shape, vec![Operand::over(0, vec![Some(0), None, None])]))
}

/// `HannWindow`, `HammingWindow`, `BlackmanWindow`: of a size that an input states.
pub(super) fn window(call: &Call) -> Result<Effect, Refusal> {
    Ok(Effect::one(Fact::new(stated(call), vec![number(call, 0)?]), Action::Map(vec![])))
}

/// `MelWeightMatrix`: bins of a spectrum by mel bands.
pub(super) fn mel_weights(call: &Call) -> Result<Effect, Refusal> {
    let shape = vec![number(call, 1)? / 2 + 1, number(call, 0)?];
    Ok(Effect::one(Fact::new(stated(call), shape), Action::Map(vec![])))
}

/// `CenterCropPad`: axes of a stated extent are mixed, whether they change or not: the target would not follow a cut.
pub(super) fn center_crop_pad(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape(0)?;
    let target = call.known(1)?;
    let axes = match call.node.ints("axes") {
        Some(axes) => axes.iter().map(|&a| axis_at(a, x.len())).collect::<Result<Vec<_>, _>>()?,
        None => (0..x.len()).collect(),
    };
    if axes.len() != target.len() || target.iter().any(|&d| d < 0) {
        return Err(Refusal::Invalid(format!("extents {target:?} for {} axes", axes.len())));
    }
    let mut shape = x.to_vec();
    axes.iter().zip(target).for_each(|(&a, d)| shape[a] = d as usize);
    Ok(Effect::map(call, shape, vec![Operand::whole(0, x.len()).mixing(|a| axes.contains(&a))]))
}

/// `RotaryEmbedding`: pairs of the last axis are turned into each other, by an angle for each position.
pub(super) fn rotary(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape_of_rank(0, 3)?;
    let heads = x.len() == 4;
    Ok(Effect::map(call, x.to_vec(), vec![Operand::whole(0, x.len()).mixing(|a| !(a == 0 || (heads && a == 1)))]))
}

/// `Attention` over `[batch, heads, positions, width]`: the width of the values reaches the result, that of queries and
/// keys is read by a softmax and scales it. Packed heads, caches and further outputs are not followed.
pub(super) fn attention(call: &Call) -> Result<Effect, Refusal> {
    let (q, k, v) = (call.shape_of_rank(0, 3)?, call.shape_of_rank(1, 3)?, call.shape_of_rank(2, 3)?);
    if let (&[n, heads, s, _], &[_, _, _, _], &[_, _, _, width]) = (q, k, v) {
        let action = if call.has(4) || call.has(5) {
            Action::Opaque("keys and values of earlier calls are put before its own".into())
        } else {
            let scored = |input: usize| Operand::over(input, vec![None; 4]);
            Action::Map(vec![scored(0), scored(1), Operand::over(2, vec![None, None, None, Some(3)])])
        };
        return Ok(Effect::one(Fact::new(call.dtype(0), vec![n, heads, s, width]), action));
    }
    let heads = |name: &str| usize::try_from(call.int(name, 0)).ok().filter(|&h| h > 0);
    let (&[n, s, _], &[_, _, width], Some(of_q), Some(of_v)) = (q, v, heads("q_num_heads"), heads("kv_num_heads"))
    else {
        return Err(Refusal::Invalid(format!("queries {q:?} and values {v:?}")));
    };
    let why = "its heads are packed into one axis";
    Ok(Effect::one(Fact::new(call.dtype(0), vec![n, s, width / of_v * of_q]), Action::Opaque(why.into())))
}

/// `CausalConvWithState`: each channel by a kernel of its own; the second output is the end of the input.
pub(super) fn causal_conv(call: &Call) -> Result<Effect, Refusal> {
    let (&[n, c, length], &[filters, one, k]) = (call.shape(0)?, call.shape(1)?) else {
        return Err(Refusal::Invalid("three axes are needed".into()));
    };
    if filters != c || one != 1 || k == 0 {
        return Err(Refusal::Invalid(format!("{filters} kernels for {c} channels")));
    }
    let mut operands = vec![Operand::whole(0, 3).mixing(|a| a == 2), Operand::over(1, vec![Some(1), None, None])];
    if call.has(2) {
        operands.push(Operand::along(2, 1));
    }
    if call.has(3) {
        operands.push(Operand::whole(3, 3).mixing(|a| a == 2));
    }
    let mut effect = Effect::map(call, vec![n, c, length], operands);
    effect.outputs.push(Fact::new(call.dtype(0), vec![n, c, k - 1]));
    Ok(effect)
}
