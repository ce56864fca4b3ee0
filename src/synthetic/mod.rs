//! Inputs made up for a model where there is no data.
//!
//! Guarantees: the same inputs for the same model, sizes and seed. They have the statistics of what is recorded of the
//! world, not of any one task (`scene`), at the level that the model's first layer expects (`level`). Integers are 0 or
//! 1 but for bytes, which are pictures.
//! Refuses: models whose inputs have no known shapes, and those that cannot be run.

mod level;
mod scene;

use crate::analysis::{Sizes, infer, infer_all};
use crate::ir::Model;
use crate::onnx::tensor::{DataType, Tensor};
use crate::run::{Batches, CannotRun, Limits, generator, random_inputs};
use crate::verify::input_shapes;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Rows at a time, where the model leaves that open.
const BATCH: usize = 32;
/// Rows that are made, if the model is not too large to be run on so many.
pub const ROWS: usize = 512;
/// Elements of an input beyond which none is made up: drawing is slower than reading.
const MOST_ELEMENTS: usize = 1 << 25;
/// Elements of all rows together beyond which no more rows are drawn.
const MOST_DRAWN: usize = 1 << 23;
/// What bytes are a picture of: grey and the spread about it.
const BYTE: (f64, f64) = (128.0, 64.0);

/// At most [`ROWS`] rows of inputs for a model.
pub fn batches(model: &Model, sizes: &BTreeMap<String, usize>, seed: u64) -> Result<Batches, CannotRun> {
    let unknown = || CannotRun { node: None, reason: "the shapes of its inputs are not known".to_owned() };
    let worlds = infer_all(model, sizes);
    let world = worlds.first().ok_or_else(unknown)?;
    let declared = input_shapes(model, &world.sizes).ok_or_else(unknown)?;
    let each: usize = declared.iter().map(|(_, _, s)| s.iter().skip(1).product::<usize>()).sum();
    let rows = Limits::MADE_UP.rows(model, world, ROWS.min(MOST_DRAWN / each.max(1)).max(1));
    // As many rows at a time as there are, unless the model computes with a number of rows of its own.
    let wide = Sizes { batch: rows.min(BATCH), ..world.sizes.clone() };
    let fits = infer(model, wide.clone()).failures() <= world.failures();
    let shapes = input_shapes(model, if fits { &wide } else { &world.sizes }).ok_or_else(unknown)?;
    if let Some((name, _, shape)) = shapes.iter().find(|s| s.2.iter().product::<usize>() > MOST_ELEMENTS) {
        let reason = format!("its input '{name}' of shape {shape:?} is too large to be made up; give calibration data");
        return Err(CannotRun { node: None, reason });
    }
    let at_once = shapes.first().and_then(|(_, _, s)| s.first()).copied().unwrap_or(1).max(1);
    let count = (rows / at_once).max(1);
    let one = |b: usize| -> Vec<Tensor> {
        let random = random_inputs(&shapes, seed.wrapping_add(b as u64));
        shapes.iter().zip(random).map(|((name, ..), t)| drawn(&t, &format!("{name}/{b}"), seed).unwrap_or(t)).collect()
    };
    let mut made: Vec<Vec<Tensor>> = (0..count).into_par_iter().map(one).collect();
    level::level(model, &mut made)?;
    Ok(Batches { batches: made, samples: count * at_once, origin: "made-up inputs".to_owned() })
}

/// Scenes in place of a tensor of numbers, one for each row; `None` for other types.
fn drawn(tensor: &Tensor, name: &str, seed: u64) -> Option<Tensor> {
    let bytes = tensor.dtype() == DataType::Uint8;
    let shape = tensor.shape();
    if !bytes && !is_real(tensor.dtype()) {
        return None;
    }
    let (rows, each) = if shape.len() > 1 { (shape[0], &shape[1..]) } else { (1, shape) };
    let mut values: Vec<f64> = Vec::with_capacity(tensor.elements());
    for row in 0..rows {
        let scene = scene::scene(each, &mut generator(&format!("{name}/{row}"), seed));
        values.extend(scene.iter().map(|&v| f64::from(v)));
    }
    if bytes {
        values.iter_mut().for_each(|v| *v = (BYTE.0 + BYTE.1 * *v).round().clamp(0.0, 255.0));
    }
    Tensor::from_f64(tensor.dtype(), shape, &values)
}

fn is_real(dtype: DataType) -> bool {
    matches!(dtype, DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16)
}
