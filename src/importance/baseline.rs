//! Criteria that a centrality has to beat: norms, distances, chance.
//!
//! Guarantees: sums over all members of the group and all filters of a class; a filter that is not finite counts as
//! zero, as it does for the centralities. Larger is better here, so that [`rank`](super::rank) negates them.
//!
//! "Geometric median" pruning (FPGM, He et al., CVPR 2019) is the sum of distances to the other filters. A script that
//! goes by the name with a geometric *mean* of absolute weights computes something else, which is not offered.

use super::gram::{Matrix, Rows};
use super::representation::norm;
use super::similarity::class_sums;
use super::{Filters, Member};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// `sum |w|` (Li et al., "Pruning filters for efficient convnets", ICLR 2017).
pub fn l1(members: &[Member<'_>], classes: usize) -> Vec<f64> {
    sum_over_filters(members, classes, |filter| filter.iter().map(|w| f64::from(w.abs())).sum())
}

/// `sqrt(sum w^2)` of each filter; of several filters the norms are added.
pub fn l2(members: &[Member<'_>], classes: usize) -> Vec<f64> {
    sum_over_filters(members, classes, norm)
}

fn sum_over_filters(members: &[Member<'_>], classes: usize, size: impl Fn(&[f32]) -> f64) -> Vec<f64> {
    let of_class = |member: &Member<'_>, class: usize| -> f64 {
        let sizes = member.classes[class].iter().map(|&f| size(member.filters.filter(f as usize)));
        sizes.filter(|s| s.is_finite()).sum()
    };
    (0..classes).map(|class| members.iter().map(|m| of_class(m, class)).sum()).collect()
}

/// The weights as they are, zero where a filter is not finite.
struct Weights<'a> {
    filters: &'a Filters<'a>,
    finite: Vec<bool>,
}

impl Rows for Weights<'_> {
    fn rows(&self) -> usize {
        self.filters.filters
    }

    fn columns(&self) -> usize {
        self.filters.weights_per_filter()
    }

    fn read(&self, row: usize, from: usize, out: &mut [f64]) {
        if !self.finite[row] {
            out.fill(0.0);
            return;
        }
        let weights = &self.filters.filter(row)[from..from + out.len()];
        out.iter_mut().zip(weights).for_each(|(o, &w)| *o = f64::from(w));
    }
}

/// Euclidean distances between the filters of any two classes, summed over the pairs and the members; FPGM's score is
/// the sum of a row without the diagonal, and the least goes first.
///
/// By `|a - b|^2 = |a|^2 + |b|^2 - 2 a.b` in double precision: identical filters are at distance 0 exactly, others
/// that differ by less than `1e-8` of their size may be.
pub fn distances(members: &[Member<'_>], classes: usize) -> Matrix {
    let mut total = Matrix::filled(classes, 0.0);
    for member in members {
        let filters = &member.filters;
        let finite = (0..filters.filters).map(|i| norm(filters.filter(i)).is_finite()).collect();
        let rows = Weights { filters, finite };
        let part = class_sums(&rows, &member.classes, |aa, bb, ab| (aa + bb - 2.0 * ab).max(0.0).sqrt());
        total.entries_mut().iter_mut().zip(part.entries()).for_each(|(t, p)| *t += p);
    }
    total
}

/// One draw from `[0, 1)` a class: ChaCha8 from the seed, independent of the weights.
pub fn random(classes: usize, seed: u64) -> Vec<f64> {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    (0..classes).map(|_| (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64).collect()
}
