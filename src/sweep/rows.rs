//! Rows of data, and which of them are scored.

use super::SweepError;
use crate::analysis::fed_inputs;
use crate::ir::Model;
use crate::onnx::tensor::Tensor;

/// The array that holds labels where nothing else is said.
const LABELS: &str = "y";

/// Inputs of a model by array, one row an item, and the labels of the rows where there are some.
#[derive(Debug, Clone)]
pub struct Rows {
    /// By name, labels apart.
    pub arrays: Vec<(String, Tensor)>,
    pub labels: Option<Labels>,
    /// What they are, for people.
    pub origin: String,
}

/// A class for each row.
#[derive(Debug, Clone)]
pub struct Labels {
    /// The array that they come from.
    pub array: String,
    pub classes: Vec<i64>,
}

impl Rows {
    /// Sets the labels apart from the arrays of a file. `labels` names their array; where it is `None`, the array `y` is
    /// taken if it holds a whole number for each row, and the model has one input, of another name.
    ///
    /// # Errors
    /// There is no array named `labels`, or it holds no vector of whole numbers.
    pub fn new(
        model: &Model,
        mut arrays: Vec<(String, Tensor)>,
        labels: Option<&str>,
        origin: &str,
    ) -> Result<Self, SweepError> {
        let inputs = fed_inputs(model);
        let one_input = matches!(inputs[..], [(v, _)] if model.value(v).name() != LABELS);
        let place = arrays.iter().position(|(name, _)| name == labels.unwrap_or(LABELS));
        let vector = |t: &Tensor| t.to_i64().filter(|_| t.shape().len() == 1);
        let found = match (labels, place) {
            (Some(name), None) => {
                let names: Vec<&str> = arrays.iter().map(|(n, _)| &n[..]).collect();
                return Err(SweepError::Data(format!(
                    "{origin}: there is no array '{name}' of labels; there are: {}",
                    names.join(", ")
                )));
            }
            (Some(name), Some(at)) => {
                let array = &arrays[at].1;
                let classes = vector(array).ok_or_else(|| {
                    let found = format!("{:?} of {:?}", array.dtype(), array.shape());
                    SweepError::Data(format!("{origin}: array '{name}' is {found}, not a whole number for each row"))
                })?;
                Some((at, classes))
            }
            (None, at) => at.filter(|_| one_input).and_then(|at| Some((at, vector(&arrays[at].1)?))),
        };
        let labels = found.map(|(at, classes)| Labels { array: arrays.remove(at).0, classes });
        Ok(Self { arrays, labels, origin: origin.to_owned() })
    }

    /// How many there are: as many as labels, or as the longest array holds.
    pub fn count(&self) -> usize {
        let longest = self.arrays.iter().filter_map(|(_, t)| t.shape().first().copied()).max().unwrap_or(0);
        self.labels.as_ref().map_or(longest, |l| l.classes.len())
    }

    /// The rows with even numbers, from 0, and those with odd ones, so that no row is in both and both see all of a file
    /// that is sorted. Arrays that do not hold a row for each are left whole.
    pub fn halves(&self) -> [Self; 2] {
        let count = self.count();
        [("even rows", 0), ("odd rows", 1)].map(|(name, first)| {
            let taken: Vec<usize> = (first..count).step_by(2).collect();
            let part = |t: &Tensor| match t.shape().first() {
                Some(&n) if n == count => t.take(0, &taken).unwrap_or_else(|| t.clone()),
                _ => t.clone(),
            };
            let classes = |l: &Labels| taken.iter().map(|&i| l.classes[i]).collect();
            Self {
                arrays: self.arrays.iter().map(|(n, t)| (n.clone(), part(t))).collect(),
                labels: self.labels.as_ref().map(|l| Labels { array: l.array.clone(), classes: classes(l) }),
                origin: format!("{}, {name}", self.origin),
            }
        })
    }

    /// The array for the only input of a model: that of its name, else `x`, else the only one there is.
    pub(super) fn only(&self, model: &Model) -> Result<&(String, Tensor), SweepError> {
        let inputs = fed_inputs(model);
        let named = |name: &str| self.arrays.iter().find(|(n, _)| n == name);
        let own = if let [(v, _)] = inputs[..] { named(model.value(v).name()) } else { None };
        let alone = if let [one] = &self.arrays[..] { Some(one) } else { None };
        own.or_else(|| named("x")).or(alone).ok_or_else(|| {
            let names: Vec<&str> = self.arrays.iter().map(|(n, _)| &n[..]).collect();
            let found =
                if names.is_empty() { "there is none".into() } else { format!("there are: {}", names.join(", ")) };
            SweepError::Data(format!(
                "{}: which array holds the rows? One named 'x', or for the model's input, is expected; {found}",
                self.origin
            ))
        })
    }
}
