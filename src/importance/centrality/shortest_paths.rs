//! Shortest paths from one node of a dense graph, and how many of them lead through each other node.
//!
//! Guarantees: exact distances for lengths that are not negative; two paths are equally short if their lengths differ
//! by less than [`EQUAL`] of themselves.
//! How: Dijkstra's algorithm without a heap: a step scans one row of the matrix, lowers the distances and finds the
//! next node in the same pass, in vector instructions. A node is expanded only if its nearest neighbour could still
//! be on a shortest path to the farthest open node, and the search ends when that holds for none: on similarity
//! graphs, where some edges are short and many long, this leaves few expansions of the `n` possible.

use crate::importance::gram::Matrix;
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

/// How far, relative to themselves, the lengths of two equally short paths may differ.
pub(super) const EQUAL: f64 = 1e-11;
const LANES: usize = 8;

/// Edge lengths, infinite where there is no edge and on the diagonal. Rows are padded to whole vectors, also with
/// infinity.
pub(super) struct Lengths {
    nodes: usize,
    rows: Vec<[f64; LANES]>,
    /// The shortest edge of each node, and of all.
    shortest: Vec<f64>,
    least: f64,
    arch: Arch,
}

impl Lengths {
    /// Takes `length` of every similarity off the diagonal.
    pub fn new(similarity: &Matrix, length: impl Fn(f64) -> f64 + Sync) -> Self {
        let nodes = similarity.size();
        let width = nodes.div_ceil(LANES);
        let mut rows = vec![[f64::INFINITY; LANES]; nodes * width];
        let fill = |(i, row): (usize, &mut [[f64; LANES]])| {
            for (j, &s) in similarity.row(i).iter().enumerate().filter(|&(j, _)| j != i) {
                row[j / LANES][j % LANES] = length(s);
            }
            row.as_flattened().iter().copied().fold(f64::INFINITY, f64::min)
        };
        let shortest: Vec<f64> = rows.par_chunks_mut(width.max(1)).enumerate().map(fill).collect();
        let least = shortest.iter().copied().fold(f64::INFINITY, f64::min);
        Self { nodes, rows, shortest, least, arch: Arch::new() }
    }

    pub fn nodes(&self) -> usize {
        self.nodes
    }

    fn row(&self, i: usize) -> &[[f64; LANES]] {
        let width = self.nodes.div_ceil(LANES);
        &self.rows[i * width..(i + 1) * width]
    }
}

/// The state of a search, reused from source to source.
#[derive(Default)]
pub(super) struct Search {
    /// Distances of settled nodes; of open ones the shortest known, which at the end is the distance too.
    distances: Vec<f64>,
    /// Known distances of open nodes, infinity for settled ones.
    open: Vec<[f64; LANES]>,
    /// 0 for open nodes, infinity for settled ones.
    settled: Vec<[f64; LANES]>,
    /// Nodes in the order in which they were settled, without those that no path leads through.
    order: Vec<u32>,
    /// Where in that order a node is; those that are not in it come after all that are.
    position: Vec<u32>,
    /// Distances that count as shortest: the final ones and a margin for rounding.
    ends: Vec<[f64; LANES]>,
    paths: Vec<f64>,
    dependency: Vec<f64>,
    /// Last steps of shortest paths, from and to.
    steps: Vec<(u32, u32)>,
}

impl Search {
    /// The length of the shortest path to each node, infinite where there is none.
    pub fn distances(&self) -> &[f64] {
        &self.distances
    }

    pub fn run(&mut self, lengths: &Lengths, source: usize) {
        lengths.arch.dispatch(Run { search: self, lengths, source });
    }

    #[inline(always)]
    fn run_inline(&mut self, lengths: &Lengths, source: usize) {
        let n = lengths.nodes;
        let width = n.div_ceil(LANES);
        refill(&mut self.distances, n, f64::INFINITY);
        refill(&mut self.open, width, [f64::INFINITY; LANES]);
        refill(&mut self.settled, width, [0.0; LANES]);
        // The padding counts as settled.
        self.settled.as_flattened_mut()[n..].fill(f64::INFINITY);
        self.order.clear();
        let mut node = source;
        let mut distance = 0.0;
        let mut farthest = f64::INFINITY;
        loop {
            self.distances[node] = distance;
            self.open[node / LANES][node % LANES] = f64::INFINITY;
            self.settled[node / LANES][node % LANES] = f64::INFINITY;
            if distance + lengths.shortest[node] <= farthest * (1.0 + EQUAL) {
                self.order.push(node as u32);
                relax(&mut self.open, &self.settled, lengths.row(node), distance);
            }
            let (nearest, far) = extremes(&self.open, &self.settled);
            farthest = far;
            if nearest == f64::INFINITY || nearest + lengths.least > farthest * (1.0 + EQUAL) {
                break;
            }
            node = find(&self.open, nearest);
            distance = nearest;
        }
        // No path leads through those still open, so what is known of them is final.
        for (distance, open) in self.distances.iter_mut().zip(self.open.as_flattened()) {
            *distance = distance.min(*open);
        }
    }

    /// Adds to `sum` what the shortest paths from the source of the last run contribute to each node's betweenness.
    pub fn add_dependencies(&mut self, lengths: &Lengths, source: usize, sum: &mut [f64]) {
        lengths.arch.dispatch(AddDependencies { search: self, lengths, source, sum });
    }

    #[inline(always)]
    fn add_dependencies_inline(&mut self, lengths: &Lengths, source: usize, sum: &mut [f64]) {
        let n = lengths.nodes;
        let width = n.div_ceil(LANES);
        refill(&mut self.position, n, u32::MAX);
        for (place, &node) in self.order.iter().enumerate() {
            self.position[node as usize] = place as u32;
        }
        // Nothing leads to what cannot be reached, nor to the padding: no path is shorter than zero.
        refill(&mut self.ends, width, [-1.0; LANES]);
        for (end, &d) in self.ends.as_flattened_mut().iter_mut().zip(&self.distances) {
            *end = if d.is_finite() { d * (1.0 + EQUAL) } else { -1.0 };
        }
        refill(&mut self.paths, n, 0.0);
        refill(&mut self.dependency, n, 0.0);
        self.paths[source] = 1.0;
        self.steps.clear();
        for (place, &from) in self.order.iter().enumerate() {
            let start = self.distances[from as usize];
            for (block, (edges, ends)) in lengths.row(from as usize).iter().zip(&self.ends).enumerate() {
                let mut hit = false;
                for l in 0..LANES {
                    hit |= start + edges[l] <= ends[l];
                }
                if !hit {
                    continue;
                }
                for l in (0..LANES).filter(|&l| start + edges[l] <= ends[l]) {
                    let to = block * LANES + l;
                    // Between nodes closer than rounding, a step leads from the one settled first.
                    if self.position[to] > place as u32 {
                        self.paths[to] += self.paths[from as usize];
                        self.steps.push((from, to as u32));
                    }
                }
            }
        }
        for &(from, to) in self.steps.iter().rev() {
            let (from, to) = (from as usize, to as usize);
            self.dependency[from] += self.paths[from] / self.paths[to] * (1.0 + self.dependency[to]);
        }
        for (node, (total, dependency)) in sum.iter_mut().zip(&self.dependency).enumerate() {
            *total += if node == source { 0.0 } else { *dependency };
        }
    }
}

/// The arguments of [`Search::run`]. Types and no closures: the compiler's shim around a closure is not inlined into
/// the function that may use wide vectors, and then none are.
struct Run<'a> {
    search: &'a mut Search,
    lengths: &'a Lengths,
    source: usize,
}

impl NullaryFnOnce for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.search.run_inline(self.lengths, self.source);
    }
}

/// The arguments of [`Search::add_dependencies`].
struct AddDependencies<'a> {
    search: &'a mut Search,
    lengths: &'a Lengths,
    source: usize,
    sum: &'a mut [f64],
}

impl NullaryFnOnce for AddDependencies<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.search.add_dependencies_inline(self.lengths, self.source, self.sum);
    }
}

fn refill<T: Copy>(values: &mut Vec<T>, length: usize, value: T) {
    values.clear();
    values.resize(length, value);
}

/// Lowers the known distances of open nodes to those through a node at `distance` with these edges.
#[inline(always)]
fn relax(open: &mut [[f64; LANES]], settled: &[[f64; LANES]], edges: &[[f64; LANES]], distance: f64) {
    for ((open, settled), edges) in open.iter_mut().zip(settled).zip(edges) {
        for l in 0..LANES {
            let through = distance + edges[l] + settled[l];
            open[l] = if through < open[l] { through } else { open[l] };
        }
    }
}

/// The lowest index of an open node at this distance.
#[inline(always)]
fn find(open: &[[f64; LANES]], distance: f64) -> usize {
    for (block, open) in open.iter().enumerate() {
        let mut here = false;
        for &known in open {
            here |= known == distance;
        }
        if here {
            return block * LANES + open.iter().position(|&d| d == distance).unwrap_or(0);
        }
    }
    0
}

/// The least and the greatest known distance of open nodes.
#[inline(always)]
fn extremes(open: &[[f64; LANES]], settled: &[[f64; LANES]]) -> (f64, f64) {
    let mut least = [f64::INFINITY; LANES];
    let mut greatest = [0.0; LANES];
    for (open, settled) in open.iter().zip(settled) {
        for l in 0..LANES {
            least[l] = if open[l] < least[l] { open[l] } else { least[l] };
            let known = if settled[l] == 0.0 { open[l] } else { 0.0 };
            greatest[l] = if known > greatest[l] { known } else { greatest[l] };
        }
    }
    (least.into_iter().fold(f64::INFINITY, f64::min), greatest.into_iter().fold(0.0, f64::max))
}
