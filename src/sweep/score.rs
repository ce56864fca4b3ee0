//! What a model is worth on rows of data.

use super::{Rows, SweepError};
use crate::analysis::fed_inputs;
use crate::ir::Model;
use crate::onnx::tensor::{DataType, Tensor};
use crate::repair::relative;
use crate::run::eval::{self, Accuracy};
use crate::run::{Batches, Runner};
use rayon::prelude::*;

/// How good a model is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Score {
    /// Rows whose highest output is that of their label.
    Top1(Accuracy),
    /// Root of the squared difference of the outputs from the original's, relative to their spread: the largest of all
    /// outputs. 0 is the original, 1 what their mean would be worth.
    Drift(f64),
}

/// Scores models on the same rows.
pub(super) enum Scorer {
    Labels {
        x: Tensor,
        y: Vec<i64>,
        options: eval::Options,
    },
    /// With the original's outputs, batch by batch.
    Outputs {
        batches: Batches,
        expected: Vec<Vec<Tensor>>,
    },
}

impl Scorer {
    /// By labels where the rows have some, else by the outputs of `original`.
    pub fn new(original: &Model, rows: &Rows) -> Result<Self, SweepError> {
        if let Some(labels) = &rows.labels {
            let (name, x) = rows.only(original)?;
            let options = eval::Options {
                file: rows.origin.clone(),
                x: name.clone(),
                y: labels.array.clone(),
                ..eval::Options::default()
            };
            return Ok(Self::Labels { x: x.clone(), y: labels.classes.clone(), options });
        }
        let batches = Batches::of(original, &rows.arrays, usize::MAX, &rows.origin)?;
        let expected = outputs(original, &batches)?;
        Ok(Self::Outputs { batches, expected })
    }

    /// Rows that are scored.
    pub fn rows(&self) -> usize {
        match self {
            Self::Labels { y, .. } => y.len(),
            Self::Outputs { batches, .. } => batches.samples,
        }
    }

    pub fn score(&self, model: &Model) -> Result<Score, SweepError> {
        match self {
            Self::Labels { x, y, options } => Ok(Score::Top1(eval::top1(&model.export(), x, y, options)?)),
            Self::Outputs { batches, expected } => drift(model, expected, &outputs(model, batches)?).map(Score::Drift),
        }
    }
}

/// The outputs of every batch.
fn outputs(model: &Model, batches: &Batches) -> Result<Vec<Vec<Tensor>>, SweepError> {
    let first = batches.batches.first().map_or(&[][..], |b| b);
    let named = |((v, _), t): ((crate::ir::ValueId, _), &Tensor)| -> (String, DataType, Vec<usize>) {
        (model.value(v).name().to_owned(), t.dtype(), t.shape().to_vec())
    };
    let shapes: Vec<_> = fed_inputs(model).into_iter().zip(first).map(named).collect();
    let runner = Runner::load_optimized(&model.export(), &shapes)?;
    Ok(batches.batches.par_iter().map(|batch| runner.run(batch)).collect::<Result<_, _>>()?)
}

fn drift(model: &Model, expected: &[Vec<Tensor>], found: &[Vec<Tensor>]) -> Result<f64, SweepError> {
    let ports = model.graph(model.main()).outputs();
    let mut worst = None;
    for (i, port) in ports.iter().enumerate() {
        let name = model.value(port.value).name();
        let all = |batches: &[Vec<Tensor>]| -> Option<Vec<f64>> {
            let each = batches.iter().map(|b| b.get(i)?.to_f64());
            Some(each.collect::<Option<Vec<_>>>()?.concat())
        };
        let (Some(was), Some(is)) = (all(expected), all(found)) else { continue };
        if was.len() != is.len() || !was.iter().chain(&is).all(|x| x.is_finite()) {
            return Err(SweepError::Data(format!(
                "output '{name}' cannot be compared with the original's: it has another size, or numbers that are not \
                 finite"
            )));
        }
        // An output that is the same for all rows tells nothing, as long as it stays the same.
        let one = relative(&was, &is).or_else(|| (was == is).then_some(0.0)).ok_or_else(|| {
            SweepError::Data(format!("output '{name}' of the original is the same everywhere: there is no drift to it"))
        })?;
        worst = Some(worst.map_or(one, |w: f64| w.max(one)));
    }
    worst.ok_or_else(|| SweepError::Data("the model has no output of numbers to compare".to_owned()))
}
