//! `--calibrate`: the inputs that a model is run on.

use super::failure::Failure;
use super::source::Loaded;
use crate::analysis::infer_all;
use crate::data;
use crate::onnx::tensor::Tensor;
use crate::run::{Batches, Limits};
use std::path::{Path, PathBuf};

/// Where inputs come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Calibrate {
    /// There are none: passes that need some make them up to suit the model.
    None,
    /// Normally distributed numbers.
    Noise,
    /// A NumPy file, or a folder of them.
    Path(PathBuf),
}

impl std::str::FromStr for Calibrate {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "none" => Self::None,
            "noise" => Self::Noise,
            path => Self::Path(path.into()),
        })
    }
}

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Calibration and repair")]
pub struct Calibrating {
    /// Inputs to choose and to repair by, without labels: a NumPy file or a folder of them; normally distributed noise; or
    /// none, and scenes are made up at the level that the first layer expects. By default none, but every other row of
    /// --data where there is that
    #[arg(long, value_name = "FILE.npz|DIR|noise|none")]
    pub calibrate: Option<Calibrate>,
    /// Inputs that are used of these, evenly taken [default: 1000, fewer where the model is large]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub samples: Option<u32>,
}

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Calibration and repair")]
pub struct Repairing {
    /// Leave the weights as the cut leaves them: slices of the original's
    #[arg(long)]
    pub no_repair: bool,
}

/// Inputs that are used where nothing is said.
const SAMPLES: usize = 1000;

impl Calibrating {
    /// How many inputs are used at most.
    pub fn most(&self, loaded: &Loaded) -> usize {
        let of_model = || {
            let worlds = infer_all(&loaded.model, &loaded.sizes);
            worlds.first().map_or(SAMPLES, |world| Limits::GIVEN.rows(&loaded.model, world, SAMPLES))
        };
        self.samples.map_or_else(of_model, |samples| samples as usize)
    }

    /// The inputs, as the model reads them; `None` where there are none.
    pub fn batches(&self, loaded: &Loaded) -> Result<Option<Batches>, Failure> {
        let most = self.most(loaded);
        let batches = match self.calibrate.as_ref().unwrap_or(&Calibrate::None) {
            Calibrate::None => return Ok(None),
            Calibrate::Noise => Batches::noise(&loaded.model, &loaded.sizes, most, 0),
            Calibrate::Path(path) => Batches::of(&loaded.model, &read(path)?, most, &path.display().to_string()),
        };
        batches.map(Some).map_err(|e| Failure::failed(e.to_string()).of(&loaded.name))
    }
}

/// The arrays of a file, or those of all NumPy files of a folder, by name, end to end in the order of the file names.
pub fn read(path: &Path) -> Result<Vec<(String, Tensor)>, Failure> {
    let failed = |text: String| Failure::failed(text);
    if !path.is_dir() {
        return data::read(path).map_err(|e| failed(e.to_string()));
    }
    let listed = |e: std::io::Error| failed(format!("{}: {e}", path.display()));
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(path).map_err(listed)? {
        let file = entry.map_err(listed)?.path();
        if file.extension().is_some_and(|e| e == "npy" || e == "npz") {
            files.push(file);
        }
    }
    files.sort();
    let mut parts: Vec<(String, Vec<Tensor>)> = Vec::new();
    for file in &files {
        let single = file.extension().is_some_and(|e| e == "npy");
        for (name, tensor) in data::read(file).map_err(|e| failed(e.to_string()))? {
            // The array of a .npy file is named for the file, of which each holds a part.
            let name = if single { "x".to_owned() } else { name };
            match parts.iter_mut().find(|(n, _)| *n == name) {
                Some((_, all)) => all.push(tensor),
                None => parts.push((name, vec![tensor])),
            }
        }
    }
    if parts.is_empty() {
        return Err(failed(format!("{}: there are no .npz or .npy files in this folder", path.display())));
    }
    parts
        .into_iter()
        .map(|(name, all)| {
            Ok((
                name.clone(),
                joined(&all).ok_or_else(|| {
                    failed(format!("{}: the arrays '{name}' of its files differ in shape or type", path.display()))
                })?,
            ))
        })
        .collect()
}

/// Tensors end to end along their first axis.
fn joined(all: &[Tensor]) -> Option<Tensor> {
    let first = all.first()?;
    let rest = first.shape().get(1..)?;
    let same = all.iter().all(|t| t.dtype() == first.dtype() && t.shape().get(1..) == Some(rest));
    let rows: usize = all.iter().filter_map(|t| t.shape().first()).sum();
    let bytes: Vec<u8> = all.iter().flat_map(|t| t.data().iter().copied()).collect();
    let shape = std::iter::once(rows).chain(rest.iter().copied()).collect();
    same.then(|| Tensor::new(first.dtype(), shape, bytes.into())).flatten()
}
