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
use super::inverse::inverse;
use super::order::Ties;
use nalgebra::DMatrix;

/// One reader of a group's channels.
pub struct Readout {
    /// Inverse of the second moments of its columns, before the updates that are due.
    inverse: DMatrix<f64>,
    /// Products of the columns' weights, summed over the outputs: all that costs depend on, however many outputs
    /// there are. Before the updates that are due, too.
    products: DMatrix<f64>,
    /// Removals that the matrices do not know of yet: many at a time make one product of matrices.
    due: Vec<Update>,
    /// The diagonals of both as they are now.
    inverse_diagonal: Vec<f64>,
    products_diagonal: Vec<f64>,
    /// For each class of the group the columns that belong to it.
    columns: Vec<Vec<usize>>,
    /// What a unit of its squared error is worth.
    worth: f64,
    gone: Vec<bool>,
    /// Which columns the matrices still hold.
    kept: Vec<usize>,
}

/// What the removal of a column does: `inverse -= scaled row^T`, `products -= scaled rest^T + rest scaled^T`.
struct Update {
    scaled: Vec<f64>,
    row: Vec<f64>,
    rest: Vec<f64>,
}

/// Updates that are made together.
const AT_ONCE: usize = 48;

impl Readout {
    /// `moments` are those of the columns, `weights` are `[outs][columns]`, `columns` those of each class. `ridge` is
    /// relative to the mean moment.
    pub fn new(moments: &Matrix, weights: &[f64], columns: Vec<Vec<usize>>, ridge: f64, worth: f64) -> Option<Self> {
        let d = moments.size();
        let by_column = Transposed { data: weights, inputs: d, outs: weights.len() / d.max(1) };
        Self::of_products(moments, &gram(&by_column), columns, ridge, worth)
    }

    /// The same from the products of the columns' weights, summed over the outputs.
    pub fn of_products(
        moments: &Matrix,
        products: &Matrix,
        columns: Vec<Vec<usize>>,
        ridge: f64,
        worth: f64,
    ) -> Option<Self> {
        let d = moments.size();
        let inverse = inverse(ridged(moments, ridge)?)?;
        let products = DMatrix::from_fn(d, d, |i, j| products.row(i)[j]);
        let diagonal = |m: &DMatrix<f64>| (0..d).map(|i| m[(i, i)]).collect();
        worth.is_finite().then(|| Self {
            inverse_diagonal: diagonal(&inverse),
            products_diagonal: diagonal(&products),
            due: Vec::new(),
            gone: vec![false; d],
            kept: (0..d).collect(),
            inverse,
            products,
            columns,
            worth,
        })
    }

    /// Elements of both matrices as they are now.
    fn inverse_at(&self, i: usize, j: usize) -> f64 {
        self.due.iter().fold(self.inverse[(i, j)], |x, u| x - u.scaled[i] * u.row[j])
    }

    fn products_at(&self, i: usize, j: usize) -> f64 {
        let due = self.due.iter();
        due.fold(self.products[(i, j)], |x, u| x - u.scaled[i] * u.rest[j] - u.rest[i] * u.scaled[j])
    }

    /// Rows of both matrices as they are now.
    fn rows(&self, i: usize) -> (Vec<f64>, Vec<f64>) {
        let row = |m: &DMatrix<f64>| -> Vec<f64> { m.column(i).iter().copied().collect() };
        let (mut inverse, mut products) = (row(&self.inverse), row(&self.products));
        let less = |out: &mut [f64], factor: f64, by: &[f64]| {
            out.iter_mut().zip(by).for_each(|(o, b)| *o -= factor * b);
        };
        for update in &self.due {
            less(&mut inverse, update.scaled[i], &update.row);
            less(&mut products, update.scaled[i], &update.rest);
            less(&mut products, update.rest[i], &update.scaled);
        }
        (inverse, products)
    }

    /// What the removal of a class costs, and the inverse of its block.
    fn cost(&self, class: usize) -> Option<(f64, DMatrix<f64>)> {
        let block = &self.columns[class];
        if let [b] = block[..] {
            let inverse = 1.0 / self.inverse_diagonal[b];
            let cost = (inverse * self.products_diagonal[b]).max(0.0);
            return (inverse.is_finite() && inverse > 0.0).then(|| (cost, DMatrix::from_element(1, 1, inverse)));
        }
        let k = block.len();
        let inverse = DMatrix::from_fn(k, k, |i, j| self.inverse_at(block[i], block[j])).cholesky()?.inverse();
        let products = DMatrix::from_fn(k, k, |i, j| self.products_at(block[i], block[j]));
        Some((inverse.component_mul(&products).sum().max(0.0), inverse))
    }

    /// The cost of each class on its own. A block that has become singular costs nothing: all is explained.
    fn marginal(&self, class: usize) -> f64 {
        match self.columns[class][..] {
            [] => 0.0,
            _ => self.worth * self.cost(class).map_or(0.0, |c| c.0),
        }
    }

    /// `[outs][columns]`: these weights as the removals so far leave them. `moments` and `ridge` are those that the
    /// readout was made of.
    pub fn refitted(&mut self, moments: &Matrix, weights: &[f64], ridge: f64) -> Option<Vec<f64>> {
        self.settle();
        let d = moments.size();
        // `[columns][outs]`, one column of the weight after the other.
        let weights = DMatrix::from_fn(d, weights.len() / d.max(1), |i, o| weights[o * d + i]);
        let left = &self.inverse * (ridged(moments, ridge)? * weights).select_rows(&self.kept);
        let mut new = vec![0.0; left.ncols() * d];
        for (o, row) in new.chunks_exact_mut(d.max(1)).enumerate() {
            self.kept.iter().enumerate().for_each(|(i, &column)| row[column] = left[(i, o)]);
        }
        Some(new)
    }

    /// Does without a class; the other columns take over what they can.
    pub fn remove(&mut self, class: usize) {
        let block = self.columns[class].clone();
        let Some((_, small)) = self.cost(class).filter(|_| !block.is_empty()) else { return };
        let (d, k) = (self.gone.len(), block.len());
        let (rows, products): (Vec<_>, Vec<_>) = block.iter().map(|&b| self.rows(b)).unzip();
        // Weights become `W - S W_B`, so their products `V - S V_B - (S V_B)^T + S V_BB S^T`: with half of the last
        // term on each side that is `V - S R - (S R)^T`.
        let scaled: Vec<Vec<f64>> =
            (0..k).map(|j| (0..d).map(|i| (0..k).map(|l| small[(j, l)] * rows[l][i]).sum()).collect()).collect();
        let rest: Vec<Vec<f64>> = (0..k)
            .map(|j| {
                let half = |i: usize| (0..k).map(|l| products[j][block[l]] * scaled[l][i]).sum::<f64>() * 0.5;
                (0..d).map(|i| products[j][i] - half(i)).collect()
            })
            .collect();
        for ((scaled, row), rest) in scaled.into_iter().zip(rows).zip(rest) {
            for i in 0..d {
                self.inverse_diagonal[i] -= scaled[i] * row[i];
                self.products_diagonal[i] -= 2.0 * scaled[i] * rest[i];
            }
            self.due.push(Update { scaled, row, rest });
        }
        block.iter().for_each(|&b| self.gone[b] = true);
        if self.due.len() >= AT_ONCE {
            self.settle();
        }
    }

    /// Makes the updates that are due.
    fn settle(&mut self) {
        let (d, k) = (self.gone.len(), self.due.len());
        let matrix = |of: fn(&Update) -> &[f64]| DMatrix::from_fn(d, k, |i, u| of(&self.due[u])[i]);
        let (scaled, row, rest) = (matrix(|u| &u.scaled), matrix(|u| &u.row), matrix(|u| &u.rest));
        // Transposed copies: nalgebra's products of transposed views are slow.
        self.inverse.gemm(-1.0, &scaled, &row.transpose(), 1.0);
        self.products.gemm(-1.0, &scaled, &rest.transpose(), 1.0);
        self.products.gemm(-1.0, &rest, &scaled.transpose(), 1.0);
        self.due.clear();
        // Of what is gone only rounding is left.
        let left: Vec<usize> = (0..d).filter(|&i| !self.gone[i]).collect();
        let mut place = vec![None; d];
        left.iter().enumerate().for_each(|(i, &column)| place[column] = Some(i));
        for m in [&mut self.inverse, &mut self.products] {
            *m = m.select_rows(&left).select_columns(&left);
        }
        for list in [&mut self.inverse_diagonal, &mut self.products_diagonal] {
            *list = left.iter().map(|&i| list[i]).collect();
        }
        self.columns.iter_mut().for_each(|c| *c = c.iter().filter_map(|&i| place[i]).collect());
        self.kept = left.iter().map(|&i| self.kept[i]).collect();
        self.gone = vec![false; left.len()];
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

/// Removes one class after the other, always the one that costs its readers least, until `most` are gone; the others
/// follow by what each would cost then. With `dearest` it is always the one that costs most: the control.
pub fn path(readouts: &mut [Readout], classes: usize, most: usize, dearest: bool) -> Path {
    let sign = if dearest { 1.0 } else { -1.0 };
    let marginal = |readouts: &[Readout], c: usize| -> f64 { readouts.iter().map(|r| r.marginal(c)).sum() };
    let mut costs: Vec<f64> = (0..classes).map(|c| marginal(readouts, c)).collect();
    let mut path = Path { alone: costs.clone(), ..Path::default() };
    let mut open = vec![true; classes];
    let ties = Ties { unit: 0.0 };
    for step in 0..classes {
        let scores: Vec<f64> = costs.iter().map(|c| sign * c).collect();
        let Some(next) = ties.first(&scores, &open) else { break };
        path.order.push(next as u32);
        path.costs.push(costs[next]);
        open[next] = false;
        if step < most {
            readouts.iter_mut().for_each(|r| r.remove(next));
            for c in (0..classes).filter(|&c| open[c]) {
                costs[c] = marginal(readouts, c);
            }
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
