//! How dispensable each filter of a layer, or each channel of a coupled group, is.
//!
//! Guarantees: [`rank`] is a pure function of its arguments. The same weights give the same bits whatever the number
//! of threads and whichever vector instructions the machine has: no sum's order depends on either, and no fused
//! multiply-add is used. Ties go to the lowest index (the rule is [`Ranking::order`]'s). No score is ever NaN: filters
//! that are zero or hold an infinity or a NaN stand for nothing and resemble nothing, and the reason says how many.
//! Refuses: nothing that comes from a file; inconsistent lengths are a caller's mistake and panic (see [`rank`]).
//! How: a filter becomes a unit vector ([`representation`]), vectors become a similarity graph ([`similarity`]), and a
//! graph gives each node a centrality ([`centrality`]). The hypothesis is that of King, Singh and Plumbley,
//! "Compressing audio CNNs with graph centrality based filter pruning" (WASPAA 2023, arXiv 2305.03391): a filter with
//! *high* centrality is common, others can stand in for it, so it goes first. [`baseline`] holds the criteria to
//! compare with; `order` turns scores into an order of removal.
//!
//! This module knows nothing of ONNX: it sees numbers.

pub mod baseline;
pub mod centrality;
pub mod gram;
mod inverse;
mod options;
mod order;
mod rank_one;
pub mod reconstruction;
pub mod representation;
pub mod similarity;

pub use options::{Criterion, Options, ParseNameError, Reading, Representation, Similarity};

use gram::Matrix;
pub use inverse::inverse;
pub use order::Quotas;
use order::Ties;
use representation::Representatives;
use std::borrow::Cow;

/// The filters of one contraction, row-major `[filters][in_channels][taps]`.
///
/// `taps` is the product of the kernel's extents: 9 for 3x3, 1 for a dense layer. `in_channels` counts the channels
/// that one filter reads, so 1 for a depthwise convolution.
#[derive(Debug, Clone)]
pub struct Filters<'a> {
    /// The weights.
    pub data: Cow<'a, [f32]>,
    /// How many filters.
    pub filters: usize,
    /// Channels that each filter reads.
    pub in_channels: usize,
    /// Kernel positions of each filter.
    pub taps: usize,
}

impl Filters<'_> {
    /// The number of weights of one filter.
    pub fn weights_per_filter(&self) -> usize {
        self.in_channels * self.taps
    }

    /// The weights of filter `i`, row-major `[in_channels][taps]`.
    pub fn filter(&self, i: usize) -> &[f32] {
        let size = self.weights_per_filter();
        &self.data[i * size..(i + 1) * size]
    }
}

/// One contraction of a coupled group.
#[derive(Debug, Clone)]
pub struct Member<'a> {
    /// The contraction's filters.
    pub filters: Filters<'a>,
    /// For every class (prunable channel) of the group, the filters that belong to it: often one, possibly none or
    /// several.
    pub classes: Vec<Vec<u32>>,
}

/// What [`rank`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// One number a class in the criterion's own units, **higher is removed first**, before any removal.
    ///
    /// For a centrality it is the centrality itself (for degree exactly the published sum), for L1, L2 and FPGM the
    /// negated norm or distance, for random the draw. With [`Options::keep_central`] all are negated.
    pub scores: Vec<f64>,
    /// Classes in order of removal: as many as asked for, or all the removable ones if they are fewer.
    ///
    /// Tie rule: of the classes whose scores equal the highest up to rounding (`1e-11`, relative to the score or for
    /// cosine sums and path counts to 1, whichever is greater), the lowest index goes first.
    pub order: Vec<u32>,
    /// What stood for a filter; `None` if the criterion does not compare filters by direction. `Spatial` if at least
    /// one member was represented so.
    pub representation: Option<Representation>,
    /// Why that representation, and what was odd about the weights; for people to read.
    pub reason: String,
}

/// Ranks the classes of a coupled group (one layer is a group with one member) by how dispensable they are.
///
/// `quotas` say how many may go, and of which; the others still take part in the graph. As many are put in order, one
/// shot or one at a time as [`Options::one_at_a_time`] says. With one member and one filter a class this is
/// the published procedure; [`similarity`] and [`baseline`] say how several members and filters are combined.
///
/// Cost for `n` classes of `d` weights: norms, random and signed one-shot degree `O(n d)`; all else first builds an
/// `n x n` matrix in `O(n^2 d)` (`d` is the number of taps for spatial representatives). Betweenness and closeness are
/// then `O(n^3)` at worst and far less on graphs with short and long edges. One at a time, degree and FPGM add
/// `O(n)` a removal; betweenness, closeness and eigenvector start anew at each, so `O(n^4)` at worst: minutes beyond
/// a few hundred classes.
///
/// # Panics
/// If the length of a member's `data` is not `filters * in_channels * taps`, its `classes` and the quotas differ in
/// length, or a class names a filter that does not exist.
pub fn rank(members: &[Member<'_>], quotas: &Quotas, options: &Options) -> Ranking {
    check(members, quotas.classes());
    let sign = if options.keep_central { -1.0 } else { 1.0 };
    let graph = Graph::new(members, quotas.classes(), options);
    let scores: Vec<f64> = graph.scores().into_iter().map(|s| s * sign + 0.0).collect();
    let ties = options.criterion.ties();
    let order = if options.one_at_a_time {
        graph.one_at_a_time(&scores, quotas, sign, ties)
    } else {
        order::one_shot(&scores, quotas, ties)
    };
    let (representation, reason) = graph.account();
    Ranking { scores, order, representation, reason }
}

fn check(members: &[Member<'_>], classes: usize) {
    for (m, member) in members.iter().enumerate() {
        let filters = &member.filters;
        let expected = filters.filters * filters.in_channels * filters.taps;
        assert_eq!(filters.data.len(), expected, "member {m}: filters x in_channels x taps is {expected}");
        assert_eq!(member.classes.len(), classes, "member {m}: one list of filters for each of {classes} classes");
        let inside = member.classes.iter().flatten().all(|&f| (f as usize) < filters.filters);
        assert!(inside, "member {m}: a class names a filter beyond the {} there are", filters.filters);
    }
}

impl Criterion {
    /// To what scores are compared when ties are looked for: sums of cosines and fractions of paths are rounded
    /// relative to 1, even where they cancel to almost nothing; norms and distances are rounded relative to
    /// themselves.
    fn ties(self) -> Ties {
        match self {
            Self::Degree | Self::Betweenness | Self::Eigenvector => Ties { unit: 1.0 },
            Self::Closeness | Self::L1 | Self::L2 | Self::Fpgm | Self::Random => Ties { unit: 0.0 },
            Self::Communality | Self::Reconstruction => Ties { unit: 0.0 },
        }
    }

    /// Whether a channel is judged by what its readers lose with it.
    pub fn is_by_readers(self) -> bool {
        matches!(self, Self::Communality | Self::Reconstruction)
    }

    /// Whether filters are compared by direction, so that a representation has to be chosen.
    pub fn is_centrality(self) -> bool {
        matches!(self, Self::Degree | Self::Betweenness | Self::Closeness | Self::Eigenvector)
    }
}

/// A group together with what its criterion needs to be evaluated, and evaluated again after a removal.
struct Graph<'a> {
    members: &'a [Member<'a>],
    representatives: Vec<Representatives<'a>>,
    classes: usize,
    options: Options,
}

impl<'a> Graph<'a> {
    fn new(members: &'a [Member<'a>], classes: usize, options: &Options) -> Self {
        let representatives = if options.criterion.is_centrality() {
            members.iter().map(|m| Representatives::new(&m.filters, options.representation)).collect()
        } else {
            Vec::new()
        };
        Self { members, representatives, classes, options: *options }
    }

    fn similarity(&self, kind: Similarity) -> Matrix {
        similarity::matrix(self.members, &self.representatives, self.classes, kind)
    }

    /// The scores of all classes, before removal and before the sign of [`Options::keep_central`].
    fn scores(&self) -> Vec<f64> {
        let seed = self.options.seed;
        match (self.options.criterion, self.options.similarity) {
            (Criterion::Degree, Similarity::Signed) => {
                similarity::signed_degree(self.members, &self.representatives, self.classes)
            }
            (Criterion::Degree, Similarity::Absolute) => centrality::degree(&self.similarity(Similarity::Absolute)),
            (Criterion::Betweenness | Criterion::Closeness | Criterion::Eigenvector, _) => {
                self.centrality(&self.similarity(Similarity::Absolute))
            }
            (Criterion::L1, _) => negated(baseline::l1(self.members, self.classes)),
            (Criterion::L2, _) => negated(baseline::l2(self.members, self.classes)),
            (Criterion::Fpgm, _) => negated(centrality::degree(&baseline::distances(self.members, self.classes))),
            (Criterion::Random, _) => baseline::random(self.classes, seed),
            // These go by a layer's readers, which are not to be seen from here: see `reconstruction`.
            (Criterion::Communality | Criterion::Reconstruction, _) => vec![0.0; self.classes],
        }
    }

    /// A centrality of the graph with these absolute similarities that has to be computed anew after a removal.
    fn centrality(&self, similarity: &Matrix) -> Vec<f64> {
        match self.options.criterion {
            Criterion::Betweenness => centrality::betweenness(similarity, self.options.reading),
            Criterion::Closeness => centrality::closeness(similarity, self.options.reading),
            _ => centrality::eigenvector(similarity),
        }
    }

    fn one_at_a_time(&self, scores: &[f64], quotas: &Quotas, sign: f64, ties: Ties) -> Vec<u32> {
        match self.options.criterion {
            // A sum over the neighbours loses the term of the one that went.
            Criterion::Degree => {
                let weights = self.similarity(self.options.similarity);
                order::subtracting(scores, quotas, ties, |gone, other| sign * weights.row(gone)[other])
            }
            Criterion::Fpgm => {
                let distances = baseline::distances(self.members, self.classes);
                order::subtracting(scores, quotas, ties, |gone, other| -sign * distances.row(gone)[other])
            }
            // Without neighbours there is nothing to update.
            Criterion::L1 | Criterion::L2 | Criterion::Random | Criterion::Communality | Criterion::Reconstruction => {
                order::one_shot(scores, quotas, ties)
            }
            Criterion::Betweenness | Criterion::Closeness | Criterion::Eigenvector => {
                let mut weights = self.similarity(Similarity::Absolute);
                order::recomputing(scores, quotas, ties, |gone| {
                    weights = weights.without(gone);
                    self.centrality(&weights).into_iter().map(|s| s * sign).collect()
                })
            }
        }
    }

    /// The representation used and the reason, in words.
    fn account(&self) -> (Option<Representation>, String) {
        if !self.options.criterion.is_centrality() {
            let reason = format!("{} compares no directions: no representation is needed", self.options.criterion);
            return (None, reason);
        }
        representation::account(&self.representatives, self.options.representation)
    }
}

fn negated(mut values: Vec<f64>) -> Vec<f64> {
    // Adding zero turns -0 into 0, which prints without a sign.
    values.iter_mut().for_each(|v| *v = 0.0 - *v);
    values
}
