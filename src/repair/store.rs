//! Writing new weights and constants where a contraction reads them.
//!
//! Guarantees: no other reader of a constant sees a change; the element type stays. Weights that are stored as integers
//! are rounded to their scale, and limited to its range.

use super::linear::Linear;
use crate::analysis::{Shapes, evaluate_constant};
use crate::ir::{Def, Model, NodeId, Uses, ValueId};
use crate::onnx::tensor::{DataType, Tensor};

/// Where the constant of a contraction's outputs goes: an input of the node itself, or of the `Add` behind it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Home {
    pub node: NodeId,
    pub input: usize,
    /// What the constant is multiplied with.
    pub factor: f64,
    /// The constant is added to what stands there, in place of replacing it.
    pub adds: bool,
}

/// The place for a constant for each output, where there is one.
pub fn home(model: &Model, shapes: &Shapes, uses: &Uses, linear: &Linear) -> Option<Home> {
    let outputs = linear.groups * linear.outs;
    let shape = shapes.shape(linear.output)?;
    let axis = linear.output_axis(shape)?;
    if let Some(input) = linear.addend.input {
        // Convolutions count outputs along axis 1, a Gemm along its last, which is axis 1 too.
        let factor = linear.addend.of_addend;
        return (axis == 1 && factor != 0.0).then_some(Home { node: linear.node, input, factor, adds: false });
    }
    let [(add, i)] = uses.readers(linear.output)[..] else { return None };
    let node = model.node(add);
    let plain = node.op_type() == "Add" && node.is_standard() && axis + 1 == shape.len();
    let other = node.input(1 - i).filter(|_| plain && !uses.is_output(linear.output))?;
    let stands = evaluate_constant(model, shapes, other)?;
    let fits = stands.elements() == outputs && stands.shape().last() == Some(&outputs);
    fits.then_some(Home { node: add, input: 1 - i, factor: 1.0, adds: true })
}

/// Stores the weights, in the order of [`Linear::weights`].
pub fn store_weights(model: &mut Model, shapes: &Shapes, linear: &Linear, weights: &[f64]) -> Option<()> {
    let shape = shapes.shape(linear.weight)?.to_vec();
    put(model, shapes, linear.node, linear.weight_input, &shape, &linear.weight_tensor(weights))
}

/// Stores a constant for each output.
pub fn store_constants(model: &mut Model, shapes: &Shapes, home: Home, constants: &[f64]) -> Option<()> {
    let mut values: Vec<f64> = constants.iter().map(|c| c / home.factor).collect();
    let Some(old) = model.node(home.node).input(home.input) else {
        let weight = model.node(home.node).input(1)?;
        let dtype = shapes.fact(weight)?.dtype?;
        let tensor = Tensor::from_f64(dtype, &[values.len()], &values)?;
        let hint = format!("{}_bias", model.value(weight).name());
        let graph = model.node(home.node).graph();
        let new = model.add_initializer(graph, &hint, &tensor);
        model.set_input(home.node, home.input, Some(new));
        return Some(());
    };
    let stands = evaluate_constant(model, shapes, old)?;
    let mut shape = vec![values.len()];
    if home.adds {
        values.iter_mut().zip(stands.to_f64()?).for_each(|(v, old)| *v += old);
        shape = stands.shape().to_vec();
    } else if stands.elements() == values.len() && stands.shape().last() == Some(&values.len()) {
        // As it was declared: a row of a matrix, perhaps.
        shape = stands.shape().to_vec();
    }
    put(model, shapes, home.node, home.input, &shape, &values)
}

/// Adds to the constant of each output.
pub fn shift_constants(model: &mut Model, shapes: &Shapes, home: Home, shift: &[f64]) -> Option<()> {
    let stands = match model.node(home.node).input(home.input).filter(|_| !home.adds) {
        Some(v) => evaluate_constant(model, shapes, v)?.to_f64()?,
        None => vec![0.0],
    };
    let of = |i: usize| stands.get(i).or(stands.first()).copied().unwrap_or(0.0) * home.factor;
    let constants: Vec<f64> = shift.iter().enumerate().map(|(i, s)| s + of(i)).collect();
    store_constants(model, shapes, home, &constants)
}

/// Makes a node read these numbers at an input, in the way in which the constant there is stored.
fn put(model: &mut Model, shapes: &Shapes, node: NodeId, input: usize, shape: &[usize], values: &[f64]) -> Option<()> {
    let value = model.node(node).input(input)?;
    if let Some(quantised) = Quantised::of(model, shapes, value, shape) {
        let stored = quantised.round(values)?;
        let alone = model.uses().readers(value).len() == 1 && model.uses().readers(quantised.stored).len() == 1;
        if alone && model.constant(quantised.stored).is_some() && !model.is_overridable(quantised.stored) {
            model.set_constant(quantised.stored, &stored);
            return Some(());
        }
    }
    let dtype = shapes.fact(value)?.dtype?;
    let tensor = Tensor::from_f64(dtype, shape, values).filter(Tensor::is_finite)?;
    let same = shapes.shape(value) == Some(shape);
    let own = same && model.uses().readers(value).len() == 1 && !model.uses().is_output(value);
    if own && model.constant(value).is_some() && !model.is_overridable(value) {
        model.set_constant(value, &tensor);
        return Some(());
    }
    let graph = model.node(node).graph();
    let hint = format!("{}_repaired", model.value(value).name());
    let new = model.add_initializer(graph, &hint, &tensor);
    model.set_input(node, input, Some(new));
    Some(())
}

/// A constant that is stored as integers of a scale.
struct Quantised {
    stored: ValueId,
    dtype: DataType,
    shape: Vec<usize>,
    scale: Vec<f64>,
    zero: Vec<f64>,
    /// Elements that follow one another under one scale.
    run: usize,
}

impl Quantised {
    fn of(model: &Model, shapes: &Shapes, value: ValueId, shape: &[usize]) -> Option<Self> {
        let Def::Node(maker, 0) = model.value(value).def() else { return None };
        let node = model.node(maker);
        if node.op_type() != "DequantizeLinear" || !node.is_standard() || node.int("block_size").unwrap_or(0) != 0 {
            return None;
        }
        let stored = node.input(0)?;
        let dtype = shapes.fact(stored)?.dtype?;
        let scale = evaluate_constant(model, shapes, node.input(1)?)?.to_f64()?;
        let zero = match node.input(2) {
            Some(z) => evaluate_constant(model, shapes, z)?.to_f64()?,
            None => vec![0.0; scale.len()],
        };
        let axis = node.int("axis").unwrap_or(1);
        let axis = usize::try_from(if axis < 0 { axis + shape.len() as i64 } else { axis }).ok()?;
        let run = if scale.len() == 1 { shape.iter().product() } else { shape[axis + 1..].iter().product() };
        let one_each = scale.len() == zero.len() && (scale.len() == 1 || shape.get(axis) == Some(&scale.len()));
        one_each.then(|| Self { stored, dtype, shape: shape.to_vec(), scale, zero, run })
    }

    fn round(&self, values: &[f64]) -> Option<Tensor> {
        let (low, high) = match self.dtype {
            DataType::Int8 => (-128.0, 127.0),
            DataType::Uint8 => (0.0, 255.0),
            DataType::Int16 => (-32768.0, 32767.0),
            DataType::Uint16 => (0.0, 65535.0),
            DataType::Int32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
            _ => return None,
        };
        let of = |(i, v): (usize, &f64)| {
            let s = i / self.run.max(1) % self.scale.len();
            (v / self.scale[s] + self.zero[s]).round_ties_even().clamp(low, high)
        };
        let rounded: Vec<f64> = values.iter().enumerate().map(of).collect();
        Tensor::from_f64(self.dtype, &self.shape, &rounded)
    }
}
