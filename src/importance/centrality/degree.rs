//! Weighted degree: the published criterion.
//!
//! Guarantees: `d_i = sum over j != i of S_ij`, summed by ascending `j`; works for signed weights.
//! For signed similarities [`signed_degree`](crate::importance::similarity::signed_degree) gives the same without the
//! matrix.

use crate::importance::gram::Matrix;

/// Weighted degree, `d_i = sum over j != i of S_ij` (King, Singh and Plumbley 2023).
///
/// The sum of a row is taken in order, so that two nodes with equal rows may differ by rounding; ties are for
/// [`rank`](crate::importance::rank) to settle.
pub fn degree(similarity: &Matrix) -> Vec<f64> {
    (0..similarity.size())
        .map(|i| {
            let row = similarity.row(i);
            row[..i].iter().sum::<f64>() + row[i + 1..].iter().sum::<f64>()
        })
        .collect()
}
