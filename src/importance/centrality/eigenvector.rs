//! Eigenvector centrality.
//!
//! Guarantees: non-negative, Euclidean norm 1. A graph without an edge gives equal entries.
//! How: power iteration on `A + I` from equal entries; the shift keeps the eigenvectors and makes the dominant
//! eigenvalue the largest in size, even on bipartite graphs. It stops when no entry moves by more than `1e-13`. Where
//! two parts of the graph are hardly connected and equally strong, the dominant vector is ill-defined and convergence
//! slow; the iteration then ends after a fixed number of steps, with what a start from equal entries favours.

use crate::importance::gram::{Matrix, dot};
use rayon::prelude::*;

/// Enough for a gap between the two largest eigenvalues of 1 %; a step takes 2 ms for 2,048 nodes.
const STEPS: usize = 3000;
const STILL: f64 = 1e-13;

/// The dominant eigenvector of the matrix of weights (non-negative: pass absolute similarities) without its diagonal
/// (Bonacich 1972; networkx's `eigenvector_centrality`).
pub fn eigenvector(similarity: &Matrix) -> Vec<f64> {
    let n = similarity.size();
    let mut current = vec![1.0 / (n.max(1) as f64).sqrt(); n];
    let mut next = vec![0.0; n];
    for _ in 0..STEPS {
        next.par_iter_mut().enumerate().with_min_len(64).for_each(|(i, value)| {
            let row = similarity.row(i);
            *value = dot(row, &current) + (1.0 - row[i]) * current[i];
        });
        let norm = dot(&next, &next).sqrt();
        next.iter_mut().for_each(|v| *v /= norm);
        let moved = next.iter().zip(&current).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        std::mem::swap(&mut current, &mut next);
        if moved <= STILL {
            break;
        }
    }
    current
}
