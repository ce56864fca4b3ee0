//! Data as batches of a model's inputs.
//!
//! Guarantees: every batch has the same shapes, which the model accepts; rows are taken evenly over the whole data, and
//! so are those of each batch, so that a few batches of a file that is sorted by class see all classes.
//! Refuses: arrays that fit no input, inputs without an array, arrays of different lengths.

use crate::analysis::{Sizes, fed_inputs};
use crate::ir::Model;
use crate::onnx::proto::{TypeProto, tensor_shape_proto::dimension::Value, type_proto};
use crate::onnx::tensor::{DataType, Tensor};
use std::collections::BTreeMap;

/// Rows at a time, where the model leaves that open.
const BATCH: usize = 32;

/// Inputs of a model, batch by batch.
#[derive(Debug, Clone)]
pub struct Batches {
    /// A tensor for every input, in the order of [`fed_inputs`].
    pub batches: Vec<Vec<Tensor>>,
    /// Rows in all.
    pub samples: usize,
    /// What they are, for people.
    pub origin: String,
}

/// Why data does not fit a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    #[error("{origin}: there is no array for input '{input}' of the model, which reads {expected}; there {found}")]
    Missing { origin: String, input: String, expected: String, found: String },
    #[error("{origin}: array '{array}' is {found}, but input '{input}' of the model reads {expected}")]
    Shape { origin: String, array: String, found: String, input: String, expected: String },
    #[error("{1}: {0}")]
    Rows(String, String),
}

/// A tensor input as declared: its extents where they are numbers.
struct Declared {
    dtype: DataType,
    dims: Vec<Option<usize>>,
}

fn declared(ty: Option<&TypeProto>) -> Option<Declared> {
    let Some(type_proto::Value::TensorType(t)) = &ty?.value else { return None };
    let extent = |value: &Option<Value>| match value {
        Some(Value::DimValue(v)) => usize::try_from(*v).ok(),
        _ => None,
    };
    let dims = t.shape.as_ref()?.dim.iter().map(|d| extent(&d.value)).collect();
    Some(Declared { dtype: DataType::try_from(t.elem_type()).ok()?, dims })
}

impl Declared {
    fn describe(&self) -> String {
        let extent = |d: &Option<usize>| d.map_or_else(|| "any".to_owned(), |d| d.to_string());
        format!("{:?} of [{}]", self.dtype, self.dims.iter().map(extent).collect::<Vec<_>>().join(", "))
    }

    /// Whether a tensor is rows of this input, the number of rows apart.
    fn rows_fit(&self, t: &Tensor) -> bool {
        let fits = |(want, &have): (&Option<usize>, &usize)| want.is_none_or(|want| want == have);
        self.dims.len() == t.shape().len() && !self.dims.is_empty() && self.dims.iter().zip(t.shape()).skip(1).all(fits)
    }

    /// Whether a tensor is this input as it is, for every batch.
    fn is_whole(&self, t: &Tensor) -> bool {
        let fixed: Option<Vec<usize>> = self.dims.iter().copied().collect();
        fixed.is_some_and(|dims| dims == t.shape())
    }
}

impl Batches {
    /// At most `most` rows of named arrays: each input takes the array of its name; a model with one input takes `x`,
    /// or the only array that fits.
    pub fn of(model: &Model, arrays: &[(String, Tensor)], most: usize, origin: &str) -> Result<Self, Misfit> {
        let origin = origin.to_owned();
        let mut inputs: Vec<(Declared, &Tensor, bool)> = Vec::new();
        let fed = fed_inputs(model);
        for &(v, ty) in &fed {
            let name = model.value(v).name();
            let input = declared(ty).ok_or_else(|| {
                Misfit::Rows(format!("input '{name}' of the model is not a tensor of known rank"), origin.clone())
            })?;
            let alone = || {
                let fitting: Vec<_> = arrays.iter().filter(|(_, t)| input.rows_fit(t)).collect();
                let x = arrays.iter().find(|(n, _)| n == "x");
                x.or(if let [one] = fitting[..] { Some(one) } else { None }).filter(|_| fed.len() == 1)
            };
            let found = arrays.iter().find(|(n, _)| n == name).or_else(alone);
            let Some((array, tensor)) = found else {
                let names: Vec<&str> = arrays.iter().map(|(n, _)| &n[..]).collect();
                let found = if names.is_empty() { "are none".into() } else { format!("are: {}", names.join(", ")) };
                return Err(Misfit::Missing { origin, input: name.into(), expected: input.describe(), found });
            };
            let whole = fed.len() > 1 && input.is_whole(tensor);
            if !whole && !input.rows_fit(tensor) {
                let found = format!("{:?} of {:?}", tensor.dtype(), tensor.shape());
                let expected = input.describe();
                return Err(Misfit::Shape { origin, array: array.clone(), found, input: name.into(), expected });
            }
            inputs.push((input, tensor, whole));
        }
        let lengths: Vec<usize> = inputs.iter().filter(|i| !i.2).map(|i| i.1.shape()[0]).collect();
        let Some(&rows) = lengths.first() else {
            return Err(Misfit::Rows("no array holds rows for the model".into(), origin));
        };
        if lengths.iter().any(|&l| l != rows) {
            return Err(Misfit::Rows(format!("the arrays have different numbers of rows: {lengths:?}"), origin));
        }
        let fixed = inputs.iter().filter(|i| !i.2).find_map(|i| i.0.dims[0]);
        let asked = rows.min(most);
        let batch = fixed.unwrap_or_else(|| even(asked)).max(1);
        let count = asked / batch;
        if count == 0 {
            return Err(Misfit::Rows(format!("{rows} rows are fewer than a batch of the model, {batch}"), origin));
        }
        let samples = count * batch;
        // Row `i` of batch `b` is taken from place `i * count + b`.
        let taken: Vec<usize> = (0..samples).map(|k| (k % batch * count + k / batch) * rows / samples).collect();
        let one = |rows: &[usize], (input, tensor, whole): &(Declared, &Tensor, bool)| {
            let part = if *whole { (*tensor).clone() } else { tensor.take(0, rows)? };
            match part.dtype() == input.dtype {
                true => Some(part),
                false => Tensor::from_f64(input.dtype, part.shape(), &part.to_f64()?),
            }
        };
        let batches = taken.chunks(batch).map(|rows| inputs.iter().map(|i| one(rows, i)).collect::<Option<Vec<_>>>());
        let batches: Option<Vec<_>> = batches.collect();
        let batches = batches
            .ok_or_else(|| Misfit::Rows("an array holds no numbers of the model's type".into(), origin.clone()))?;
        Ok(Self { batches, samples, origin })
    }

    /// Made-up inputs: normally distributed numbers, under the sizes given and 64 for what is left open.
    pub fn noise(model: &Model, sizes: &BTreeMap<String, usize>, most: usize, seed: u64) -> Result<Self, Misfit> {
        let origin = "noise".to_owned();
        let batch = most.min(BATCH);
        let sizes = Sizes { fixed: sizes.clone(), batch, other: 64 };
        let shapes = crate::verify::input_shapes(model, &sizes)
            .ok_or_else(|| Misfit::Rows("the shapes of the model's inputs are not known".into(), origin.clone()))?;
        let rows = shapes.first().and_then(|(_, _, s)| s.first()).copied().unwrap_or(1).max(1);
        let count = (most / rows).max(1);
        let batches = (0..count).map(|b| super::random_inputs(&shapes, seed.wrapping_add(b as u64))).collect();
        Ok(Self { batches, samples: count * rows, origin })
    }

    /// The sizes of the model's symbolic dimensions in these batches.
    pub fn sizes(&self, model: &Model) -> Sizes {
        batch_sizes(model, &self.batches)
    }

    /// The same batches, as far as they hold no more than `most` rows; at least one batch.
    pub fn first(&self, most: usize) -> Self {
        let size = self.samples / self.batches.len().max(1);
        let count = (most / size.max(1)).clamp(1, self.batches.len());
        Self { batches: self.batches[..count].to_vec(), samples: count * size, origin: self.origin.clone() }
    }
}

/// The sizes of the model's symbolic dimensions in batches of tensors for its inputs.
pub fn batch_sizes(model: &Model, batches: &[Vec<Tensor>]) -> Sizes {
    let mut fixed = BTreeMap::new();
    let first = batches.first().map_or(&[][..], |b| b);
    for ((v, ty), tensor) in fed_inputs(model).into_iter().zip(first) {
        let Some(type_proto::Value::TensorType(t)) = ty.and_then(|t| t.value.as_ref()) else { continue };
        let Some(shape) = &t.shape else { continue };
        for (axis, (dim, &extent)) in shape.dim.iter().zip(tensor.shape()).enumerate() {
            let symbol = match &dim.value {
                Some(Value::DimParam(name)) if !name.is_empty() => name.clone(),
                _ => format!("{}.{axis}", model.value(v).name()),
            };
            fixed.insert(symbol, extent);
        }
    }
    Sizes { fixed, batch: 1, other: 1 }
}

/// A batch of 16 to 32 rows that leaves the fewest over.
fn even(rows: usize) -> usize {
    if rows <= BATCH {
        return rows;
    }
    (BATCH / 2..=BATCH).max_by_key(|b| rows / b * b).unwrap_or(BATCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_batch_is_spread_over_the_rows() {
        let text = "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N, 1] x) => (float[N, 1] y) { y = Relu (x) }";
        let model = Model::import(crate::onnx::text::parse(text).unwrap()).unwrap();
        let rows = Tensor::from_f64(DataType::Float, &[128, 1], &(0..128).map(f64::from).collect::<Vec<_>>()).unwrap();
        let batches = Batches::of(&model, &[("x".to_owned(), rows)], 64, "rows").unwrap();
        let taken: Vec<Vec<f64>> = batches.batches.iter().map(|b| b[0].to_f64().unwrap()).collect();
        let every = |first: u32| (0..32).map(|i| f64::from(first + i * 4)).collect::<Vec<f64>>();
        assert_eq!(taken, [every(0), every(2)]);
    }
}
