//! Reductions of small constants: sizes that exporters take the largest or smallest of.

use super::call::{Action, Call};
use crate::onnx::tensor::{DataType, Tensor};

type Outputs = Option<Vec<Tensor>>;

pub(super) fn evaluate_max(call: &Call, inputs: &[Option<&Tensor>]) -> Outputs {
    evaluate(call, inputs, |a, b| Some(a.max(b)), Some(super::values::larger))
}

pub(super) fn evaluate_min(call: &Call, inputs: &[Option<&Tensor>]) -> Outputs {
    evaluate(call, inputs, |a, b| Some(a.min(b)), Some(super::values::smaller))
}

/// Of integers only: sums of reals hang on their order.
pub(super) fn evaluate_sum(call: &Call, inputs: &[Option<&Tensor>]) -> Outputs {
    evaluate(call, inputs, i64::checked_add, None)
}

/// Of integers only, as [`evaluate_sum`].
pub(super) fn evaluate_product(call: &Call, inputs: &[Option<&Tensor>]) -> Outputs {
    evaluate(call, inputs, i64::checked_mul, None)
}

fn evaluate(
    call: &Call,
    inputs: &[Option<&Tensor>],
    ints: fn(i64, i64) -> Option<i64>,
    reals: Option<fn(f64, f64) -> f64>,
) -> Outputs {
    let x = inputs.first().copied().flatten()?;
    let effect = super::map::reduce(call).ok()?;
    let Action::Map(operands) = &effect.action else { return None };
    let shape = effect.outputs.first()?.shape.clone()?;
    let places = places(x.shape(), &operands.first()?.axes, &shape)?;
    let count = shape.iter().product();
    if let Some(values) = x.to_i64() {
        let out = gather(&values, &places, count, ints)?;
        return Some(vec![super::values::from_ints(x.dtype(), &shape, &out)?]);
    }
    let (values, reals) = (x.to_f64()?, reals?);
    let out = gather(&values, &places, count, |a, b| Some(reals(a, b)))?;
    // Of these the larger and the smaller are among them, so nothing is rounded.
    matches!(x.dtype(), DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16).then_some(())?;
    Some(vec![Tensor::from_f64(x.dtype(), &shape, &out)?])
}

/// For each element the place in the output that it goes into.
fn places(shape: &[usize], axes: &[Option<usize>], out: &[usize]) -> Option<Vec<usize>> {
    let strides = super::array::strides(out);
    let own: Vec<usize> = axes.iter().map(|to| to.map_or(0, |to| strides[to])).collect();
    let counts: Vec<usize> = (0..out.iter().product()).collect();
    (own.len() == shape.len() && !counts.is_empty()).then(|| super::array::strided(&counts, shape, &own))
}

/// `None` where an output has no element at all.
fn gather<T: Copy>(values: &[T], places: &[usize], count: usize, join: impl Fn(T, T) -> Option<T>) -> Option<Vec<T>> {
    let mut out: Vec<Option<T>> = vec![None; count];
    for (&v, &at) in values.iter().zip(places) {
        out[at] = Some(match out[at] {
            None => v,
            Some(before) => join(before, v)?,
        });
    }
    out.into_iter().collect()
}
