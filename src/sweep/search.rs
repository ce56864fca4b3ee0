//! The smallest model that loses no more than is allowed.
//!
//! How: bisection over budgets of multiply-accumulates, in whole percent. It takes accuracy to fall as a model gets
//! smaller, which holds but for the noise of the rows: a smaller model that happens to do may lie beyond one that does
//! not, and is then not found. What is found was measured.

use super::{Bench, Measured, Score, SweepError, reached};
use crate::budget::Measure;
use crate::passes::PassError;
use crate::passes::prune::{PruneOptions, Target};
use crate::run::eval::Accuracy;

/// What was tried on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub target: Target,
    /// `None` where the budget cannot be reached.
    pub measured: Option<Measured>,
    /// Points of accuracy that were lost; below 0 where some were gained.
    pub lost: Option<f64>,
}

/// A budget that keeps the accuracy.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub target: Target,
    /// Of the original and of the smaller model, on the same rows.
    pub accuracy: [Accuracy; 2],
    /// In the order in which they were tried.
    pub steps: Vec<Step>,
}

/// The budget of the fewest multiply-accumulates, in whole percent of the original's, with which top-1 falls by at most
/// `drop` points (hundredths) on the rows of the bench. `observe` is told before each step, of which there are at most
/// seven.
///
/// # Errors
/// [`SweepError::Pass`] with the closest, the points that the smallest cut loses, where that is more than `drop`;
/// [`SweepError::Data`] where the rows have no labels.
pub fn smallest(
    bench: &Bench,
    options: &PruneOptions,
    drop: f64,
    observe: &mut dyn FnMut(Target),
) -> Result<Found, SweepError> {
    let Score::Top1(before) = bench.original.score else {
        return Err(SweepError::Data("accuracy-drop needs labels for the rows that it is measured on".to_owned()));
    };
    // What is known to do, and not to do, in percent of what goes.
    let (mut does, mut does_not) = (0, 100);
    let (mut steps, mut best): (Vec<Step>, Option<(Target, Accuracy)>) = (Vec::new(), None);
    while does_not - does > 1 {
        let middle = (does + does_not) / 2;
        let target = Target { measure: Measure::Macs, share: f64::from(100 - middle) / 100.0 };
        observe(target);
        let asked = PruneOptions { target: Some(target), ..options.clone() };
        let measured = reached(bench.measure(&asked))?.ok();
        let after = measured.as_ref().and_then(|m| match m.score {
            Score::Top1(after) => Some(after),
            Score::Drift(_) => None,
        });
        let points = |a: Accuracy| (before.correct as f64 - a.correct as f64) * 100.0 / before.total.max(1) as f64;
        let lost = after.map(points);
        // A hair of rounding is no loss.
        match after.filter(|_| lost.is_some_and(|lost| lost <= drop + 1e-9)) {
            Some(after) => (does, best) = (middle, Some((target, after))),
            None => does_not = middle,
        }
        steps.push(Step { target, measured, lost });
    }
    match best {
        Some((target, after)) => Ok(Found { target, accuracy: [before, after], steps }),
        None => Err(unreachable(drop, &steps).into()),
    }
}

/// What is told where the smallest cut loses too much.
fn unreachable(drop: f64, steps: &[Step]) -> PassError {
    let closest = steps.iter().filter_map(|s| Some((s.lost?, s))).min_by(|a, b| a.0.total_cmp(&b.0));
    let told = match closest {
        Some((lost, step)) => format!("the closest that was tried, {}, loses {lost:.2} points", step.target),
        None => "nothing can be cut".to_owned(),
    };
    let mut error = PassError::new("prune", format!("accuracy-drop={drop}% cannot be reached: {told}"));
    error.closest = Some(closest.map_or(0.0, |c| c.0));
    error
}
