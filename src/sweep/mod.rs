//! What a model is worth at each size: the curve, and the smallest model that is worth enough.
//!
//! Guarantees: every point is what the command `prune` would write for it, repaired on the data that the context holds
//! and scored on the rows given; the same numbers on every run. A point that cannot be reached is there, with the closest
//! that can.
//! Refuses: models that cannot be run in this process, and data that does not fit them ([`SweepError`]).
//! How: [`Bench`] prunes to a budget, repairs and scores; [`sweep`] does so for a list of budgets or ratios,
//! [`smallest`] bisects between them. [`Rows::halves`] sets apart rows to repair by and rows to score on.

mod bench;
mod rows;
mod score;
mod search;

pub use bench::{Bench, Measured};
pub use rows::{Labels, Rows};
pub use score::Score;
pub use search::{Found, Step, smallest};

use crate::budget::Measure;
use crate::passes::PassError;
use crate::passes::prune::{PruneOptions, Target};
use crate::run::eval::EvalError;
use crate::run::{CannotRun, Misfit};

/// Why there is no curve.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    #[error("{0}")]
    Data(String),
    #[error(transparent)]
    Eval(#[from] EvalError),
    #[error(transparent)]
    Misfit(#[from] Misfit),
    #[error("the model cannot be run: {0}")]
    CannotRun(#[from] CannotRun),
    #[error(transparent)]
    Pass(#[from] PassError),
}

/// What one point asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ask {
    /// The share of each layer's filters that goes, in `[0, 1)`.
    Ratio(f64),
    /// How much of the whole model is left.
    Budget(Target),
}

impl Ask {
    /// The points that are measured where nothing else is said: from 10 % less to 80 % less multiply-accumulates.
    pub fn usual() -> Vec<Self> {
        (2..=9)
            .rev()
            .map(|tenths| Self::Budget(Target { measure: Measure::Macs, share: f64::from(tenths) / 10.0 }))
            .collect()
    }

    fn options(self, options: &PruneOptions) -> PruneOptions {
        match self {
            Self::Ratio(ratio) => PruneOptions { ratio, target: None, ..options.clone() },
            Self::Budget(target) => PruneOptions { target: Some(target), ..options.clone() },
        }
    }
}

impl std::fmt::Display for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ratio(ratio) => write!(f, "ratio={ratio}"),
            Self::Budget(target) => target.fmt(f),
        }
    }
}

/// One point of a curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub asked: Ask,
    /// The closest that can be reached, where that is not what was asked for.
    pub closest: Option<Ask>,
    /// `None` where not even the closest came out.
    pub measured: Option<Measured>,
}

/// Measures a point for each of `asks`, in their order; `observe` is told before each.
///
/// # Errors
/// Whatever [`Bench::measure`] fails with, but for budgets that cannot be reached.
pub fn sweep(
    bench: &Bench,
    options: &PruneOptions,
    asks: &[Ask],
    observe: &mut dyn FnMut(Ask),
) -> Result<Vec<Point>, SweepError> {
    let mut points: Vec<Point> = Vec::with_capacity(asks.len());
    for &asked in asks {
        observe(asked);
        let point = match (reached(bench.measure(&asked.options(options)))?, asked) {
            (Ok(measured), _) => Point { asked, closest: None, measured: Some(measured) },
            (Err(share), Ask::Budget(target)) => {
                let closest = Ask::Budget(Target { share, ..target });
                let known = points.iter().find(|p| p.closest == Some(closest)).map(|p| p.measured.clone());
                let measured = match known {
                    Some(measured) => measured,
                    None => reached(bench.measure(&closest.options(options)))?.ok(),
                };
                Point { asked, closest: Some(closest), measured }
            }
            (Err(_), Ask::Ratio(_)) => Point { asked, closest: None, measured: None },
        };
        points.push(point);
    }
    Ok(points)
}

/// What was measured, or the closest share that can be reached, rounded up to a tenth of a percent.
fn reached(measured: Result<Measured, SweepError>) -> Result<Result<Measured, f64>, SweepError> {
    match measured {
        Ok(measured) => Ok(Ok(measured)),
        Err(SweepError::Pass(PassError { closest: Some(share), .. })) => Ok(Err(((share * 1e3).ceil() / 1e3).min(1.0))),
        Err(e) => Err(e),
    }
}
