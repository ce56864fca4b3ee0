//! Operators that make of each element of one operand a number times it plus a number, within limits.

use super::Call;
use crate::onnx::tensor::DataType;

/// `limits.0 <= scale * x + offset + other <= limits.1`, place by place, where `x` is one operand.
#[derive(Debug, Clone, PartialEq)]
pub struct Affine {
    /// The axis of the output that `scale` and `offset` run along; they have one element each where it is no matter.
    pub axis: usize,
    pub scale: Vec<f64>,
    pub offset: Vec<f64>,
    /// What is less or more than these becomes these.
    pub limits: (f64, f64),
    /// Another operand of the output's shape that is added.
    pub other: Option<usize>,
}

/// The elements of an input that is constant.
pub type Constants<'a> = &'a dyn Fn(usize) -> Option<Vec<f64>>;

/// Nothing is less or more than these.
pub const UNLIMITED: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);

const SAME: Affine = Affine { axis: 0, scale: Vec::new(), offset: Vec::new(), limits: UNLIMITED, other: None };

fn plain(limits: (f64, f64)) -> Affine {
    Affine { scale: vec![1.0], offset: vec![0.0], limits, ..SAME }
}

pub(super) fn none(_: &Call, _: usize, _: Constants) -> Option<Affine> {
    None
}

pub(super) fn identity(_: &Call, input: usize, _: Constants) -> Option<Affine> {
    (input == 0).then(|| plain(UNLIMITED))
}

/// Not where it may be told to drop.
pub(super) fn dropout(call: &Call, input: usize, _: Constants) -> Option<Affine> {
    (input == 0 && !call.has(2)).then(|| plain(UNLIMITED))
}

pub(super) fn relu(_: &Call, input: usize, _: Constants) -> Option<Affine> {
    (input == 0).then(|| plain((0.0, f64::INFINITY)))
}

/// The limits are attributes before version 11, and inputs since.
pub(super) fn clip(call: &Call, input: usize, constants: Constants) -> Option<Affine> {
    let limit = |i: usize, name: &str, without: f64| match (call.has(i), call.node.float(name)) {
        (true, _) => constants(i)?.first().copied(),
        (false, Some(stated)) => Some(f64::from(stated)),
        (false, None) => Some(without),
    };
    let limits = (limit(1, "min", UNLIMITED.0)?, limit(2, "max", UNLIMITED.1)?);
    (input == 0).then(|| plain(limits))
}

pub(super) fn batch_norm(call: &Call, input: usize, constants: Constants) -> Option<Affine> {
    if input != 0 || call.int("training_mode", 0) != 0 {
        return None;
    }
    let epsilon = f64::from(call.node.float("epsilon").unwrap_or(1e-5));
    let (gain, shift, mean, variance) = (constants(1)?, constants(2)?, constants(3)?, constants(4)?);
    let scale: Vec<f64> = gain.iter().zip(&variance).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
    let offset = shift.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
    Some(Affine { axis: 1, scale, offset, ..SAME })
}

/// A constant operand of an elementwise operator that varies along one axis of the output at most: that axis, and the
/// numbers along it.
fn along(call: &Call, operand: usize, with: usize, constants: Constants) -> Option<(usize, Vec<f64>)> {
    let (x, c) = (call.shape(operand).ok()?, call.shape(with).ok()?);
    let long: Vec<usize> = (0..c.len()).filter(|&a| c[a] != 1).collect();
    let axis = match long[..] {
        [] if c.len() <= x.len() => 0,
        // Before version 7 an attribute said which axes a shorter operand has.
        [a] if (call.version >= 7 || c.len() == x.len()) && c.len() <= x.len() && c[a] == x[a + x.len() - c.len()] => {
            a + x.len() - c.len()
        }
        _ => return None,
    };
    Some((axis, constants(with)?))
}

/// Two operands, one of which may be constant.
pub(super) fn sum(call: &Call, input: usize, constants: Constants) -> Option<Affine> {
    if call.inputs.len() != 2 || input > 1 {
        return None;
    }
    if let Some((axis, offset)) = along(call, input, 1 - input, constants) {
        return Some(Affine { axis, scale: vec![1.0; offset.len()], offset, ..SAME });
    }
    let same = call.shape(0).ok()? == call.shape(1).ok()?;
    same.then(|| Affine { other: Some(1 - input), ..plain(UNLIMITED) })
}

/// By a constant.
pub(super) fn product(call: &Call, input: usize, constants: Constants) -> Option<Affine> {
    if call.inputs.len() != 2 || input > 1 {
        return None;
    }
    let (axis, scale) = along(call, input, 1 - input, constants)?;
    Some(Affine { axis, offset: vec![0.0; scale.len()], scale, ..SAME })
}

/// The least and the most that integers of a type can be.
pub fn range(dtype: DataType) -> Option<(f64, f64)> {
    Some(match dtype {
        DataType::Int8 => (-128.0, 127.0),
        DataType::Uint8 => (0.0, 255.0),
        DataType::Int16 => (-32768.0, 32767.0),
        DataType::Uint16 => (0.0, 65535.0),
        DataType::Int32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
        _ => return None,
    })
}

/// Scales and zero points of one tensor, or of the slices of one axis.
fn scales(call: &Call, constants: Constants) -> Option<(usize, Vec<f64>, Vec<f64>)> {
    if call.int("block_size", 0) != 0 {
        return None;
    }
    let scale = constants(1)?;
    let zero = if call.has(2) { constants(2)? } else { vec![0.0; scale.len()] };
    let axis = call.axis("axis", 1, call.shape(0).ok()?.len()).ok().or((scale.len() == 1).then_some(0))?;
    (scale.len() == zero.len() && scale.iter().all(|s| *s > 0.0)).then_some((axis, scale, zero))
}

/// But for rounding.
pub(super) fn quantize(call: &Call, input: usize, constants: Constants) -> Option<Affine> {
    let (axis, scale, offset) = scales(call, constants)?;
    let limits = range(call.dtype(2).unwrap_or(DataType::Uint8))?;
    let scale = scale.iter().map(|s| 1.0 / s).collect();
    (input == 0).then_some(Affine { axis, scale, offset, limits, other: None })
}

pub(super) fn dequantize(call: &Call, input: usize, constants: Constants) -> Option<Affine> {
    let (axis, scale, zero) = scales(call, constants)?;
    let offset = scale.iter().zip(&zero).map(|(s, z)| -s * z).collect();
    (input == 0).then_some(Affine { axis, scale, offset, ..SAME })
}
