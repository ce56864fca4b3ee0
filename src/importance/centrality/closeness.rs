//! Closeness: the reciprocal of the mean length of the shortest paths to the others.
//!
//! Guarantees: finite; a node that reaches nothing, or everything at distance 0, scores 0, as networkx has it.
//! The paper does not define it. The sound reading's distance is `1 / |cos|`: it is at least 1, so duplicates count as
//! near without drowning all else, it is the length that betweenness uses, and filters without similarity are not
//! connected. The other's is the usual `1 - |cos|`, under which a filter's score is dominated by how many exact
//! duplicates it has, and a layer of duplicates only scores 0.

use super::shortest_paths::{Lengths, Search};
use crate::importance::Reading;
use crate::importance::gram::Matrix;
use rayon::prelude::*;

/// `C_i = (r - 1) / (sum of distances to the r - 1 nodes that i reaches) * (r - 1) / (n - 1)` (Freeman 1979, with
/// Wasserman and Faust's factor for graphs that are not connected; networkx's `closeness_centrality`).
///
/// Distances are lengths of shortest paths, over edges of length `1 / |cos|` (sound) or `max(0, 1 - |cos|)`
/// (published).
pub fn closeness(similarity: &Matrix, reading: Reading) -> Vec<f64> {
    let lengths = match reading {
        Reading::Sound => Lengths::new(similarity, |s| 1.0 / s.abs()),
        Reading::Published => Lengths::new(similarity, |s| (1.0 - s.abs()).max(0.0)),
    };
    let n = lengths.nodes();
    (0..n)
        .into_par_iter()
        .map_init(Search::default, |search, source| {
            search.run(&lengths, source);
            let reached = search.distances().iter().filter(|d| d.is_finite()).count() as f64 - 1.0;
            let total: f64 = search.distances().iter().filter(|d| d.is_finite()).sum();
            if total > 0.0 { reached / total * (reached / (n as f64 - 1.0)) } else { 0.0 }
        })
        .collect()
}
