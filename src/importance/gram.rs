//! Inner products between the rows of a matrix.
//!
//! Guarantees: every product is summed in the order of the columns, without fused multiply-adds, so a result is the
//! same on any machine and for any number of threads, and the matrix is symmetric to the last bit.
//! How: blocks of rows are packed to double precision and multiplied in tiles of sums that live in registers;
//! the machine's widest vectors are chosen when the program runs. Blocks go to rayon's threads, which changes who
//! computes an entry, not how.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// A dense square matrix, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    size: usize,
    data: Vec<f64>,
}

impl Matrix {
    /// All entries `value`.
    pub fn filled(size: usize, value: f64) -> Self {
        Self { size, data: vec![value; size * size] }
    }

    /// The number of rows.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Row `i`.
    pub fn row(&self, i: usize) -> &[f64] {
        &self.data[i * self.size..(i + 1) * self.size]
    }

    /// Row `i`, to be changed.
    pub fn row_mut(&mut self, i: usize) -> &mut [f64] {
        &mut self.data[i * self.size..(i + 1) * self.size]
    }

    /// All entries, row by row.
    pub fn entries(&self) -> &[f64] {
        &self.data
    }

    /// All entries, row by row, to be changed.
    pub fn entries_mut(&mut self) -> &mut [f64] {
        &mut self.data
    }

    /// Without row and column `gone`.
    pub fn without(&self, gone: usize) -> Self {
        let keep = |i: &usize| *i != gone;
        let rows = (0..self.size).filter(keep);
        let data = rows.flat_map(|r| (0..self.size).filter(keep).map(move |c| self.row(r)[c])).collect();
        Self { size: self.size - 1, data }
    }
}

/// The rows of a matrix, however they are stored.
pub trait Rows: Sync {
    /// How many rows.
    fn rows(&self) -> usize;
    /// The length of a row.
    fn columns(&self) -> usize;
    /// Writes columns `from..from + out.len()` of a row to `out`.
    fn read(&self, row: usize, from: usize, out: &mut [f64]);
}

/// Sum of products in eight interleaved partial sums, added pairwise.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a8, a1) = a.as_chunks::<8>();
    let (b8, b1) = b.as_chunks::<8>();
    for (x, y) in a8.iter().zip(b8) {
        for l in 0..8 {
            sums[l] += x[l] * y[l];
        }
    }
    for (l, (x, y)) in a1.iter().zip(b1).enumerate() {
        sums[l] += x * y;
    }
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

/// Rows in a block: two packed blocks of `DEPTH` columns fill half of a usual second-level cache.
const BLOCK: usize = 64;
/// Columns packed at a time.
const DEPTH: usize = 256;
/// Rows of a tile: eight sums hide the latency of an addition.
const TALL: usize = 8;
/// Rows packed side by side as its columns, a multiple of the lanes of any vector.
const WIDE: usize = 8;

/// The matrix of the inner products of all pairs of rows.
pub fn gram(rows: &impl Rows) -> Matrix {
    let n = rows.rows();
    let blocks = n.div_ceil(BLOCK);
    let pairs: Vec<(usize, usize)> = (0..blocks).flat_map(|i| (i..blocks).map(move |j| (i, j))).collect();
    let arch = Arch::new();
    let products: Vec<Vec<[f64; BLOCK]>> =
        pairs.par_iter().map(|&(i, j)| block(rows, i * BLOCK, j * BLOCK, arch)).collect();
    let mut matrix = Matrix::filled(n, 0.0);
    for (&(i, j), product) in pairs.iter().zip(&products) {
        let (top, left) = (i * BLOCK, j * BLOCK);
        for (r, line) in product.iter().enumerate().take(n - top) {
            let width = BLOCK.min(n - left);
            matrix.row_mut(top + r)[left..left + width].copy_from_slice(&line[..width]);
            for (c, &value) in line.iter().enumerate().take(width) {
                matrix.row_mut(left + c)[top + r] = value;
            }
        }
    }
    matrix
}

/// The products of the rows from `top` with those from `left`; zero where a block reaches past the last row.
fn block(rows: &impl Rows, top: usize, left: usize, arch: Arch) -> Vec<[f64; BLOCK]> {
    let mut out = vec![[0.0; BLOCK]; BLOCK];
    let mut line = [0.0; DEPTH];
    let mut upper = vec![[[0.0; TALL]; DEPTH]; BLOCK / TALL];
    let mut lower = vec![[[0.0; WIDE]; DEPTH]; BLOCK / WIDE];
    for from in (0..rows.columns()).step_by(DEPTH) {
        let depth = DEPTH.min(rows.columns() - from);
        for r in 0..BLOCK.min(rows.rows() - top) {
            rows.read(top + r, from, &mut line[..depth]);
            line[..depth].iter().zip(&mut upper[r / TALL]).for_each(|(&v, cell)| cell[r % TALL] = v);
        }
        for r in 0..BLOCK.min(rows.rows() - left) {
            rows.read(left + r, from, &mut line[..depth]);
            line[..depth].iter().zip(&mut lower[r / WIDE]).for_each(|(&v, cell)| cell[r % WIDE] = v);
        }
        arch.dispatch(Tiles { upper: &upper, lower: &lower, depth, out: &mut out });
    }
    out
}

/// One slice of a block's products. A type and no closure: the compiler's shim around a closure is not inlined into
/// the function that may use wide vectors, and then none are.
struct Tiles<'a> {
    upper: &'a [[[f64; TALL]; DEPTH]],
    lower: &'a [[[f64; WIDE]; DEPTH]],
    depth: usize,
    out: &'a mut [[f64; BLOCK]],
}

impl WithSimd for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (a, out) in self.upper.iter().zip(self.out.chunks_exact_mut(TALL)) {
            for (j, b) in self.lower.iter().enumerate() {
                for lane in (0..WIDE).step_by(S::F64_LANES) {
                    tile(simd, &a[..self.depth], &b[..self.depth], lane, out, j * WIDE + lane);
                }
            }
        }
    }
}

/// Adds the products of `TALL` rows with as many rows as a vector has lanes, those from `lane` in each cell of `b`.
/// Written with explicit vectors: left to itself the compiler finds worse ones.
#[inline(always)]
fn tile<S: Simd>(simd: S, a: &[[f64; TALL]], b: &[[f64; WIDE]], lane: usize, out: &mut [[f64; BLOCK]], left: usize) {
    let vector = lane / S::F64_LANES;
    let mut sums = [simd.splat_f64s(0.0); TALL];
    for (sum, line) in sums.iter_mut().zip(out.iter()) {
        *sum = S::as_simd_f64s(&line[left..left + S::F64_LANES]).0[0];
    }
    for (x, y) in a.iter().zip(b) {
        let y = S::as_simd_f64s(y).0[vector];
        for r in 0..TALL {
            sums[r] = simd.add_f64s(sums[r], simd.mul_f64s(simd.splat_f64s(x[r]), y));
        }
    }
    for (&sum, line) in sums.iter().zip(out) {
        S::as_mut_simd_f64s(&mut line[left..left + S::F64_LANES]).0[0] = sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Table(usize, Vec<f64>);

    impl Rows for Table {
        fn rows(&self) -> usize {
            self.1.len() / self.0
        }
        fn columns(&self) -> usize {
            self.0
        }
        fn read(&self, row: usize, from: usize, out: &mut [f64]) {
            out.copy_from_slice(&self.1[row * self.0 + from..][..out.len()]);
        }
    }

    #[test]
    fn is_the_plain_sum_to_the_last_bit() {
        for (n, d) in [(1, 1), (3, 300), (70, 9), (65, 513)] {
            let table = Table(d, (0..n * d).map(|i| ((i * 2654435761) % 1000) as f64 / 333.0 - 1.5).collect());
            let product = gram(&table);
            for i in 0..n {
                for j in 0..n {
                    let sum = (0..d).fold(0.0, |s, k| s + table.1[i * d + k] * table.1[j * d + k]);
                    assert_eq!(product.row(i)[j], sum, "n={n} d={d} entry {i},{j}");
                }
            }
        }
    }

    #[test]
    fn without_drops_a_row_and_a_column() {
        let matrix = Matrix { size: 3, data: (0..9).map(f64::from).collect() };
        assert_eq!(matrix.without(1), Matrix { size: 2, data: vec![0.0, 2.0, 6.0, 8.0] });
    }
}
