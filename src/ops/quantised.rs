//! Integers that stand for reals: their conversion, and the operators that compute on them.

use super::call::{Action, Call, Contraction, Effect, Fact, Operand, Refusal, axis_at};
use super::contract::{Slots, conv_of, gemm_of, product_of};
use super::layout::broadcast;
use super::map::reduced;
use super::pool;
use super::step::Step;
use crate::onnx::tensor::DataType;

/// The element type that an attribute states; 0 and none leave it open.
fn stated(call: &Call) -> Option<DataType> {
    let number = call.node.int("output_dtype").filter(|&t| t != 0)?;
    DataType::try_from(i32::try_from(number).ok()?).ok()
}

pub(super) fn quantize(call: &Call) -> Result<Effect, Refusal> {
    scaled(call, stated(call).or(call.dtype(2)).or(Some(DataType::Uint8)))
}

pub(super) fn dequantize(call: &Call) -> Result<Effect, Refusal> {
    scaled(call, stated(call).or(call.dtype(1)))
}

/// Scale and zero point are of one tensor, of the slices of one axis, or of blocks along one axis.
fn scaled(call: &Call, dtype: Option<DataType>) -> Result<Effect, Refusal> {
    let x = call.shape(0)?;
    let mut operands = vec![Operand::whole(0, x.len())];
    for i in (1..call.inputs.len().min(3)).filter(|&i| call.has(i)) {
        match call.shape(i)? {
            [] | [1] => {}
            shape if call.int("block_size", 0) != 0 => {
                let steps = vec![blocks(call, x, shape)?];
                operands.push(Operand { steps, ..Operand::whole(i, x.len()) });
            }
            [_] => operands.push(Operand::along(i, call.axis("axis", 1, x.len())?)),
            shape => return Err(Refusal::Unknown(format!("a scale of shape {shape:?} without blocks"))),
        }
    }
    let mut effect = Effect::map(call, x.to_vec(), operands);
    effect.outputs[0].dtype = dtype;
    Ok(effect)
}

/// Spreads a parameter of one position for each block along an axis over the positions of the blocks, so that those of
/// a block go together.
pub(super) fn blocks(call: &Call, x: &[usize], parameter: &[usize]) -> Result<Step, Refusal> {
    let axis = call.axis("axis", 1, x.len())?;
    let size = usize::try_from(call.int("block_size", 0)).unwrap_or(0);
    let fits =
        |a: usize| if a == axis { size > 0 && parameter[a] == x[a].div_ceil(size) } else { parameter[a] == x[a] };
    if parameter.len() != x.len() || !(0..x.len()).all(fits) {
        let text = format!("a scale of shape {parameter:?} for {x:?} in blocks of {size} along axis {axis}");
        return Err(Refusal::Invalid(text));
    }
    Ok(Step::Take { axis, indices: (0..x[axis]).map(|i| i / size).collect() })
}

/// `DynamicQuantizeLinear`: the scale is measured over all elements.
pub(super) fn dynamic_quantize(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape(0)?;
    let mut effect = Effect::map(call, x.to_vec(), vec![Operand::whole(0, x.len()).mixing(|_| true)]);
    effect.outputs = vec![
        Fact::new(Some(DataType::Uint8), x.to_vec()),
        Fact::new(Some(DataType::Float), vec![]),
        Fact::new(Some(DataType::Uint8), vec![]),
    ];
    Ok(effect)
}

fn typed(mut effect: Effect, dtype: Option<DataType>) -> Effect {
    effect.outputs[0].dtype = dtype;
    effect
}

fn channels_first(call: &Call) -> Result<(), Refusal> {
    match call.int("channels_last", 0) {
        0 => Ok(()),
        _ => Err(Refusal::Unknown("channels_last".into())),
    }
}

/// `QLinearConv`: data, weight and bias between scales and zero points.
pub(super) fn conv(call: &Call) -> Result<Effect, Refusal> {
    channels_first(call)?;
    let slots = Slots { x: 0, w: 3, bias: Some(8), scales: [Some(4), Some(5)] };
    Ok(typed(conv_of(call, slots)?, call.dtype(7)))
}

/// `ConvInteger`: the sums themselves, as integers.
pub(super) fn conv_integer(call: &Call) -> Result<Effect, Refusal> {
    let slots = Slots { x: 0, w: 1, bias: None, scales: [Some(3), None] };
    Ok(typed(conv_of(call, slots)?, Some(DataType::Int32)))
}

/// `QGemm` of com.microsoft: operands and addend between scales and zero points.
pub(super) fn gemm(call: &Call) -> Result<Effect, Refusal> {
    let slots = Slots { x: 0, w: 3, bias: Some(6), scales: [Some(4), Some(5)] };
    let dtype = if call.has(7) { call.dtype(8).or(call.dtype(0)) } else { Some(DataType::Float) };
    Ok(typed(gemm_of(call, slots)?, dtype))
}

/// Scales and zero points of a matrix product: one number, one a row of the first operand, one a column of the second.
fn product_with(
    call: &Call,
    operands: [usize; 2],
    rows: &[usize],
    columns: &[usize],
    dtype: Option<DataType>,
) -> Result<Effect, Refusal> {
    let mut effect = product_of(call, operands, [false; 2])?;
    let Action::Contract(Contraction { output, also, .. }) = &mut effect.action else { return Ok(effect) };
    let rank = output.shape.len();
    let matrices = operands.iter().all(|&i| call.shape(i).is_ok_and(|s| s.len() > 1));
    for (inputs, from_end) in [(rows, 2), (columns, 1)] {
        for &i in inputs.iter().filter(|&&i| call.has(i)) {
            match call.shape(i)? {
                [] | [1] => {}
                [n] if matrices && output.shape[rank - from_end] == *n => {
                    also.push(Operand::along(i, rank - from_end));
                }
                shape => return Err(Refusal::Unknown(format!("input {i} of shape {shape:?}"))),
            }
        }
    }
    Ok(typed(effect, dtype))
}

pub(super) fn matmul(call: &Call) -> Result<Effect, Refusal> {
    product_with(call, [0, 3], &[1, 2], &[4, 5], call.dtype(7))
}

/// `MatMulInteger`: the sums themselves, as integers.
pub(super) fn matmul_integer(call: &Call) -> Result<Effect, Refusal> {
    product_with(call, [0, 1], &[2], &[3], Some(DataType::Int32))
}

/// `MatMulIntegerToFloat` of com.microsoft: scales, zero points and a bias.
pub(super) fn matmul_to_float(call: &Call) -> Result<Effect, Refusal> {
    product_with(call, [0, 1], &[2, 4], &[3, 5, 6], call.dtype(2))
}

/// `DynamicQuantizeMatMul` of com.microsoft: the scale of the first operand is measured over all of it.
pub(super) fn dynamic_matmul(call: &Call) -> Result<Effect, Refusal> {
    let mut effect = product_of(call, [0, 1], [false; 2])?;
    effect.action = Action::Opaque("the scale of its first operand is measured over all channels".into());
    Ok(effect)
}

/// Some inputs broadcast, the rest are their scales and zero points.
fn broadcast_of(call: &Call, inputs: &[usize], dtype: Option<DataType>) -> Result<Effect, Refusal> {
    let shapes = inputs.iter().map(|&i| call.shape(i)).collect::<Result<Vec<_>, _>>()?;
    let to = broadcast(&shapes)?;
    let operand = |(&i, s): (&usize, &&[usize])| Operand::trailing(i, s.len(), to.len());
    let operands = inputs.iter().zip(&shapes).map(operand).collect();
    Ok(typed(Effect::map(call, to, operands), dtype))
}

/// `QLinearAdd`, `QLinearMul` of com.microsoft.
pub(super) fn broadcasting(call: &Call) -> Result<Effect, Refusal> {
    broadcast_of(call, &[0, 3], call.dtype(0))
}

/// `MulInteger` of com.microsoft.
pub(super) fn mul_integer(call: &Call) -> Result<Effect, Refusal> {
    broadcast_of(call, &[0, 2], Some(DataType::Int32))
}

/// `QLinearWhere` of com.microsoft.
pub(super) fn select(call: &Call) -> Result<Effect, Refusal> {
    broadcast_of(call, &[0, 1, 4], call.dtype(1))
}

pub(super) fn average_pool(call: &Call) -> Result<Effect, Refusal> {
    channels_first(call)?;
    pool::pool(call)
}

pub(super) fn global_pool(call: &Call) -> Result<Effect, Refusal> {
    channels_first(call)?;
    pool::global_pool(call)
}

/// `QLinearReduceMean` of com.microsoft: the axes are an attribute.
pub(super) fn reduce_mean(call: &Call) -> Result<Effect, Refusal> {
    let rank = call.shape(0)?.len();
    let named = call.node.ints("axes").filter(|a| !a.is_empty());
    let axes = match named {
        Some(axes) => axes.iter().map(|&a| axis_at(a, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).collect(),
    };
    if call.node.int("keepdims").is_none() {
        return Err(Refusal::Unknown("no keepdims".into()));
    }
    reduced(call, &axes, call.dtype(0))
}

/// `QLinearSoftmax` of com.microsoft: an attribute says which version of `Softmax` it follows.
pub(super) fn softmax(call: &Call) -> Result<Effect, Refusal> {
    let version = call.node.int("opset").ok_or_else(|| Refusal::Unknown("no opset".into()))?;
    super::normalise::softmax(&Call { version, ..*call })
}

/// `QLinearConcat` of com.microsoft: triples of data, scale and zero point after the scale and zero point of the result.
pub(super) fn concat(call: &Call) -> Result<Effect, Refusal> {
    let inputs: Vec<usize> = (2..call.inputs.len()).step_by(3).collect();
    Ok(typed(super::layout::concat_of(call, inputs)?, call.dtype(1)))
}
