//! Top-1 accuracy of a classifier on labelled data.
//!
//! Guarantees: every row is scored once, by the model as it stands; nothing is normalised or transposed.
//! Refuses: models of several inputs, data whose rows do not have the shape that the model reads, labels that are not
//! one a row or name no class, outputs that are not one row of scores a row of data.
//! How: where the model leaves the batch open, rows go through in batches and a smaller last one; where it fixes the
//! batch, the last one is filled up with repeated rows that are not counted.

use super::{CannotRun, Runner};
use crate::onnx::proto::{GraphProto, ModelProto, ValueInfoProto, tensor_shape_proto::dimension::Value, type_proto};
use crate::onnx::tensor::{DataType, Tensor};

/// What `top1` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accuracy {
    /// Rows whose highest score is that of their label.
    pub correct: usize,
    /// All rows.
    pub total: usize,
}

impl Accuracy {
    /// The share of correct rows, 0 to 1.
    pub fn ratio(&self) -> f64 {
        self.correct as f64 / self.total.max(1) as f64
    }
}

/// How to run, and how errors speak of the data.
#[derive(Debug, Clone)]
pub struct Options {
    /// Rows at a time, where the model leaves that open.
    pub batch: usize,
    /// The file that the data came from.
    pub file: String,
    /// Name of the array of rows.
    pub x: String,
    /// Name of the array of labels.
    pub y: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { batch: 64, file: "data".to_owned(), x: "x".to_owned(), y: "y".to_owned() }
    }
}

/// Why no accuracy can be given.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// The model has no input to give rows to, or several.
    #[error("the model has {found} inputs ({names}); accuracy is measured on models with one")]
    Inputs { found: usize, names: String },
    /// Rows and input differ in shape or in kind of number.
    #[error("{file}: array '{array}' is {found}, but input '{input}' of the model reads {expected}")]
    Rows { file: String, array: String, found: String, input: String, expected: String },
    /// There is not one label a row, or a label names no class.
    #[error("{file}: array '{array}' {problem}")]
    Labels { file: String, array: String, problem: String },
    /// The first output is not a row of scores for each row of data.
    #[error(
        "output '{output}' of the model has shape {found:?} for {rows} rows; a row of scores for each was expected"
    )]
    Output { output: String, found: Vec<usize>, rows: usize },
    /// The model cannot be run in this process.
    #[error("the model cannot be run: {0}")]
    CannotRun(#[from] CannotRun),
}

/// Counts the rows of `x` (first axis) for which the highest score in the model's first output is at `y`.
pub fn top1(model: &ModelProto, x: &Tensor, y: &[i64], options: &Options) -> Result<Accuracy, EvalError> {
    let graph = model.graph.as_ref().ok_or_else(|| CannotRun::new(None, "the model has no graph"))?;
    let input = only_input(graph)?;
    let (dtype, dims) = declared(input).ok_or_else(|| {
        let reason = format!("input '{}' is not a tensor of a known type", input.name());
        CannotRun::new(None, reason)
    })?;
    let misfit = || EvalError::Rows {
        file: options.file.clone(),
        array: options.x.clone(),
        found: format!("{:?} of {:?}", x.dtype(), x.shape()),
        input: input.name().to_owned(),
        expected: describe(dtype, dims.as_deref()),
    };
    let labels = |problem: String| EvalError::Labels { file: options.file.clone(), array: options.y.clone(), problem };

    let (&rows, row) = x.shape().split_first().ok_or_else(misfit)?;
    if let Some(dims) = &dims {
        let fits = |(want, &have): (&Option<usize>, &usize)| want.is_none_or(|want| want == have);
        if dims.len() != x.shape().len() || !dims.iter().zip(x.shape()).skip(1).all(fits) {
            return Err(misfit());
        }
    }
    if rows != y.len() {
        return Err(labels(format!("has {} labels for the {rows} rows of '{}'", y.len(), options.x)));
    }
    let fixed = dims.as_ref().and_then(|dims| dims[0]);
    let batch = fixed.unwrap_or(options.batch).max(1);
    let values = x.to_f64();

    let mut correct = 0;
    let mut runner: Option<(usize, Runner)> = None;
    for first in (0..rows).step_by(batch) {
        let count = batch.min(rows - first);
        let size = if fixed.is_some() { batch } else { count };
        let shape: Vec<usize> = std::iter::once(size).chain(row.iter().copied()).collect();
        if runner.as_ref().is_none_or(|(loaded, _)| *loaded != size) {
            let shapes = [(input.name().to_owned(), dtype, shape.clone())];
            // Rewriting pays from three batches on.
            let many = (rows - first) / size > 2;
            let loaded = if many { Runner::load_optimized(model, &shapes) } else { Runner::load(model, &shapes) };
            runner = Some((size, loaded?));
        }
        let taken: Vec<usize> = (first..first + size).map(|i| i.min(rows - 1)).collect();
        let rows_in = cast(x, values.as_deref(), &taken, dtype, &shape).ok_or_else(misfit)?;
        let (_, runner) = runner.as_ref().expect("just loaded");
        let scores = runner.run(&[rows_in])?.into_iter().next();
        let bad_output = |found: &[usize]| EvalError::Output {
            output: graph.output.first().map_or_else(String::new, |o| o.name().to_owned()),
            found: found.to_vec(),
            rows: size,
        };
        let scores = scores.ok_or_else(|| bad_output(&[]))?;
        let classes = scores.elements() / size;
        let whole = scores.shape().first() == Some(&size) || size == 1;
        let numbers = scores.to_f64().filter(|_| whole && classes > 0);
        let numbers = numbers.ok_or_else(|| bad_output(scores.shape()))?;
        for (scores, &label) in numbers.chunks_exact(classes).zip(&y[first..first + count]) {
            if !usize::try_from(label).is_ok_and(|label| label < classes) {
                return Err(labels(format!("holds label {label}, but the model knows classes 0 to {}", classes - 1)));
            }
            correct += usize::from(highest(scores) == Some(label as usize));
        }
    }
    Ok(Accuracy { correct, total: rows })
}

/// The first of the highest scores; `None` if none is a number.
fn highest(scores: &[f64]) -> Option<usize> {
    let best = scores.iter().copied().filter(|s| !s.is_nan()).max_by(f64::total_cmp)?;
    scores.iter().position(|&s| s == best)
}

fn only_input(graph: &GraphProto) -> Result<&ValueInfoProto, EvalError> {
    let free: Vec<&ValueInfoProto> =
        graph.input.iter().filter(|i| !graph.initializer.iter().any(|t| t.name() == i.name())).collect();
    match free[..] {
        [input] => Ok(input),
        _ => {
            let names: Vec<&str> = free.iter().map(|i| i.name()).collect();
            Err(EvalError::Inputs { found: free.len(), names: names.join(", ") })
        }
    }
}

/// Element type and the extents that are numbers.
fn declared(input: &ValueInfoProto) -> Option<(DataType, Option<Vec<Option<usize>>>)> {
    let Some(type_proto::Value::TensorType(tensor)) = &input.r#type.as_ref()?.value else { return None };
    let dims = tensor.shape.as_ref().map(|shape| {
        let extent = |value: &Option<Value>| match value {
            Some(Value::DimValue(v)) => usize::try_from(*v).ok(),
            _ => None,
        };
        shape.dim.iter().map(|d| extent(&d.value)).collect()
    });
    Some((DataType::try_from(tensor.elem_type()).ok()?, dims))
}

fn describe(dtype: DataType, dims: Option<&[Option<usize>]>) -> String {
    let extent = |d: &Option<usize>| d.map_or_else(|| "any".to_owned(), |d| d.to_string());
    match dims {
        Some(dims) => format!("{dtype:?} of [{}]", dims.iter().map(extent).collect::<Vec<_>>().join(", ")),
        None => format!("{dtype:?}"),
    }
}

/// The rows `taken`, as elements of `dtype`. `None` where the types do not convert.
fn cast(x: &Tensor, values: Option<&[f64]>, taken: &[usize], dtype: DataType, shape: &[usize]) -> Option<Tensor> {
    if x.dtype() == dtype {
        return x.take(0, taken);
    }
    let width: usize = shape[1..].iter().product();
    let picked: Vec<f64> =
        taken.iter().flat_map(|&i| &values.unwrap_or(&[])[i * width..(i + 1) * width]).copied().collect();
    values.and_then(|_| Tensor::from_f64(dtype, shape, &picked))
}

#[cfg(test)]
#[path = "eval_tests.rs"]
mod tests;
