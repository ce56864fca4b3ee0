//! Operators whose output elements depend on the elements at the same place of their operands, along some axes at
//! least: arithmetic, activations, normalisation, pooling, reduction, quantisation.

use super::call::{Action, Call, Effect, Fact, Operand, Refusal, axis_at};
use super::layout::broadcast;
use super::step::Step;
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
        Some(axis) => axis_at(axis, a.len())?,
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

pub(super) fn cast(call: &Call) -> Result<Effect, Refusal> {
    let mut effect = unary(call)?;
    effect.outputs[0].dtype = match call.node.int("to") {
        Some(t) => DataType::try_from(t as i32).ok(),
        None => call.dtype(1),
    };
    Ok(effect)
}

pub(super) fn dropout(call: &Call) -> Result<Effect, Refusal> {
    let training = call.version >= 12 && call.has(2) && call.known(2).map_or(true, |v| v != [0]);
    if training {
        return Err(Refusal::Unknown("dropout in training mode".into()));
    }
    let mut effect = unary(call)?;
    let mask = Fact { dtype: Some(DataType::Bool), ..effect.outputs[0].clone() };
    effect.outputs.resize(call.output_count().max(1), mask);
    Ok(effect)
}

/// Scale, shift, mean and variance run along the channels.
pub(super) fn batch_norm(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape_of_rank(0, 2)?;
    if call.int("training_mode", 0) != 0 || (call.version < 7 && call.int("is_test", 0) == 0 && call.output_count() > 1)
    {
        return Err(Refusal::Unknown("batch normalisation in training mode".into()));
    }
    if call.version < 9 && call.int("spatial", 1) == 0 {
        return Err(Refusal::Unknown("batch normalisation with spatial = 0".into()));
    }
    let mut operands = vec![Operand::whole(0, x.len())];
    for i in 1..5 {
        if *call.shape(i)? != [x[1]] {
            return Err(Refusal::Invalid(format!(
                "input {i} has shape {:?}, {} channels are normalised",
                call.shape(i)?,
                x[1]
            )));
        }
        operands.push(Operand::along(i, 1));
    }
    Ok(Effect::map(call, x.to_vec(), operands))
}

/// Statistics over the positions of each channel.
pub(super) fn instance_norm(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape_of_rank(0, 3)?;
    let operands = vec![Operand::whole(0, x.len()).mixing(|a| a > 1), Operand::along(1, 1), Operand::along(2, 1)];
    Ok(Effect::map(call, x.to_vec(), operands))
}

/// Statistics over the last axes.
pub(super) fn layer_norm(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape(0)?;
    let first = call.axis("axis", -1, x.len())?;
    let mut operands = vec![Operand::whole(0, x.len()).mixing(|a| a >= first)];
    for i in 1..call.inputs.len() {
        if call.has(i) {
            let rank = call.shape(i)?.len().min(x.len());
            operands.push(Operand::trailing(i, rank, x.len()).mixing(|a| a >= first));
        }
    }
    Ok(Effect::map(call, x.to_vec(), operands))
}

/// Statistics over groups of channels.
pub(super) fn group_norm(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape_of_rank(0, 2)?;
    Ok(Effect::map(call, x.to_vec(), vec![Operand::whole(0, x.len()).mixing(|a| a >= 1)]))
}

/// Normalisation over neighbouring channels.
pub(super) fn across_channels(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape_of_rank(0, 2)?;
    Ok(Effect::map(call, x.to_vec(), vec![Operand::whole(0, x.len()).mixing(|a| a == 1)]))
}

/// One axis is normalised or accumulated along; before opset 13 softmax took all axes from there on.
pub(super) fn softmax(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape(0)?;
    let operand = if call.version < 13 {
        let axis = call.axis("axis", 1, x.len().max(1))?;
        Operand::whole(0, x.len()).mixing(|a| a >= axis)
    } else {
        let axis = call.axis("axis", -1, x.len().max(1))?;
        Operand::whole(0, x.len()).mixing(|a| a == axis)
    };
    Ok(Effect::map(call, x.to_vec(), vec![operand]))
}

/// One axis of an attribute is mixed.
pub(super) fn along_axis(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape(0)?;
    let axis = call.axis("axis", -1, x.len())?;
    Ok(Effect::map(call, x.to_vec(), vec![Operand::whole(0, x.len()).mixing(|a| a == axis)]))
}

pub(super) fn mean_variance_norm(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape(0)?;
    let axes = call.node.ints("axes").unwrap_or(&[0, 2, 3]);
    let axes = axes.iter().map(|&a| axis_at(a, x.len())).collect::<Result<Vec<_>, _>>()?;
    Ok(Effect::map(call, x.to_vec(), vec![Operand::whole(0, x.len()).mixing(|a| axes.contains(&a))]))
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

fn reduced(call: &Call, axes: &[usize], dtype: Option<DataType>) -> Result<Effect, Refusal> {
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
    Ok(Effect::one(Fact::new(dtype, to), Action::Map(vec![Operand::over(0, map)])))
}

/// `QLinearAdd`, `QLinearMul` of com.microsoft: operands 0 and 3, the rest are scales and zero points.
pub(super) fn quantised_broadcasting(call: &Call) -> Result<Effect, Refusal> {
    let (a, b) = (call.shape(0)?, call.shape(3)?);
    let to = broadcast(&[a, b])?;
    let operands = vec![Operand::trailing(0, a.len(), to.len()), Operand::trailing(3, b.len(), to.len())];
    Ok(Effect::map(call, to, operands))
}

/// Quantised pools: channels first only.
pub(super) fn quantised_pool(call: &Call) -> Result<Effect, Refusal> {
    if call.int("channels_last", 0) != 0 {
        return Err(Refusal::Unknown("channels_last".into()));
    }
    if call.node.op_type() == "QLinearGlobalAveragePool" { global_pool(call) } else { pool(call) }
}

/// Pools over windows: positions are mixed, batch and channels pass.
pub(super) fn pool(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape_of_rank(0, 3)?;
    let kernel = call.node.ints("kernel_shape").ok_or_else(|| Refusal::Invalid("no kernel_shape".into()))?;
    let kernel = kernel.iter().map(|&k| usize::try_from(k)).collect::<Result<Vec<_>, _>>();
    let kernel = kernel.map_err(|_| Refusal::Invalid("a negative kernel extent".into()))?;
    let positions = windows(call, &x[2..], &kernel, call.int("ceil_mode", 0) != 0)?;
    let shape = [&x[..2], &positions].concat();
    let operand = Operand::whole(0, x.len()).mixing(|a| a > 1);
    let mut effect = Effect::map(call, shape, vec![operand]);
    if call.output_count() > 1 {
        let indices = Fact { dtype: Some(DataType::Int64), ..effect.outputs[0].clone() };
        effect.outputs.push(indices);
    }
    Ok(effect)
}

pub(super) fn global_pool(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape_of_rank(0, 2)?;
    let shape = [&x[..2], &vec![1; x.len() - 2][..]].concat();
    Ok(Effect::map(call, shape, vec![Operand::whole(0, x.len()).mixing(|a| a > 1)]))
}

/// Number of window positions along every spatial axis, from strides, pads, dilations and `auto_pad`.
pub(super) fn windows(call: &Call, extents: &[usize], kernel: &[usize], ceil: bool) -> Result<Vec<usize>, Refusal> {
    let n = extents.len();
    if kernel.len() != n {
        return Err(Refusal::Invalid(format!("a kernel of {} axes over {n} axes", kernel.len())));
    }
    let (strides, dilations) = (call.list("strides", 1, n)?, call.list("dilations", 1, n)?);
    let pads = call.list("pads", 0, 2 * n)?;
    let auto = call.node.string("auto_pad").unwrap_or("NOTSET");
    (0..n)
        .map(|i| {
            // Attributes are any 64-bit numbers; sums and products of three of them fit 128 bits.
            let (s, d, x) = (i128::from(strides[i]), i128::from(dilations[i]), extents[i] as i128);
            if s <= 0 || d <= 0 {
                return Err(Refusal::Invalid(format!("stride {s} and dilation {d} on axis {i}")));
            }
            let reach = (kernel[i] as i128 - 1) * d + 1;
            let out = match auto {
                "SAME_UPPER" | "SAME_LOWER" => (x + s - 1) / s,
                _ => {
                    let (before, after) = if auto == "VALID" { (0, 0) } else { (pads[i], pads[n + i]) };
                    let (before, after) = (i128::from(before), i128::from(after));
                    let room = x + before + after - reach;
                    if room < 0 {
                        return Err(Refusal::Invalid(format!("a window of {reach} over an extent of {x} on axis {i}")));
                    }
                    let floor = room / s + 1;
                    // A last window that starts inside the padding at the end is not counted.
                    if ceil && room % s != 0 && floor * s < x + before { floor + 1 } else { floor }
                }
            };
            usize::try_from(out).map_err(|_| Refusal::Invalid(format!("{out} windows on axis {i}")))
        })
        .collect()
}

/// `Resize` and `Upsample`: axes that change their extent are mixed.
pub(super) fn resize(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape(0)?;
    let to = resized(call, x)?;
    let operand = Operand::whole(0, x.len()).mixing(|a| to[a] != x[a]);
    Ok(Effect::map(call, to, vec![operand]))
}

fn resized(call: &Call, x: &[usize]) -> Result<Vec<usize>, Refusal> {
    let floats = |i: usize| call.fact(i).and_then(|f| f.value.as_ref()).and_then(|t| t.to_f64());
    let is_resize = call.node.op_type() == "Resize";
    let (scales_at, sizes_at) = if is_resize && call.version >= 11 { (2, Some(3)) } else { (1, None) };
    let axes: Vec<usize> = match call.node.ints("axes").filter(|_| is_resize && call.version >= 18) {
        Some(axes) => axes.iter().map(|&a| axis_at(a, x.len())).collect::<Result<_, _>>()?,
        None => (0..x.len()).collect(),
    };
    if call.node.string("coordinate_transformation_mode") == Some("tf_crop_and_resize") {
        return Err(Refusal::Unknown("coordinate_transformation_mode tf_crop_and_resize".into()));
    }
    if call.node.string("keep_aspect_ratio_policy").is_some_and(|p| p != "stretch") {
        return Err(Refusal::Unknown("keep_aspect_ratio_policy".into()));
    }
    let mut to = x.to_vec();
    if let Some(i) = sizes_at.filter(|&i| call.has(i)) {
        let sizes = call.known(i)?;
        if sizes.len() != axes.len() || sizes.iter().any(|&s| s < 0) {
            return Err(Refusal::Invalid(format!("sizes {sizes:?} for {} axes", axes.len())));
        }
        axes.iter().zip(sizes).for_each(|(&a, s)| to[a] = s as usize);
        return Ok(to);
    }
    let scales = match call.node.attribute("scales") {
        Some(a) => a.floats.iter().map(|&s| f64::from(s)).collect(),
        None => floats(scales_at).ok_or_else(|| Refusal::Dynamic("the scales are not known".into()))?,
    };
    if scales.len() != axes.len() || !scales.iter().all(|s| s.is_finite() && *s > 0.0) {
        return Err(Refusal::Invalid(format!("scales {scales:?} for {} axes", axes.len())));
    }
    axes.iter().zip(scales).for_each(|(&a, s)| to[a] = (x[a] as f64 * s).floor() as usize);
    Ok(to)
}

/// Spreads a parameter of one position for each block along an axis over the positions of the blocks, so that those of a
/// block go together.
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

/// Scale and zero point of one tensor, of the slices of one axis, or of blocks along one axis.
pub(super) fn quantize(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape(0)?;
    let mut operands = vec![Operand::whole(0, x.len())];
    for i in 1..call.inputs.len().min(3) {
        if call.has(i) {
            let shape = call.shape(i)?;
            match shape.len() {
                0 => {}
                1 if shape[0] == 1 => {}
                1 => operands.push(Operand::along(i, call.axis("axis", 1, x.len())?)),
                _ => {
                    let steps = vec![blocks(call, x, shape)?];
                    operands.push(Operand { steps, ..Operand::whole(i, x.len()) });
                }
            }
        }
    }
    let mut effect = Effect::map(call, x.to_vec(), operands);
    effect.outputs[0].dtype = match call.node.op_type() {
        "DequantizeLinear" => call.dtype(1),
        _ => call.dtype(2).or(Some(DataType::Uint8)),
    };
    Ok(effect)
}
