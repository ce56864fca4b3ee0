//! Two layers with something like a ReLU between them, fitted as one.
//!
//! The reader's regression can only weigh the channels that are left. Their filters can change as well, so that what the
//! reader makes of them comes nearer to its target: a nonlinear least-squares problem of the writer's weights, of the
//! size of one layer.
//!
//! Guarantees: the step that is returned lowers the reader's error on observations that it was not found on. The same
//! numbers for any number of threads.
//! How: Gauss-Newton. About the weights as they are the reader's output is linear in those of the writer, wherever the
//! activation between is not cut off; conjugate gradients solve that problem, preconditioned by the second moments of
//! what the writer reads and of what the reader's weights do (the two factors of K-FAC; Martens and Grosse, 2015). A
//! few iterations are all that is made: to stop early is what holds the weights to where they were.

use super::target::Ending;
use crate::importance::inverse;
use nalgebra::{DMatrix, DVector};

/// What a writer and its reader are fitted on.
pub struct Observed {
    /// What the writer reads at each place that the reader sees, a column each of its weight's columns.
    pub x: DMatrix<f32>,
    /// For each observation of the reader and each tap the place that it sees; `None` for padding.
    pub sees: Vec<Option<u32>>,
    pub taps: usize,
    /// What the reader's outputs should be.
    pub target: DMatrix<f32>,
    /// By how much more than that they may be (less, where negative) without being seen; empty where all is seen.
    pub slack: Vec<f32>,
}

/// The weights of both, outputs in columns; the reader's rows are channel by channel, the taps of each side by side.
#[derive(Clone)]
pub struct Weights {
    pub writer: DMatrix<f32>,
    pub writer_constants: DVector<f32>,
    pub reader: DMatrix<f32>,
    pub reader_constants: DVector<f32>,
}

/// Iterations of conjugate gradients for one step.
const ITERATIONS: usize = 6;
/// How often a step goes over all observations, there and back.
pub const PASSES: usize = 2 * ITERATIONS + 4;
/// Shares of the step that are tried.
const SHARES: [f32; 3] = [1.0, 0.5, 0.25];
/// What is added to the factors of the preconditioner, relative to their mean diagonals.
const DAMPING: f64 = 1e-2;

/// What the writer's output becomes.
struct Activation<'a>(&'a Ending);

impl Activation<'_> {
    fn of(&self, list: &[f64], channel: usize) -> f32 {
        list[if list.len() > 1 { channel } else { 0 }] as f32
    }

    /// The values, and the derivatives.
    fn apply(&self, z: &DMatrix<f32>) -> (DMatrix<f32>, DMatrix<f32>) {
        let (low, high) = (self.0.limits.0 as f32, self.0.limits.1 as f32);
        let (mut value, mut slope) = (z.clone(), z.clone());
        for c in 0..z.ncols() {
            let (scale, offset) = (self.of(&self.0.scale, c), self.of(&self.0.offset, c));
            for (v, s) in value.column_mut(c).iter_mut().zip(slope.column_mut(c).iter_mut()) {
                let a = scale * *v + offset;
                *v = a.clamp(low, high);
                *s = if a > low && a < high { scale } else { 0.0 };
            }
        }
        (value, slope)
    }
}

impl Observed {
    fn places(&self) -> usize {
        self.x.nrows()
    }

    /// What the reader reads, from a number for each place and channel.
    fn gathered(&self, places: &DMatrix<f32>) -> DMatrix<f32> {
        let (n, taps) = (self.target.nrows(), self.taps);
        let mut out = DMatrix::zeros(n, places.ncols() * taps);
        for c in 0..places.ncols() {
            let from = places.column(c);
            for t in 0..taps {
                let mut to = out.column_mut(c * taps + t);
                for i in 0..n {
                    if let Some(p) = self.sees[i * taps + t] {
                        to[i] = from[p as usize];
                    }
                }
            }
        }
        out
    }

    /// The adjoint of [`Observed::gathered`].
    fn scattered(&self, reads: &DMatrix<f32>) -> DMatrix<f32> {
        let (n, taps) = (self.target.nrows(), self.taps);
        let channels = reads.ncols() / taps;
        let mut out = DMatrix::zeros(self.places(), channels);
        for c in 0..channels {
            let mut to = out.column_mut(c);
            for t in 0..taps {
                let from = reads.column(c * taps + t);
                for i in 0..n {
                    if let Some(p) = self.sees[i * taps + t] {
                        to[p as usize] += from[i];
                    }
                }
            }
        }
        out
    }

    /// What the writer computes.
    fn written(&self, weights: &DMatrix<f32>, constants: &DVector<f32>) -> DMatrix<f32> {
        let mut z = &self.x * weights;
        (0..z.ncols()).for_each(|c| z.column_mut(c).add_scalar_mut(constants[c]));
        z
    }

    /// What the reader's outputs lack, 0 where that is not seen, and the mean of its squares.
    fn rest(&self, value: &DMatrix<f32>, weights: &Weights) -> (DMatrix<f32>, f64) {
        let mut rest = self.gathered(value) * &weights.reader;
        for o in 0..rest.ncols() {
            let constant = weights.reader_constants[o];
            rest.column_mut(o).add_scalar_mut(constant);
        }
        let mut sum = 0.0;
        for (i, (r, &t)) in rest.iter_mut().zip(self.target.iter()).enumerate() {
            let slack = self.slack.get(i).copied().unwrap_or(0.0);
            let goal = match slack {
                s if s > 0.0 => r.min(t + s),
                s if s < 0.0 => r.max(t + s),
                _ => t,
            };
            *r = goal - *r;
            sum += f64::from(*r) * f64::from(*r);
        }
        (rest, sum / self.target.nrows().max(1) as f64)
    }

    /// The mean squared error of the reader's outputs.
    fn error(&self, weights: &Weights, activation: &Activation) -> f64 {
        let (value, _) = activation.apply(&self.written(&weights.writer, &weights.writer_constants));
        self.rest(&value, weights).1
    }
}

/// Weights and constants of the writer with which the reader comes nearer to its target on `held` as well; `None` where
/// none were found. Without `constants` those of the writer stay.
pub fn step(
    fit: &Observed,
    held: &Observed,
    weights: &Weights,
    ending: &Ending,
    constants: bool,
) -> Option<(DMatrix<f32>, DVector<f32>)> {
    let activation = Activation(ending);
    let (value, slope) = activation.apply(&fit.written(&weights.writer, &weights.writer_constants));
    let (rest, error) = fit.rest(&value, weights);
    let found = Problem::new(fit, weights, slope, &rest, constants)?.solve(rest);
    let before = held.error(weights, &activation);
    for share in SHARES {
        let mut next = weights.clone();
        next.writer += &found.0 * share;
        next.writer_constants += &found.1 * share;
        if fit.error(&next, &activation) < error && held.error(&next, &activation) < before {
            return Some((next.writer, next.writer_constants));
        }
    }
    None
}

/// A change of the writer's weights and constants.
type Change = (DMatrix<f32>, DVector<f32>);

/// The problem linearised about some weights.
struct Problem<'a> {
    fit: &'a Observed,
    /// `x`, transposed: nalgebra multiplies transposed views slowly.
    across: DMatrix<f32>,
    reader: &'a DMatrix<f32>,
    reader_across: DMatrix<f32>,
    slope: DMatrix<f32>,
    /// Where the outputs are seen.
    seen: Vec<bool>,
    constants: bool,
    /// Inverse second moments of what the writer reads, and of what the reader makes of its outputs.
    inputs: DMatrix<f32>,
    outputs: DMatrix<f32>,
}

impl<'a> Problem<'a> {
    fn new(
        fit: &'a Observed,
        weights: &'a Weights,
        slope: DMatrix<f32>,
        rest: &DMatrix<f32>,
        constants: bool,
    ) -> Option<Self> {
        let across = fit.x.transpose();
        let inverted = |m: DMatrix<f32>| -> Option<DMatrix<f32>> {
            let n = m.nrows();
            let hold = (0..n).map(|i| f64::from(m[(i, i)])).sum::<f64>() / n.max(1) as f64 * DAMPING;
            let held = DMatrix::from_fn(n, n, |i, j| f64::from(m[(i, j)]) + if i == j { hold } else { 0.0 });
            (hold > 0.0 && hold.is_finite()).then(|| inverse(held))?.map(|m| m.map(|v| v as f32))
        };
        let inputs = inverted(&across * &fit.x / fit.places().max(1) as f32)?;
        let (channels, taps) = (slope.ncols(), fit.taps);
        let reader = &weights.reader;
        let outputs = DMatrix::from_fn(channels, channels, |a, b| {
            (0..taps).map(|t| reader.row(a * taps + t).dot(&reader.row(b * taps + t))).sum()
        });
        let seen = rest.iter().map(|&r| r != 0.0).collect();
        let outputs = inverted(outputs)?;
        let reader_across = reader.transpose();
        Some(Self { fit, across, reader, reader_across, slope, seen, constants, inputs, outputs })
    }

    /// How the reader's outputs change.
    fn forward(&self, change: &Change) -> DMatrix<f32> {
        let z = self.fit.written(&change.0, &change.1).component_mul(&self.slope);
        let mut out = self.fit.gathered(&z) * self.reader;
        out.iter_mut().zip(&self.seen).filter(|o| !o.1).for_each(|o| *o.0 = 0.0);
        out
    }

    /// The adjoint.
    fn backward(&self, outputs: &DMatrix<f32>) -> Change {
        let z = self.fit.scattered(&(outputs * &self.reader_across)).component_mul(&self.slope);
        let constants = DVector::from_fn(z.ncols(), |c, _| if self.constants { z.column(c).sum() } else { 0.0 });
        (&self.across * z, constants)
    }

    fn preconditioned(&self, gradient: &Change) -> Change {
        let constants = &self.outputs * &gradient.1 / self.fit.places().max(1) as f32;
        (&self.inputs * &gradient.0 * &self.outputs / self.fit.places().max(1) as f32, constants)
    }

    /// Conjugate gradients on the normal equations.
    fn solve(&self, mut rest: DMatrix<f32>) -> Change {
        let inner = |a: &Change, b: &Change| f64::from(a.0.dot(&b.0)) + f64::from(a.1.dot(&b.1));
        let mut gradient = self.backward(&rest);
        let mut direction = self.preconditioned(&gradient);
        let mut found = (DMatrix::zeros(direction.0.nrows(), direction.0.ncols()), DVector::zeros(direction.1.len()));
        let mut along = inner(&gradient, &direction);
        for _ in 0..ITERATIONS {
            let moved = self.forward(&direction);
            let curvature = f64::from(moved.norm_squared());
            let length = (along / curvature) as f32;
            if !(along > 0.0 && length.is_finite()) {
                break;
            }
            found.0 += &direction.0 * length;
            found.1 += &direction.1 * length;
            rest -= moved * length;
            gradient = self.backward(&rest);
            let next = self.preconditioned(&gradient);
            let after = inner(&gradient, &next);
            let keep = (after / along) as f32;
            direction = (next.0 + direction.0 * keep, next.1 + direction.1 * keep);
            along = after;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{generator, uniform};

    /// Three channels of four columns each behind a ReLU, read at two taps by two outputs.
    fn made(seed: u64, writer: &DMatrix<f32>, weights: &Weights) -> Observed {
        let mut rng = generator("pair", seed);
        let (places, n) = (401, 200);
        let x = DMatrix::from_fn(places, 4, |_, _| uniform(&mut rng) as f32 - 0.5);
        let sees = (0..n * 2).map(|i| (i != 7).then_some(i as u32)).collect();
        let target = DMatrix::zeros(n, 2);
        let mut made = Observed { x, sees, taps: 2, target, slack: Vec::new() };
        let wanted = Weights { writer: writer.clone(), ..weights.clone() };
        let (value, _) = Activation(&relu()).apply(&made.written(&wanted.writer, &wanted.writer_constants));
        // With nothing wanted the rest is what is computed, the other way round.
        made.target = -made.rest(&value, &wanted).0;
        made
    }

    fn relu() -> Ending {
        Ending { limits: (0.0, f64::INFINITY), ..Ending::default() }
    }

    fn weights(seed: u64) -> Weights {
        let mut rng = generator("weights", seed);
        let mut draw =
            |rows: usize, columns: usize| DMatrix::from_fn(rows, columns, |_, _| 2.0 * uniform(&mut rng) as f32 - 1.0);
        Weights {
            writer: draw(4, 3),
            writer_constants: DVector::from_column_slice(&[0.1, 0.2, 0.3]),
            reader: draw(6, 2),
            reader_constants: DVector::from_column_slice(&[-0.5, 0.5]),
        }
    }

    #[test]
    fn steps_find_the_weights_that_the_targets_were_made_with() {
        let mut now = weights(1);
        let wanted = &now.writer + weights(2).writer * 0.1;
        let (fit, held) = (made(3, &wanted, &now), made(4, &wanted, &now));
        let error = |w: &Weights| held.error(w, &Activation(&relu()));
        let before = error(&now);
        for _ in 0..6 {
            let Some((writer, constants)) = step(&fit, &held, &now, &relu(), true) else { break };
            (now.writer, now.writer_constants) = (writer, constants);
        }
        assert!(before > 1e-3 && error(&now) < before * 1e-3, "{before} -> {}", error(&now));
    }

    #[test]
    fn what_is_not_seen_is_no_error() {
        let now = weights(1);
        let mut observed = made(3, &now.writer, &now);
        // All outputs may be anything below a little more than they are.
        observed.slack = vec![0.5; observed.target.len()];
        let mut lower = now.clone();
        lower.reader_constants.add_scalar_mut(-1.0);
        assert_eq!(observed.error(&lower, &Activation(&relu())), 0.0);
        lower.reader_constants.add_scalar_mut(2.0);
        assert!(observed.error(&lower, &Activation(&relu())) > 0.1);
    }

    #[test]
    fn backward_is_the_adjoint_of_forward() {
        let now = weights(1);
        let fit = made(3, &weights(2).writer, &now);
        let (value, slope) = Activation(&relu()).apply(&fit.written(&now.writer, &now.writer_constants));
        let (rest, _) = fit.rest(&value, &now);
        let problem = Problem::new(&fit, &now, slope, &rest, true).unwrap();
        let change = (weights(5).writer, weights(5).writer_constants);
        let back = problem.backward(&rest);
        let (left, right) = (problem.forward(&change).dot(&rest), change.0.dot(&back.0) + change.1.dot(&back.1));
        assert!((left - right).abs() < 1e-3 * left.abs(), "{left} {right}");
    }
}
