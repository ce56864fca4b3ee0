//! Operators whose output elements depend on the elements at the same place of their operands, along some axes at
//! least: arithmetic, activations, normalisation, pooling, reduction, quantisation.

use super::call::{Action, Averaged, Call, Effect, Fact, Operand, Refusal, axis_at};
use super::layout::broadcast;
use crate::onnx::tensor::DataType;

/// One operand; further inputs are scalars or parameters.
pub(super) fn unary(call: &Call) -> Result<Effect, Refusal> {
    let shape = call.shape(0)?.to_vec();
    let rank = shape.len();
    Ok(Effect::map(call, shape, vec![Operand::whole(0, rank)]))
}

/// Several operands of one shape after broadcasting.
pub(super) fn broadcasting(call: &Call) -> Result<Effect, Refusal> {
    if call.version < 7 && call.int("broadcast", 0) != 0 {
        return aligned(call);
    }
    let shapes = (0..call.inputs.len()).map(|i| call.shape(i)).collect::<Result<Vec<_>, _>>()?;
    let to = broadcast(&shapes)?;
    let operands = shapes.iter().enumerate().map(|(i, s)| Operand::trailing(i, s.len(), to.len())).collect();
    Ok(Effect::map(call, to, operands))
}

/// Before opset 7 the second operand is aligned with the first by an attribute.
fn aligned(call: &Call) -> Result<Effect, Refusal> {
    let (a, b) = (call.shape(0)?, call.shape(1)?);
    let start = match call.node.int("axis") {
        Some(axis) => axis_at(axis, a.len() + usize::from(b.is_empty()))?,
        None => a.len().saturating_sub(b.len()),
    };
    if start + b.len() > a.len() || !b.iter().zip(&a[start..]).all(|(&y, &x)| y == x || y == 1) {
        return Err(Refusal::Invalid(format!("{b:?} does not fit into {a:?} from axis {start}")));
    }
    let second = Operand::over(1, (start..start + b.len()).map(Some).collect());
    Ok(Effect::map(call, a.to_vec(), vec![Operand::whole(0, a.len()), second]))
}

/// Comparisons: a broadcast whose result is boolean.
pub(super) fn predicate(call: &Call) -> Result<Effect, Refusal> {
    let mut effect = broadcasting(call)?;
    effect.outputs[0].dtype = Some(DataType::Bool);
    Ok(effect)
}

/// `Where`: the type is that of the branches.
pub(super) fn select(call: &Call) -> Result<Effect, Refusal> {
    let mut effect = broadcasting(call)?;
    effect.outputs[0].dtype = call.dtype(1);
    Ok(effect)
}

/// `PRelu`: the slope broadcasts to the input, before opset 7 as a vector of channels.
pub(super) fn prelu(call: &Call) -> Result<Effect, Refusal> {
    let (x, slope) = (call.shape(0)?, call.shape(1)?);
    let operand = if call.version < 7 && slope.len() == 1 && x.len() > 1 {
        Operand::along(1, 1)
    } else if slope.len() <= x.len() && broadcast(&[x, slope])? == x {
        Operand::trailing(1, slope.len(), x.len())
    } else {
        return Err(Refusal::Invalid(format!("the slope {slope:?} does not fit the input {x:?}")));
    };
    Ok(Effect::map(call, x.to_vec(), vec![Operand::whole(0, x.len()), operand]))
}

/// `IsNaN`, `IsInf`: boolean whatever they are asked of.
pub(super) fn unary_predicate(call: &Call) -> Result<Effect, Refusal> {
    let mut effect = unary(call)?;
    effect.outputs[0].dtype = Some(DataType::Bool);
    Ok(effect)
}

/// `Cast`, `BitCast`: the type is a number, before opset 6 its name.
pub(super) fn cast(call: &Call) -> Result<Effect, Refusal> {
    let mut effect = unary(call)?;
    let number = call.node.int("to").and_then(|t| i32::try_from(t).ok());
    let to = match number {
        Some(number) => DataType::try_from(number).ok(),
        None => call.node.string("to").and_then(DataType::from_str_name),
    };
    effect.outputs[0].dtype = Some(to.ok_or_else(|| Refusal::Unknown("no element type".into()))?);
    Ok(effect)
}

/// `CastLike`: the type is that of the second input.
pub(super) fn cast_like(call: &Call) -> Result<Effect, Refusal> {
    let mut effect = unary(call)?;
    effect.outputs[0].dtype = call.dtype(1);
    Ok(effect)
}

/// One operand of which one axis stays: `ImageScaler` of the first versions, which adds numbers that an attribute lists.
pub(super) fn image_scaler(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape_of_rank(0, 2)?;
    Ok(Effect::map(call, x.to_vec(), vec![Operand::whole(0, x.len()).mixing(|a| a == 1)]))
}

pub(super) fn dropout(call: &Call) -> Result<Effect, Refusal> {
    let training = call.version >= 12 && call.has(2) && call.known(2).map_or(true, |v| v != [0]);
    if training {
        return Err(Refusal::Unknown("dropout in training mode".into()));
    }
    let mut effect = unary(call)?;
    let of_mask = if call.version < 10 { call.dtype(0) } else { Some(DataType::Bool) };
    let mask = Fact { dtype: of_mask, ..effect.outputs[0].clone() };
    effect.outputs.resize(call.output_count().max(1), mask);
    Ok(effect)
}

/// A reduction over axes that an attribute or an input names; all of them where neither does.
pub(super) fn reduce(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape(0)?;
    let named = call.ints_or_input("axes", 1)?.filter(|a| !a.is_empty());
    let axes: Vec<usize> = match named {
        Some(axes) => axes.iter().map(|&a| axis_at(a, x.len())).collect::<Result<_, _>>()?,
        None if call.int("noop_with_empty_axes", 0) != 0 => vec![],
        None => (0..x.len()).collect(),
    };
    reduced(call, &axes, call.dtype(0))
}

/// `ArgMax`, `ArgMin`: positions along one axis.
pub(super) fn arg_reduce(call: &Call) -> Result<Effect, Refusal> {
    let axis = call.axis("axis", 0, call.shape(0)?.len())?;
    reduced(call, &[axis], Some(DataType::Int64))
}

pub(super) fn reduced(call: &Call, axes: &[usize], dtype: Option<DataType>) -> Result<Effect, Refusal> {
    let x = call.shape(0)?;
    let keep = call.int("keepdims", 1) != 0;
    let mut to = Vec::new();
    let mut map = Vec::new();
    for (a, &d) in x.iter().enumerate() {
        let mixed = axes.contains(&a);
        map.push((!mixed).then_some(to.len()));
        if !mixed {
            to.push(d);
        } else if keep {
            to.push(1);
        }
    }
    let averaged = Some(Averaged { axes: map.clone(), blocks: 1 });
    let operand = Operand { averaged, ..Operand::over(0, map) };
    Ok(Effect::one(Fact::new(dtype, to), Action::Map(vec![operand])))
}
