//! A unit vector for every filter of a contraction.
//!
//! Guarantees: a vector has norm 1, or is zero where the filter is all zero or not finite: it then resembles no other
//! and takes no part in any sum. Filters that are powers of two apart have the same vector to the last bit.
//! How: **spatial** is the published representation. A filter is a matrix `A` of `taps x in_channels`; of its singular
//! value decomposition the first term `u_1 v_1^T` is taken, and of that the first column over its norm,
//! `n = sign(v_1[0]) u_1`, one number for each tap. **Filter** is all weights over their norm.
//!
//! With one tap `u_1` is the number 1 and `n` is the sign of the first weight, so the spatial representation says
//! nothing by construction, and whole filters are used whether it was asked for or not. Two taps are enough for it to
//! mean something.

use super::gram::Rows;
use super::rank_one::RankOne;
use super::{Filters, Representation};
use pulp::Arch;
use rayon::prelude::*;

/// The unit vectors that stand for the filters of one contraction.
#[derive(Debug, Clone)]
pub struct Representatives<'a> {
    vectors: Vectors<'a>,
    count: usize,
    length: usize,
    /// Filters that hold an infinity or a NaN, and count as zero.
    not_finite: usize,
    /// Filters all of whose weights are zero.
    zero: usize,
}

#[derive(Debug, Clone)]
enum Vectors<'a> {
    Spatial(Vec<f64>),
    /// The weights where they lie, and the reciprocal norm of each filter: copies in double precision would take twice
    /// the memory of the layer.
    Filter(&'a [f32], Vec<f64>),
}

impl<'a> Representatives<'a> {
    /// The representatives of all filters. `Spatial` is taken as asked unless there is one tap only; `Auto` is the
    /// same.
    pub fn new(filters: &'a Filters<'_>, asked: Representation) -> Self {
        let count = filters.filters;
        let norms: Vec<f64> = (0..count).into_par_iter().map(|i| norm(filters.filter(i))).collect();
        let not_finite = norms.iter().filter(|n| n.is_nan()).count();
        let zero = norms.iter().filter(|n| **n == 0.0).count();
        let whole = matches!(asked, Representation::Filter | Representation::Response);
        let spatial = !whole && filters.taps != 1;
        let (vectors, length) = if spatial {
            (Vectors::Spatial(spatial_vectors(filters, &norms)), filters.taps)
        } else {
            let reciprocal = norms.iter().map(|&n| if n > 0.0 { 1.0 / n } else { 0.0 }).collect();
            (Vectors::Filter(&filters.data, reciprocal), filters.weights_per_filter())
        };
        Self { vectors, count, length, not_finite, zero }
    }

    /// What was used: `Spatial` or `Filter`.
    pub fn representation(&self) -> Representation {
        match self.vectors {
            Vectors::Spatial(_) => Representation::Spatial,
            Vectors::Filter(..) => Representation::Filter,
        }
    }

    /// The unit vector of one filter.
    pub fn vector(&self, filter: usize) -> Vec<f64> {
        let mut out = vec![0.0; self.length];
        self.read(filter, 0, &mut out);
        out
    }
}

impl Rows for Representatives<'_> {
    fn rows(&self) -> usize {
        self.count
    }

    fn columns(&self) -> usize {
        self.length
    }

    fn read(&self, row: usize, from: usize, out: &mut [f64]) {
        let start = row * self.length + from;
        match &self.vectors {
            Vectors::Spatial(vectors) => out.copy_from_slice(&vectors[start..start + out.len()]),
            Vectors::Filter(weights, reciprocal) => {
                let factor = reciprocal[row];
                if factor == 0.0 {
                    // Not a product: zero times infinity is NaN.
                    out.fill(0.0);
                    return;
                }
                let weights = &weights[start..start + out.len()];
                out.iter_mut().zip(weights).for_each(|(o, &w)| *o = f64::from(w) * factor);
            }
        }
    }
}

/// The Euclidean norm; NaN if a weight is not finite.
pub(super) fn norm(filter: &[f32]) -> f64 {
    let mut sums = [0.0; 8];
    let (chunks, rest) = filter.as_chunks::<8>();
    for chunk in chunks {
        for l in 0..8 {
            sums[l] += f64::from(chunk[l]) * f64::from(chunk[l]);
        }
    }
    for (l, &w) in rest.iter().enumerate() {
        sums[l] += f64::from(w) * f64::from(w);
    }
    // No finite weight can overflow a sum of squares in double precision.
    let sum: f64 = sums.iter().sum();
    if sum.is_finite() { sum.sqrt() } else { f64::NAN }
}

fn spatial_vectors(filters: &Filters<'_>, norms: &[f64]) -> Vec<f64> {
    let taps = filters.taps;
    let mut vectors = vec![0.0; filters.filters * taps];
    if taps == 0 {
        return vectors;
    }
    let arch = Arch::new();
    vectors.par_chunks_mut(taps).enumerate().with_min_len(8).for_each_init(RankOne::default, |rank_one, (i, out)| {
        if norms[i] > 0.0 {
            rank_one.direction(filters.filter(i), norms[i], taps, out, arch);
        }
    });
    vectors
}

/// The representation a group was given, and the reason in words. `Spatial` if at least one member has it.
pub(super) fn account(members: &[Representatives<'_>], asked: Representation) -> (Option<Representation>, String) {
    let whole = members.iter().filter(|m| m.representation() == Representation::Filter).count();
    let (used, mut reason) = if asked == Representation::Response {
        (asked, "what the readers of each channel see of it, as asked".to_owned())
    } else if asked == Representation::Filter {
        (Representation::Filter, "whole filters, as asked".to_owned())
    } else if whole == 0 {
        let why = if asked == Representation::Spatial { "as asked" } else { "the published representation" };
        (Representation::Spatial, format!("direction of each filter's rank-1 approximation over its taps, {why}"))
    } else {
        let degenerate = "1x1 kernels: every rank-1 representative is +1 or -1, whole filters used";
        if whole == members.len() {
            let despite = if asked == Representation::Spatial { " although spatial was asked for" } else { "" };
            (Representation::Filter, format!("{degenerate}{despite}"))
        } else {
            let some = format!("spatial, but {whole} of {} members have {degenerate} for them", members.len());
            (Representation::Spatial, some)
        }
    };
    let mut remark = |count: usize, what: &str| {
        if count > 0 {
            let (filters, are) = if count == 1 { ("filter", "is") } else { ("filters", "are") };
            reason.push_str(&format!("; {count} {filters} {are} {what}"));
        }
    };
    remark(members.iter().map(|m| m.zero).sum(), "all zero and similar to none");
    remark(members.iter().map(|m| m.not_finite).sum(), "not finite and treated as zero");
    (Some(used), reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    fn filters(data: &[f32], filters: usize, in_channels: usize, taps: usize) -> Filters<'_> {
        Filters { data: Cow::Borrowed(data), filters, in_channels, taps }
    }

    #[test]
    fn one_tap_falls_back_and_says_so() {
        let data = [3.0, 4.0, -1.0, 0.0];
        let f = filters(&data, 2, 2, 1);
        for asked in [Representation::Auto, Representation::Spatial] {
            let r = Representatives::new(&f, asked);
            assert_eq!(r.representation(), Representation::Filter);
            assert_eq!(r.vector(1), [-1.0, 0.0]);
            let (used, reason) = account(&[r], asked);
            assert_eq!(used, Some(Representation::Filter));
            assert!(reason.starts_with("1x1 kernels: every rank-1 representative is +1 or -1"), "{reason}");
            assert_eq!(reason.contains("although"), asked == Representation::Spatial);
        }
    }

    #[test]
    fn zero_and_infinite_filters_are_zero_vectors() {
        let data = [0.0, 0.0, 1.0, f32::NAN, f32::INFINITY, 1.0, 1.0, f32::MAX];
        for taps in [1, 2] {
            let f = filters(&data, 4, 2 / taps, taps);
            let r = Representatives::new(&f, Representation::Auto);
            assert_eq!((0..3).map(|i| r.vector(i)).collect::<Vec<_>>(), vec![vec![0.0; 2]; 3]);
            assert!((r.vector(3)[1] - 1.0).abs() < 1e-12);
            let (_, reason) = account(&[r], Representation::Auto);
            assert!(
                reason.ends_with(
                    "; 1 filter is all zero and similar to none; 2 filters are not finite and treated as zero"
                ),
                "{reason}"
            );
        }
    }
}
