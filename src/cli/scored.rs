//! Data that is scored, apart from data that is repaired by.
//!
//! Guarantees: no row of a file is both, unless two files hold it.

use super::calibrate::{Calibrate, Calibrating, read};
use super::failure::Failure;
use super::source::Loaded;
use crate::run::Batches;
use crate::sweep::{Rows, SweepError};
use std::path::Path;
use std::sync::Arc;

/// The name of labels that are not to be used, though there are some.
const NO_LABELS: &str = "none";

/// What is scored, and what is repaired by.
pub struct Divided {
    pub scored: Rows,
    pub calibration: Option<Arc<Batches>>,
}

/// Reads the data to score on, and that to calibrate by. Where both are the same file, or nothing is said of the latter,
/// even rows are for repair and odd ones are scored.
pub fn divide(
    loaded: &Loaded,
    data: &Path,
    labels: Option<&str>,
    calibrating: &Calibrating,
) -> Result<Divided, Failure> {
    let failed = |e: SweepError| Failure::from(e).of(&loaded.name);
    let named = labels.filter(|&name| name != NO_LABELS);
    let mut rows = Rows::new(&loaded.model, read(data)?, named, &data.display().to_string()).map_err(failed)?;
    if labels == Some(NO_LABELS) {
        rows.labels = None;
    }
    let same = match &calibrating.calibrate {
        None => true,
        Some(Calibrate::Path(path)) => is_same(path, data),
        Some(_) => false,
    };
    if !same {
        return Ok(Divided { scored: rows, calibration: calibrating.batches(loaded)?.map(Arc::new) });
    }
    let [even, scored] = rows.halves();
    let batches = Batches::of(&loaded.model, &even.arrays, calibrating.most(loaded), &even.origin);
    let batches = batches.map_err(|e| failed(e.into()))?;
    Ok(Divided { scored, calibration: Some(Arc::new(batches)) })
}

fn is_same(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

impl From<SweepError> for Failure {
    fn from(e: SweepError) -> Self {
        match e {
            SweepError::Pass(e) => e.into(),
            e => Self::failed(e.to_string()),
        }
    }
}
