//! Operators whose results depend on shapes and small constants, and the arithmetic to evaluate them.

use super::call::{Action, Call, Effect, Fact, Refusal};
use super::step;
use crate::onnx::tensor::{DataType, Tensor};

/// `Shape`, with the slice that opset 15 allows.
pub(super) fn shape(call: &Call) -> Result<Effect, Refusal> {
    let dims = call.shape(0)?;
    let n = dims.len() as i64;
    let clamp = |p: i64| (if p < 0 { p + n } else { p }).clamp(0, n) as usize;
    let (start, end) = (clamp(call.int("start", 0)), clamp(call.int("end", n)));
    let part: Vec<i64> = dims[start..end.max(start)].iter().map(|&d| d as i64).collect();
    Ok(constant(Tensor::from_i64(&[part.len()], &part)))
}

pub(super) fn size(call: &Call) -> Result<Effect, Refusal> {
    let total = call.shape(0)?.iter().product::<usize>() as i64;
    Ok(constant(Tensor::from_i64(&[], &[total])))
}

fn constant(value: Tensor) -> Effect {
    let fact = Fact { value: Some(value.clone()), ..Fact::new(Some(value.dtype()), value.shape().to_vec()) };
    Effect::one(fact, Action::ShapeOnly)
}

/// The element that `ConstantOfShape` repeats.
pub(super) fn fill_element(call: &Call) -> Option<Tensor> {
    match call.node.attribute("value").and_then(|a| a.t.as_ref()) {
        Some(t) => Tensor::from_proto(t).ok(),
        None => step::zero(DataType::Float),
    }
}

pub(super) fn constant_of_shape(call: &Call) -> Result<Effect, Refusal> {
    let shape = call.known(0)?.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(|_| Refusal::Invalid("a negative extent".into()))?;
    Ok(Effect::one(Fact::new(fill_element(call).map(|t| t.dtype()), shape), Action::ShapeOnly))
}

pub(super) fn range(call: &Call) -> Result<Effect, Refusal> {
    let bound = |i: usize| call.fact(i).and_then(|f| f.value.as_ref()?.to_f64()?.first().copied());
    let (Some(start), Some(limit), Some(delta)) = (bound(0), bound(1), bound(2)) else {
        return Err(Refusal::Dynamic("the bounds of the range are not known".into()));
    };
    let count = ((limit - start) / delta).ceil().max(0.0);
    if delta == 0.0 || !count.is_finite() || count > f64::from(1 << 24) {
        return Err(Refusal::Invalid(format!("a range from {start} to {limit} by {delta}")));
    }
    Ok(Effect::one(Fact::new(call.dtype(0), vec![count as usize]), Action::ShapeOnly))
}

/// Elements of a range, for evaluation.
pub(super) fn evaluate_range(call: &Call, inputs: &[Option<&Tensor>]) -> Option<Vec<Tensor>> {
    let at = |i: usize| inputs.get(i).copied().flatten()?.to_f64()?.first().copied();
    let (start, delta) = (at(0)?, at(2)?);
    let count = range(call).ok()?.outputs[0].shape.as_ref()?[0];
    let values: Vec<f64> = (0..count).map(|i| start + i as f64 * delta).collect();
    Some(vec![Tensor::from_f64(call.dtype(0)?, &[count], &values)?])
}

pub(super) fn evaluate_fill(call: &Call, inputs: &[Option<&Tensor>]) -> Option<Vec<Tensor>> {
    let shape = inputs.first().copied().flatten()?.to_i64()?;
    let shape: Vec<usize> = shape.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<_>>()?;
    Some(vec![step::filled(&shape, &fill_element(call)?)?])
}

pub(super) fn evaluate_cast(call: &Call, inputs: &[Option<&Tensor>]) -> Option<Vec<Tensor>> {
    let x = inputs.first().copied().flatten()?;
    let to = DataType::try_from(call.node.int("to")? as i32).ok()?;
    if to == x.dtype() {
        return Some(vec![x.clone()]);
    }
    // Integers go through 64-bit integers, which a float cannot hold exactly.
    match x.to_i64() {
        Some(ints) if is_integer(to) => Some(vec![from_ints(to, x.shape(), &ints)?]),
        Some(ints) => {
            let values: Vec<f64> = ints.into_iter().map(|v| v as f64).collect();
            Some(vec![Tensor::from_f64(to, x.shape(), &values)?])
        }
        None => {
            // What becomes of a real that an integer cannot hold is up to the runtime.
            let values = x.to_f64()?;
            let exact = |v: &f64| v.abs() < 2f64.powi(31) && (*v >= 0.0 || to != DataType::Uint8);
            let small = |v: &f64| v.abs() < 128.0 || !matches!(to, DataType::Int8 | DataType::Uint8);
            (!is_integer(to) || values.iter().all(|v| exact(v) && small(v))).then_some(())?;
            Some(vec![Tensor::from_f64(to, x.shape(), &values)?])
        }
    }
}

pub(super) fn evaluate_where(_: &Call, inputs: &[Option<&Tensor>]) -> Option<Vec<Tensor>> {
    let [Some(c), Some(a), Some(b)] = inputs else { return None };
    let shape = super::layout::broadcast(&[c.shape(), a.shape(), b.shape()]).ok()?;
    let c = spread(&c.to_f64()?, c.shape(), &shape);
    if is_integer(a.dtype()) {
        let (x, y) = (spread(&a.to_i64()?, a.shape(), &shape), spread(&b.to_i64()?, b.shape(), &shape));
        let picked: Vec<i64> =
            c.iter().zip(x.iter().zip(&y)).map(|(&c, (&a, &b))| if c != 0.0 { a } else { b }).collect();
        return Some(vec![from_ints(a.dtype(), &shape, &picked)?]);
    }
    let (x, y) = (spread(&a.to_f64()?, a.shape(), &shape), spread(&b.to_f64()?, b.shape(), &shape));
    let picked: Vec<f64> = c.iter().zip(x.iter().zip(&y)).map(|(&c, (&a, &b))| if c != 0.0 { a } else { b }).collect();
    Some(vec![Tensor::from_f64(a.dtype(), &shape, &picked)?])
}

/// `Clip`: the bounds are inputs, before opset 11 attributes; either may be left out.
pub(super) fn evaluate_clip(call: &Call, inputs: &[Option<&Tensor>]) -> Option<Vec<Tensor>> {
    let x = inputs.first().copied().flatten()?;
    let bound = |i: usize, name: &str| match inputs.get(i).copied().flatten() {
        Some(t) => Some(t.to_f64()?.first().copied()),
        None => Some(call.node.float(name).map(f64::from)),
    };
    let (low, high) = (bound(1, "min")?, bound(2, "max")?);
    let clipped = |v: f64| {
        let v = low.map_or(v, |l| if v < l { l } else { v });
        high.map_or(v, |h| if v > h { h } else { v })
    };
    let values: Vec<f64> = x.to_f64()?.into_iter().map(clipped).collect();
    Some(vec![Tensor::from_f64(x.dtype(), x.shape(), &values)?])
}

/// `DequantizeLinear`: (x - zero point) * scale, per tensor, per slice of an axis or per block along one.
pub(super) fn evaluate_dequantize(call: &Call, inputs: &[Option<&Tensor>]) -> Option<Vec<Tensor>> {
    let (x, scale) = (inputs.first().copied().flatten()?, inputs.get(1).copied().flatten()?);
    let zero = inputs.get(2).copied().flatten();
    let along = |t: &Tensor| -> Option<Vec<f64>> {
        if t.elements() == 1 {
            return Some(vec![t.to_f64()?[0]; x.elements()]);
        }
        let axis = call.axis("axis", 1, x.shape().len()).ok()?;
        if call.int("block_size", 0) > 0 {
            let spread = super::quantised::blocks(call, x.shape(), t.shape()).ok()?;
            return step::apply(&[spread], t)?.to_f64();
        }
        let mut shape = vec![1; x.shape().len()];
        shape[axis] = t.elements();
        (x.shape()[axis] == t.elements()).then(|| Some(spread(&t.to_f64()?, &shape, x.shape())))?
    };
    let scales = along(scale)?;
    let zeros = zero.map_or_else(|| Some(vec![0.0; x.elements()]), along)?;
    let values: Vec<f64> = x.to_f64()?.iter().zip(scales.iter().zip(&zeros)).map(|(x, (s, z))| (x - z) * s).collect();
    let dtype = super::quantised::dequantize(call).ok()?.outputs[0].dtype?;
    Some(vec![Tensor::from_f64(dtype, x.shape(), &values)?])
}

/// An elementwise function of two numbers, on integers and on reals.
pub(super) fn binary(
    inputs: &[Option<&Tensor>],
    ints: fn(i64, i64) -> Option<i64>,
    reals: fn(f64, f64) -> f64,
) -> Option<Vec<Tensor>> {
    let [Some(a), Some(b)] = inputs else { return None };
    let shape = super::layout::broadcast(&[a.shape(), b.shape()]).ok()?;
    if is_integer(a.dtype()) {
        let (x, y) = (spread(&a.to_i64()?, a.shape(), &shape), spread(&b.to_i64()?, b.shape(), &shape));
        let out = x.iter().zip(&y).map(|(&x, &y)| ints(x, y)).collect::<Option<Vec<_>>>()?;
        return Some(vec![from_ints(a.dtype(), &shape, &out)?]);
    }
    let (x, y) = (spread(&a.to_f64()?, a.shape(), &shape), spread(&b.to_f64()?, b.shape(), &shape));
    let out: Vec<f64> = x.iter().zip(&y).map(|(&x, &y)| reals(x, y)).collect();
    Some(vec![Tensor::from_f64(a.dtype(), &shape, &out)?])
}

/// A comparison of two numbers.
pub(super) fn compare(inputs: &[Option<&Tensor>], holds: fn(f64, f64) -> bool) -> Option<Vec<Tensor>> {
    let [Some(a), Some(b)] = inputs else { return None };
    let shape = super::layout::broadcast(&[a.shape(), b.shape()]).ok()?;
    let (x, y) = (spread(&reals(a)?, a.shape(), &shape), spread(&reals(b)?, b.shape(), &shape));
    let out: Vec<f64> = x.iter().zip(&y).map(|(&x, &y)| f64::from(u8::from(holds(x, y)))).collect();
    Some(vec![Tensor::from_f64(DataType::Bool, &shape, &out)?])
}

/// An elementwise function of one number.
pub(super) fn unary(inputs: &[Option<&Tensor>], f: fn(f64) -> f64) -> Option<Vec<Tensor>> {
    let x = inputs.first().copied().flatten()?;
    let out: Vec<f64> = reals(x)?.into_iter().map(f).collect();
    Some(vec![Tensor::from_f64(x.dtype(), x.shape(), &out)?])
}

/// `Mod`: the result has the sign of the divisor, with `fmod` that of the dividend.
pub(super) fn evaluate_mod(call: &Call, inputs: &[Option<&Tensor>]) -> Option<Vec<Tensor>> {
    match call.int("fmod", 0) {
        0 => binary(
            inputs,
            |a, b| {
                let r = a.checked_rem(b)?;
                Some(if r != 0 && (r < 0) != (b < 0) { r + b } else { r })
            },
            |a, b| a - b * (a / b).floor(),
        ),
        _ => binary(inputs, i64::checked_rem, |a, b| a % b),
    }
}

/// The larger number, or NaN where either is none.
pub(super) fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// The smaller number, or NaN where either is none.
pub(super) fn smaller(a: f64, b: f64) -> f64 {
    if a.is_nan() || a < b { a } else { b }
}

fn is_integer(dtype: DataType) -> bool {
    use DataType::*;
    matches!(dtype, Int64 | Int32 | Int16 | Int8 | Uint8 | Uint16 | Uint32)
}

/// Integers in a type that holds all of them: what becomes of others is up to the runtime.
pub(super) fn from_ints(dtype: DataType, shape: &[usize], values: &[i64]) -> Option<Tensor> {
    if dtype == DataType::Int64 {
        return Some(Tensor::from_i64(shape, values));
    }
    let (least, most) = match dtype {
        DataType::Int32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        DataType::Uint8 => (0, i64::from(u8::MAX)),
        DataType::Int8 => (i64::from(i8::MIN), i64::from(i8::MAX)),
        _ => return None,
    };
    let reals: Vec<f64> = values.iter().map(|&v| v as f64).collect();
    if values.iter().any(|v| !(least..=most).contains(v)) {
        return None;
    }
    Tensor::from_f64(dtype, shape, &reals)
}

/// Content as reals; `None` for integers that a real of 64 bits does not hold.
fn reals(t: &Tensor) -> Option<Vec<f64>> {
    let exact = |v: &i64| v.unsigned_abs() <= 1 << 53;
    if matches!(t.dtype(), DataType::Int64 | DataType::Uint64) && !t.to_i64()?.iter().all(exact) {
        return None;
    }
    t.to_f64()
}

fn spread<T: Copy>(data: &[T], shape: &[usize], to: &[usize]) -> Vec<T> {
    let padded = [vec![1; to.len() - shape.len()], shape.to_vec()].concat();
    super::array::expand(data, &padded, to)
}
