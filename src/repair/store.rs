//! Writing new weights and constants where a contraction reads them.
//!
//! Guarantees: no other reader of a constant sees a change; the element type stays. Weights that are stored as integers
//! get the scale that their new range asks for, and are rounded to it. The scale of an addend follows by the same
//! factor: runtimes that compute on integers take it for the product of the scales of data and weight.

use super::linear::Linear;
use crate::analysis::{Shapes, evaluate_constant};
use crate::ir::{Def, Model, NodeId, Uses, ValueId};
use crate::onnx::tensor::{DataType, Tensor};
use crate::ops::{self, affine::range};

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
    let values = linear.weight_tensor(weights);
    let at = (linear.node, linear.weight_input);
    if let Some(quantised) = Quantised::alone(model, shapes, linear.weight, &shape) {
        let addend = linear.addend.input.and_then(|i| model.node(linear.node).input(i));
        let growth = quantised.growth(&values);
        if grow_addend(model, shapes, addend, &growth).is_some() {
            return quantised.grown(&growth).store(model, &values);
        }
        return quantised.store(model, &values);
    }
    put(model, shapes, at, &shape, &values)
}

/// Multiplies the scales of an addend, which keeps its numbers. `None` where that cannot be; nothing needs to be done to one
/// that is no integer, or not there.
fn grow_addend(model: &mut Model, shapes: &Shapes, addend: Option<ValueId>, growth: &[f64]) -> Option<()> {
    let Some(addend) = addend else { return Some(()) };
    let Def::Node(maker, _) = model.value(addend).def() else { return Some(()) };
    if ops::row_of(model.node(maker)).is_none_or(|row| row.zero_points.is_empty()) {
        return Some(());
    }
    let shape = shapes.shape(addend)?.to_vec();
    let quantised = Quantised::alone(model, shapes, addend, &shape).filter(|q| q.scale.len() == growth.len())?;
    let values = evaluate_constant(model, shapes, addend)?.to_f64()?;
    quantised.grown(growth).store(model, &values)
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
    put(model, shapes, (home.node, home.input), &shape, &values)
}

/// The constants of the first `count` outputs as they are, as far as the node itself adds them.
pub fn constants(model: &Model, shapes: &Shapes, home: Home, count: usize) -> Option<Vec<f64>> {
    let stands = match model.node(home.node).input(home.input).filter(|_| !home.adds) {
        Some(v) => evaluate_constant(model, shapes, v)?.to_f64()?,
        None => vec![0.0],
    };
    let of = |i: usize| stands.get(i).or(stands.first()).copied().unwrap_or(0.0) * home.factor;
    Some((0..count).map(of).collect())
}

/// Adds to the constant of each output.
pub fn shift_constants(model: &mut Model, shapes: &Shapes, home: Home, shift: &[f64]) -> Option<()> {
    let stands = constants(model, shapes, home, shift.len())?;
    let constants: Vec<f64> = shift.iter().zip(stands).map(|(s, c)| s + c).collect();
    store_constants(model, shapes, home, &constants)
}

/// Makes a node read these numbers at an input, in the way in which the constant there is stored.
fn put(model: &mut Model, shapes: &Shapes, at: (NodeId, usize), shape: &[usize], values: &[f64]) -> Option<()> {
    let (node, input) = at;
    let value = model.node(node).input(input)?;
    if let Some(quantised) = Quantised::alone(model, shapes, value, shape) {
        return quantised.store(model, values);
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
    /// The node that makes numbers of it.
    node: NodeId,
    stored: ValueId,
    dtype: DataType,
    /// The type of the scale, and its shape.
    real: DataType,
    scale_shape: Vec<usize>,
    shape: Vec<usize>,
    scale: Vec<f64>,
    zero: Vec<f64>,
    /// Elements that follow one another under one scale.
    run: usize,
    is_grown: bool,
}

impl Quantised {
    /// `None` where the value is stored in another way, or others read it as well.
    fn alone(model: &Model, shapes: &Shapes, value: ValueId, shape: &[usize]) -> Option<Self> {
        let Def::Node(maker, 0) = model.value(value).def() else { return None };
        let node = model.node(maker);
        if node.op_type() != "DequantizeLinear" || !node.is_standard() || node.int("block_size").unwrap_or(0) != 0 {
            return None;
        }
        let (stored, scales) = (node.input(0)?, node.input(1)?);
        let uses = model.uses();
        let own = uses.readers(value).len() == 1 && uses.readers(stored).len() == 1 && !uses.is_output(value);
        if !own || model.constant(stored).is_none() || model.is_overridable(stored) {
            return None;
        }
        let dtype = shapes.fact(stored)?.dtype?;
        let stands = evaluate_constant(model, shapes, scales)?;
        let scale = stands.to_f64()?;
        let zero = match node.input(2) {
            Some(z) => evaluate_constant(model, shapes, z)?.to_f64()?,
            None => vec![0.0; scale.len()],
        };
        let axis = node.int("axis").unwrap_or(1);
        let axis = usize::try_from(if axis < 0 { axis + shape.len() as i64 } else { axis }).ok()?;
        let run = if scale.len() == 1 { shape.iter().product() } else { shape.get(axis + 1..)?.iter().product() };
        let one_each = scale.len() == zero.len() && (scale.len() == 1 || shape.get(axis) == Some(&scale.len()));
        let (real, scale_shape, shape) = (stands.dtype(), stands.shape().to_vec(), shape.to_vec());
        one_each.then_some(Self {
            node: maker,
            stored,
            dtype,
            real,
            scale_shape,
            shape,
            scale,
            zero,
            run,
            is_grown: false,
        })
    }

    /// Which scale an element goes by.
    fn of(&self, element: usize) -> usize {
        element / self.run.max(1) % self.scale.len()
    }

    /// By how much each scale has to grow so that these numbers are within its range, and no larger than that asks for.
    fn growth(&self, values: &[f64]) -> Vec<f64> {
        let Some((low, high)) = range(self.dtype) else { return vec![1.0; self.scale.len()] };
        let mut growth = vec![0.0f64; self.scale.len()];
        for (i, v) in values.iter().enumerate() {
            let s = self.of(i);
            // As many steps up as down where zero is in the middle.
            let (up, down) = (high - self.zero[s], self.zero[s] - low);
            let room = if (up - down).abs() <= 1.0 { up.min(down) } else { if *v > 0.0 { up } else { down } };
            growth[s] = growth[s].max(v.abs() / (room.max(1.0) * self.scale[s]));
        }
        growth.into_iter().map(|g| if g > 0.0 && g.is_finite() { g } else { 1.0 }).collect()
    }

    fn grown(mut self, growth: &[f64]) -> Self {
        self.scale.iter_mut().zip(growth).for_each(|(s, g)| *s *= g);
        self.is_grown = true;
        self
    }

    /// Stores numbers, rounded, and the scale where it has grown.
    fn store(&self, model: &mut Model, values: &[f64]) -> Option<()> {
        let (low, high) = range(self.dtype)?;
        let round = |(i, v): (usize, &f64)| {
            let s = self.of(i);
            (v / self.scale[s] + self.zero[s]).round_ties_even().clamp(low, high)
        };
        let rounded: Vec<f64> = values.iter().enumerate().map(round).collect();
        let stored = Tensor::from_f64(self.dtype, &self.shape, &rounded)?;
        if self.is_grown {
            let scale = Tensor::from_f64(self.real, &self.scale_shape, &self.scale).filter(Tensor::is_finite)?;
            let was = model.node(self.node).input(1)?;
            let uses = model.uses();
            let own = uses.readers(was).len() == 1 && !uses.is_output(was) && !model.is_overridable(was);
            if own && model.constant(was).is_some() {
                model.set_constant(was, &scale);
            } else {
                let hint = format!("{}_repaired", model.value(was).name());
                let new = model.add_initializer(model.node(self.node).graph(), &hint, &scale);
                model.set_input(self.node, 1, Some(new));
            }
        }
        model.set_constant(self.stored, &stored);
        Some(())
    }
}
