//! What the readers of a channel lose with it, when the others take over as much of it as they can.
//!
//! A layer that reads `x` with weights `W` and has to do without some channels can be given new weights for the rest.
//! What is then still missing is the error of a regression, and it follows from the second moments `H` of `x` alone:
//! removing the columns `B` costs `tr(W_B ((H^-1)_BB)^-1 W_B^T)`, and takes `W` to `W - W_B ((H^-1)_BB)^-1 (H^-1)_B`
//! (the optimal brain surgeon of Hassibi and Stork, 1993, on channels). `1 / (H^-1)_ii` is the part of a channel that no
//! other explains: with normalised moments one minus its *communality*, its squared multiple correlation with all
//! others. So this is the published idea, common filters go, made exact, and weighed with what the filter is used for.
//!
//! Guarantees: the order is greedy, one removal at a time, ties to the lowest index; costs are never negative.
//! Refuses: moments that are not finite or not positive after the ridge ([`Readout::new`] gives `None`).

use super::gram::{Matrix, Rows, gram};
use super::order::Ties;
use nalgebra::DMatrix;

/// One reader of a group's channels.
pub struct Readout {
    /// Inverse of the second moments of its columns.
    inverse: DMatrix<f64>,
    /// Products of the columns' weights, summed over the outputs: all that costs depend on, however many outputs
    /// there are.
    products: DMatrix<f64>,
    /// For each class of the group the columns that belong to it.
    columns: Vec<Vec<usize>>,
    /// What a unit of its squared error is worth.
    worth: f64,
    gone: Vec<bool>,
}

impl Readout {
    /// `moments` are those of the columns, `weights` are `[outs][columns]`, `columns` those of each class. `ridge` is
    /// relative to the mean moment.
    pub fn new(moments: &Matrix, weights: &[f64], columns: Vec<Vec<usize>>, ridge: f64, worth: f64) -> Option<Self> {
        let d = moments.size();
        let inverse = ridged(moments, ridge)?.cholesky()?.inverse();
        let outs = weights.len() / d.max(1);
        let by_column = Transposed { data: weights, inputs: d, outs };
        let products = gram(&by_column);
        let products = DMatrix::from_fn(d, d, |i, j| products.row(i)[j]);
        worth.is_finite().then(|| Self { inverse, products, columns, worth, gone: vec![false; d] })
    }

    /// What the removal of a class costs, and the inverse of its block.
    fn cost(&self, class: usize) -> Option<(f64, DMatrix<f64>)> {
        let block = &self.columns[class];
        if let [b] = block[..] {
            let inverse = 1.0 / self.inverse[(b, b)];
            let cost = inverse * self.products[(b, b)];
            return inverse.is_finite().then(|| (cost.max(0.0), DMatrix::from_element(1, 1, inverse)));
        }
        let small = DMatrix::from_fn(block.len(), block.len(), |i, j| self.inverse[(block[i], block[j])]);
        let inverse = small.cholesky()?.inverse();
        let cost: f64 = (0..block.len())
            .map(|i| (0..block.len()).map(|j| inverse[(i, j)] * self.products[(block[j], block[i])]).sum::<f64>())
            .sum();
        Some((cost.max(0.0), inverse))
    }

    /// The cost of each class on its own. A block that has become singular costs nothing: all is explained.
    fn marginal(&self, class: usize) -> f64 {
        if self.columns[class].is_empty() {
            return 0.0;
        }
        self.worth * self.cost(class).map_or(0.0, |c| c.0)
    }

    /// `[outs][columns]`: these weights as the removals so far leave them. `moments` and `ridge` are those that the
    /// readout was made of.
    pub fn refitted(&self, moments: &Matrix, weights: &[f64], ridge: f64) -> Option<Vec<f64>> {
        let d = self.gone.len();
        // `[columns][outs]`, one column of the weight after the other.
        let weights = DMatrix::from_fn(d, weights.len() / d.max(1), |i, o| weights[o * d + i]);
        let mut new = &self.inverse * (ridged(moments, ridge)? * weights);
        for (b, _) in self.gone.iter().enumerate().filter(|g| *g.1) {
            new.row_mut(b).fill(0.0);
        }
        Some(new.iter().copied().collect())
    }

    /// Does without a class; the other columns take over what they can.
    pub fn remove(&mut self, class: usize) {
        let block = self.columns[class].clone();
        let Some((_, small)) = self.cost(class).filter(|_| !block.is_empty()) else { return };
        let d = self.inverse.nrows();
        let rows = DMatrix::from_fn(block.len(), d, |i, j| self.inverse[(block[i], j)]);
        // Weights become `W - S W_B`, so their products `V - S V_B - (S V_B)^T + S V_BB S^T`: with half of the last
        // term on each side that is `V - S R - (S R)^T`. Transposed copies: nalgebra's products of transposed views
        // are slow.
        let scaled = (&small * &rows).transpose();
        let own = DMatrix::from_fn(block.len(), block.len(), |i, j| self.products[(block[i], block[j])]);
        let across = DMatrix::from_fn(block.len(), d, |i, j| self.products[(block[i], j)]);
        let rest = across - (own * scaled.transpose()) * 0.5;
        self.products.gemm(-1.0, &scaled, &rest, 1.0);
        self.products.gemm(-1.0, &rest.transpose(), &scaled.transpose(), 1.0);
        self.inverse.gemm(-1.0, &scaled, &rows, 1.0);
        for &b in &block {
            self.gone[b] = true;
            for matrix in [&mut self.products, &mut self.inverse] {
                matrix.row_mut(b).fill(0.0);
                matrix.column_mut(b).fill(0.0);
            }
            // A block is inverted on its own; what is gone must not make it singular.
            self.inverse[(b, b)] = 1.0;
        }
    }
}

/// Second moments with `ridge` times their mean on the diagonal; `None` where they are not positive and finite.
fn ridged(moments: &Matrix, ridge: f64) -> Option<DMatrix<f64>> {
    let d = moments.size();
    let scale = (0..d).map(|i| moments.row(i)[i]).sum::<f64>() / d.max(1) as f64;
    let hold = ridge * scale;
    (scale > 0.0 && scale.is_finite())
        .then(|| DMatrix::from_fn(d, d, |i, j| moments.row(i)[j] + if i == j { hold } else { 0.0 }))
}

/// Weights `[outs][inputs]`, column by column.
struct Transposed<'a> {
    data: &'a [f64],
    inputs: usize,
    outs: usize,
}

impl Rows for Transposed<'_> {
    fn rows(&self) -> usize {
        self.inputs
    }

    fn columns(&self) -> usize {
        self.outs
    }

    fn read(&self, row: usize, from: usize, out: &mut [f64]) {
        out.iter_mut().enumerate().for_each(|(i, o)| *o = self.data[(from + i) * self.inputs + row]);
    }
}

/// An order of removal, with what each step costs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Path {
    /// Classes, the cheapest first.
    pub order: Vec<u32>,
    /// What each removal of the order adds to the error.
    pub costs: Vec<f64>,
    /// What each class would cost on its own, before any removal.
    pub alone: Vec<f64>,
}

/// Removes one class after the other, always the one that costs its readers least, until `most` are gone. With `dearest`
/// it is always the one that costs most: the control.
pub fn path(readouts: &mut [Readout], classes: usize, most: usize, dearest: bool) -> Path {
    let sign = if dearest { 1.0 } else { -1.0 };
    let marginal = |readouts: &[Readout], c: usize| -> f64 { readouts.iter().map(|r| r.marginal(c)).sum() };
    let mut costs: Vec<f64> = (0..classes).map(|c| marginal(readouts, c)).collect();
    let mut path = Path { alone: costs.clone(), ..Path::default() };
    let mut open = vec![true; classes];
    let ties = Ties { unit: 0.0 };
    for _ in 0..classes.min(most) {
        let scores: Vec<f64> = costs.iter().map(|c| sign * c).collect();
        let Some(next) = ties.first(&scores, &open) else { break };
        path.order.push(next as u32);
        path.costs.push(costs[next]);
        open[next] = false;
        readouts.iter_mut().for_each(|r| r.remove(next));
        for c in (0..classes).filter(|&c| open[c]) {
            costs[c] = marginal(readouts, c);
        }
    }
    path
}

/// What the removals of an order cost, one after the other. `scores` are the order's own.
pub fn along(readouts: &mut [Readout], order: &[u32], scores: Vec<f64>) -> Path {
    let mut path = Path { order: order.to_vec(), costs: Vec::new(), alone: scores.iter().map(|s| -s).collect() };
    for &class in order {
        path.costs.push(readouts.iter().map(|r| r.marginal(class as usize)).sum());
        readouts.iter_mut().for_each(|r| r.remove(class as usize));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: &[&[f64]]) -> Matrix {
        let mut m = Matrix::filled(rows.len(), 0.0);
        rows.iter().enumerate().for_each(|(i, r)| m.row_mut(i).copy_from_slice(r));
        m
    }

    #[test]
    fn a_duplicate_costs_nothing_and_the_last_of_two_costs_all() {
        // Channels 0 and 1 are the same, 2 stands alone.
        let h = matrix(&[&[1.0, 1.0, 0.0], &[1.0, 1.0, 0.0], &[0.0, 0.0, 1.0]]);
        let columns = vec![vec![0], vec![1], vec![2]];
        let mut readouts = [Readout::new(&h, &[1.0, 1.0, 1.5], columns, 1e-9, 1.0).unwrap()];
        let path = path(&mut readouts, 3, 3, false);
        assert_eq!(path.order, [0, 2, 1]);
        assert!(path.costs[0] < 1e-6, "{path:?}");
        assert!((path.costs[1] - 2.25).abs() < 1e-6 && (path.costs[2] - 4.0).abs() < 1e-6, "{path:?}");
    }

    #[test]
    fn the_control_takes_what_costs_most() {
        let h = matrix(&[&[1.0, 0.0, 0.0], &[0.0, 1.0, 0.0], &[0.0, 0.0, 1.0]]);
        let readouts = || [Readout::new(&h, &[1.0, 3.0, 2.0], vec![vec![0], vec![1], vec![2]], 1e-9, 1.0).unwrap()];
        assert_eq!(path(&mut readouts(), 3, 3, false).order, [0, 2, 1]);
        assert_eq!(path(&mut readouts(), 3, 3, true).order, [1, 2, 0]);
    }

    #[test]
    fn costs_are_those_of_the_regression() {
        // Removing both columns of one class from three correlated ones.
        let h = matrix(&[&[2.0, 0.5, 0.3], &[0.5, 1.0, 0.2], &[0.3, 0.2, 1.5]]);
        let w = [0.7, -0.4, 0.9];
        let mut readouts = [Readout::new(&h, &w, vec![vec![0, 1], vec![2]], 0.0, 2.0).unwrap()];
        let path = path(&mut readouts, 2, 2, false);
        // With column 2 alone: y = w x, error = E y^2 - (E y x2)^2 / E x2^2.
        let product = |i: usize| (0..3).map(|j| h.row(i)[j] * w[j]).sum::<f64>();
        let total: f64 = (0..3).map(|i| w[i] * product(i)).sum();
        let expected = 2.0 * (total - product(2).powi(2) / 1.5);
        assert!((path.alone[0] - expected).abs() < 1e-9, "{path:?} {expected}");
        assert!((path.costs.iter().sum::<f64>() - 2.0 * total).abs() < 1e-9, "all that there is");
    }
}
