//! Betweenness: how many shortest paths between others lead through a node.
//!
//! Guarantees: networkx's `betweenness_centrality` (normalised, undirected, end points not counted) on the same
//! lengths. Paths whose lengths differ by less than `1e-11` of themselves are equally short, where networkx compares
//! bits: on paper the paths through two duplicates tie, and which of them rounding favours must not matter.
//! How: Brandes' accumulation over one dense search for each source. Sources are taken in chunks of fixed size, whose
//! sums are added in order, so that the number of threads cannot change a bit.

use super::shortest_paths::{Lengths, Search};
use crate::importance::Reading;
use crate::importance::gram::Matrix;
use rayon::prelude::*;

/// Sources whose contributions are summed by one task. Part of the definition of the result's rounding: not to be
/// derived from the number of threads.
const SOURCES: usize = 16;

/// `B_v = sum over s != v != t of (shortest s-t paths through v) / (shortest s-t paths)`, over the
/// `(n - 1)(n - 2)` ordered pairs (Freeman 1977; U. Brandes, "A faster algorithm for betweenness centrality", 2001).
///
/// The sound reading's length of an edge is `1 / |cos|`: similar filters are near, so a filter is between others if
/// it resembles both more than they resemble each other. The published one's is `|cos|`, the similarity itself passed
/// as length as the authors' script does, by which a filter is between others that it does *not* resemble; the
/// script's signed cosines are negative lengths, for which shortest paths do not exist, so the absolute value is taken.
/// Similarity 0 is no edge in both.
///
/// `O(n^3)` at worst; most sources need only the few nodes near them expanded.
pub fn betweenness(similarity: &Matrix, reading: Reading) -> Vec<f64> {
    let no_edge = |s: f64, length: f64| if s == 0.0 { f64::INFINITY } else { length };
    let lengths = match reading {
        Reading::Sound => Lengths::new(similarity, |s| no_edge(s, 1.0 / s.abs())),
        Reading::Published => Lengths::new(similarity, |s| no_edge(s, s.abs())),
    };
    let n = lengths.nodes();
    let parts: Vec<Vec<f64>> = (0..n.div_ceil(SOURCES))
        .into_par_iter()
        .map_init(Search::default, |search, chunk| {
            let mut sum = vec![0.0; n];
            for source in chunk * SOURCES..n.min((chunk + 1) * SOURCES) {
                search.run(&lengths, source);
                search.add_dependencies(&lengths, source, &mut sum);
            }
            sum
        })
        .collect();
    let mut total = vec![0.0; n];
    for part in parts {
        total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
    }
    let pairs = (n.saturating_sub(1) * n.saturating_sub(2)).max(1) as f64;
    total.iter_mut().for_each(|t| *t /= pairs);
    total
}
