//! Ridge regression from inner products.
//!
//! Guarantees: what is returned minimises the sum of squared errors plus `ridge` times the squared distance of the
//! weights from where they were, as well as products in single precision tell; sums are taken in an order that does not
//! hang on the number of threads. Refuses: inner products that are not finite.

use crate::importance::gram::{Matrix, dot};
use crate::importance::inverse;
use nalgebra::{DMatrix, DMatrixView};
use rayon::prelude::*;

/// Observations of several variables, each a row of equal length: columns of a contraction first, then outputs.
pub struct Observations {
    pub data: Vec<f32>,
    /// Observations of each variable.
    pub samples: usize,
}

impl Observations {
    /// How many variables.
    pub fn rows(&self) -> usize {
        self.data.len().checked_div(self.samples).unwrap_or(0)
    }

    /// The first `count` variables, each in a column.
    fn first(&self, count: usize) -> DMatrixView<'_, f32> {
        DMatrixView::from_slice(&self.data[..count * self.samples], self.samples, count)
    }
}

/// Multiply-accumulates that the products of one regression's variables may take, and the observations of each column
/// that are made all the same.
const MOST_PRODUCTS: usize = 8_000_000_000;
const FEWEST_PER_COLUMN: usize = 6;

/// A regression of fewer columns has the observations of so many.
const LEAST_COLUMNS: usize = 320;

/// How many observations a regression is to have: `per_column` for each column, unless their products would take too long.
pub fn observations(columns: usize, variables: usize, per_column: usize) -> usize {
    let affordable = MOST_PRODUCTS / (columns * variables).max(1);
    (per_column * columns.max(LEAST_COLUMNS)).min(affordable.max(FEWEST_PER_COLUMN * columns))
}

/// Second moments of columns and outputs.
pub struct Moments {
    /// Mean of each variable; zero where they are not centred.
    pub mean: Vec<f64>,
    /// Mean products of columns with all variables, less those of their means where centred; those of outputs among
    /// themselves are not needed, and not there.
    pub product: Matrix,
    /// Mean squares of the outputs, less those of their means where centred.
    variance: Vec<f64>,
    pub samples: usize,
    pub columns: usize,
    /// The variables less their means, each in a row.
    across: DMatrix<f32>,
}

/// Rows of a product that one thread computes.
const TALL: usize = 1024;
/// Observations that are turned from columns into rows at a time.
const TURNED: usize = 64;
/// Columns of a matrix of second moments that are computed at a time.
const WIDE: usize = 64;

/// A product of matrices, blocks of its rows side by side; how many there are changes no sum.
fn multiply(a: DMatrixView<f32>, b: &DMatrix<f32>) -> DMatrix<f32> {
    let height = |i: usize| TALL.min(a.nrows() - i * TALL);
    let blocks: Vec<DMatrix<f32>> =
        (0..a.nrows().div_ceil(TALL)).into_par_iter().map(|i| a.rows(i * TALL, height(i)) * b).collect();
    let mut out = DMatrix::zeros(a.nrows(), b.ncols());
    blocks.iter().enumerate().for_each(|(i, block)| out.rows_mut(i * TALL, height(i)).copy_from(block));
    out
}

impl Moments {
    /// The first `columns` variables are regressors. With `centred`, a constant is one as well.
    pub fn of(observations: &Observations, columns: usize, centred: bool) -> Self {
        let (n, count) = (observations.rows(), observations.samples as f64);
        let mean: Vec<f64> = (0..n)
            .map(|v| {
                let row = &observations.data[v * observations.samples..(v + 1) * observations.samples];
                if centred { row.iter().map(|&x| f64::from(x)).sum::<f64>() / count } else { 0.0 }
            })
            .collect();
        // nalgebra multiplies a transposed view forty times slower than a matrix.
        let mut across = DMatrix::<f32>::zeros(n, observations.samples);
        across.as_mut_slice().par_chunks_mut((n * TURNED).max(1)).enumerate().for_each(|(i, block)| {
            for (v, &mean) in mean.iter().enumerate() {
                let from = &observations.data[v * observations.samples + i * TURNED..];
                block.chunks_exact_mut(n).zip(from).for_each(|(place, x)| place[v] = x - mean as f32);
            }
        });
        // With one factor about its mean the other one's does not matter.
        let x = observations.first(columns);
        let block = |b: usize| across.rows(b * WIDE, n - b * WIDE) * x.columns(b * WIDE, WIDE.min(columns - b * WIDE));
        let blocks: Vec<DMatrix<f32>> = (0..columns.div_ceil(WIDE)).into_par_iter().map(block).collect();
        let mut product = Matrix::filled(n, 0.0);
        for (b, block) in blocks.iter().enumerate() {
            for (c, column) in block.column_iter().enumerate() {
                let at = b * WIDE + c;
                for (r, &p) in column.iter().enumerate().skip(c) {
                    let p = f64::from(p) / count;
                    product.row_mut(at)[b * WIDE + r] = p;
                    product.row_mut(b * WIDE + r)[at] = p;
                }
            }
        }
        let square = |o: usize| {
            let row = &observations.data[o * observations.samples..(o + 1) * observations.samples];
            row.iter().map(|&x| (f64::from(x) - mean[o]).powi(2)).sum::<f64>() / count
        };
        let variance = (columns..n).map(square).collect();
        Self { mean, product, variance, samples: observations.samples, columns, across }
    }

    /// How well two lists of weights `[outs][columns]` do, and the constants that go with the second.
    pub fn fit(&self, weights: [&[f64]; 2]) -> Fit {
        let d = self.columns;
        let one = |o: usize| -> [f64; 2] {
            weights.map(|w| {
                let w = &w[o * d..(o + 1) * d];
                let mut quadratic = 0.0;
                for (i, &wi) in w.iter().enumerate().filter(|w| *w.1 != 0.0) {
                    quadratic += wi * dot(&self.product.row(i)[..d], w);
                }
                (self.variance[o] - 2.0 * dot(&self.product.row(d + o)[..d], w) + quadratic).max(0.0)
            })
        };
        let all: Vec<[f64; 2]> = (0..self.outs()).into_par_iter().map(one).collect();
        Fit {
            error: [0, 1].map(|i| all.iter().map(|a| a[i]).sum()),
            variance: self.variance.iter().sum(),
            constants: self.constants(weights[1]),
        }
    }

    /// Number of outputs.
    pub fn outs(&self) -> usize {
        self.mean.len() - self.columns
    }

    /// The constants that go with weights `[outs][columns]`.
    fn constants(&self, weights: &[f64]) -> Vec<f64> {
        let d = self.columns;
        let fitted = |w: &[f64]| w.iter().zip(&self.mean).map(|(w, m)| w * m).sum::<f64>();
        weights.chunks_exact(d).enumerate().map(|(o, w)| self.mean[d + o] - fitted(w)).collect()
    }

    /// The mean variance of a regressor.
    pub fn scale(&self) -> f64 {
        (0..self.columns).map(|i| self.product.row(i)[i]).sum::<f64>() / self.columns.max(1) as f64
    }

    /// Weights `[outs][columns]` of least squared error, held to `from` by `ridge` times the mean variance of a column.
    /// `None` where nothing varies, or the moments are not finite.
    pub fn regress(&self, from: &[f64], ridge: f64) -> Option<Vec<f64>> {
        let d = self.columns;
        let target = DMatrix::from_fn(d, self.outs(), |i, o| self.product.row(d + o)[i]);
        self.solver(ridge)?.solve(target, from)
    }

    fn solver(&self, ridge: f64) -> Option<Solver> {
        let (d, scale) = (self.columns, self.scale());
        if !(scale > 0.0 && scale.is_finite()) {
            return None;
        }
        let hold = ridge * scale;
        let hessian = DMatrix::from_fn(d, d, |i, j| self.product.row(i)[j] + if i == j { hold } else { 0.0 });
        Some(Solver { inverse: inverse(hessian)?, hold })
    }
}

/// An inverted matrix of second moments.
struct Solver {
    inverse: DMatrix<f64>,
    hold: f64,
}

impl Solver {
    /// `[outs][columns]`, from the products of columns with outputs, `[columns][outs]`.
    fn solve(&self, mut target: DMatrix<f64>, from: &[f64]) -> Option<Vec<f64>> {
        target.iter_mut().zip(from).for_each(|(t, f)| *t += self.hold * f);
        let weights: Vec<f64> = (&self.inverse * target).iter().copied().collect();
        weights.iter().all(|w| w.is_finite()).then_some(weights)
    }
}

/// How often targets are set anew where outputs have slack.
const ROUNDS: usize = 6;

/// Weights `[outs][columns]` and constants of least squared error. Where a ReLU follows, `slack` says by how much each
/// output may miss its target without being seen: up by a positive number and down as far as you like, or the other way
/// round. Then targets that are not binding are set to what is computed, again and again; each round lowers what is left
/// of the error behind the ReLU.
pub fn fit(
    observations: &Observations,
    moments: &Moments,
    from: &[f64],
    ridge: f64,
    slack: Option<&[f32]>,
) -> Option<(Vec<f64>, Vec<f64>)> {
    let (d, outs, n) = (moments.columns, moments.outs(), observations.samples);
    let solver = moments.solver(ridge)?;
    let first = DMatrix::from_fn(d, outs, |i, o| moments.product.row(d + o)[i]);
    let mut weights = solver.solve(first, from)?;
    let mut constants = moments.constants(&weights);
    let Some(slack) = slack else { return Some((weights, constants)) };
    let (x, across) = (observations.first(d), moments.across.rows(0, d));
    let targets = &observations.data[d * n..];
    for _ in 0..ROUNDS {
        let w = DMatrix::from_iterator(d, outs, weights.iter().map(|&w| w as f32));
        let mut goal = multiply(x, &w);
        let one = |(o, column): (usize, &mut [f32])| {
            let (t, s) = (&targets[o * n..(o + 1) * n], &slack[o * n..(o + 1) * n]);
            for ((goal, &t), &s) in column.iter_mut().zip(t).zip(s) {
                let computed = *goal + constants[o] as f32;
                *goal = match s {
                    s if s > 0.0 => computed.min(t + s),
                    s if s < 0.0 => computed.max(t + s),
                    _ => t,
                };
            }
            let mean = column.iter().map(|&g| f64::from(g)).sum::<f64>() / n as f64;
            column.iter_mut().for_each(|g| *g -= mean as f32);
            mean
        };
        let means: Vec<f64> = goal.as_mut_slice().par_chunks_exact_mut(n).enumerate().map(one).collect();
        let products = multiply(across, &goal);
        let products = DMatrix::from_iterator(d, outs, products.iter().map(|&p| f64::from(p) / n as f64));
        weights = solver.solve(products, from)?;
        let fitted = |w: &[f64]| w.iter().zip(&moments.mean).map(|(w, m)| w * m).sum::<f64>();
        constants = weights.chunks_exact(d).zip(&means).map(|(w, mean)| mean - fitted(w)).collect();
    }
    Some((weights, constants))
}

/// How well weights do.
pub struct Fit {
    /// Mean squared error with the best constants, summed over outputs: of two lists of weights `[outs][columns]`.
    pub error: [f64; 2],
    /// Of the outputs, summed.
    pub variance: f64,
    /// The constants that go with the second list.
    pub constants: Vec<f64>,
}

impl Fit {
    /// From the observations themselves, where there are too few for moments. Without `centred` no constants are added.
    pub fn of(observations: &Observations, columns: usize, centred: bool, weights: [&[f64]; 2]) -> Self {
        let (n, outs) = (observations.samples, observations.rows() - columns);
        let x = observations.first(columns);
        let computed =
            weights.map(|w| multiply(x, &DMatrix::from_iterator(columns, outs, w.iter().map(|&w| w as f32))));
        let one = |o: usize| -> ([f64; 2], f64, f64) {
            let mean = |values: &[f64]| if centred { values.iter().sum::<f64>() / n as f64 } else { 0.0 };
            let target = &observations.data[(columns + o) * n..(columns + o + 1) * n];
            let spread =
                |values: &[f64], about: f64| values.iter().map(|v| (v - about).powi(2)).sum::<f64>() / n as f64;
            let rests = [0, 1].map(|i| {
                let computed = &computed[i].as_slice()[o * n..(o + 1) * n];
                target.iter().zip(computed).map(|(t, c)| f64::from(*t) - f64::from(*c)).collect::<Vec<f64>>()
            });
            let means = [mean(&rests[0]), mean(&rests[1])];
            let target: Vec<f64> = target.iter().map(|&t| f64::from(t)).collect();
            let about = mean(&target);
            ([spread(&rests[0], means[0]), spread(&rests[1], means[1])], spread(&target, about), means[1])
        };
        let all: Vec<([f64; 2], f64, f64)> = (0..outs).into_par_iter().map(one).collect();
        Self {
            error: [0, 1].map(|i| all.iter().map(|a| a.0[i]).sum()),
            variance: all.iter().map(|a| a.1).sum(),
            constants: all.iter().map(|a| a.2).collect(),
        }
    }
}

/// Root of the squared differences over the squared deviations from the mean.
pub fn relative(was: &[f64], is: &[f64]) -> Option<f64> {
    if was.len() != is.len() || was.is_empty() {
        return None;
    }
    let mean = was.iter().sum::<f64>() / was.len() as f64;
    let spread: f64 = was.iter().map(|x| (x - mean).powi(2)).sum();
    let gap: f64 = was.iter().zip(is).map(|(a, b)| (a - b).powi(2)).sum();
    (spread > 0.0).then(|| (gap / spread).sqrt())
}
