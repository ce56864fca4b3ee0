//! The similarity graph: cosines between the classes of a group.
//!
//! Guarantees: symmetric to the last bit, between -1 and 1, never NaN; with one member and one filter a class exactly
//! the published matrix `S_ij = n_i . n_j` (King, Singh and Plumbley 2023).
//! How several are combined: `S_ij` is the mean over the members in which both classes have filters of the mean
//! cosine (absolute: of the mean `|cos|`) between the filters of the one class and those of the other; 0 if no member
//! has both, or if either filter is zero. The mean cosine is the inner product of the mean vectors, so signed
//! similarities cost no more for classes of several filters; absolute ones take a matrix of all the filters.

use super::gram::{Matrix, Rows, dot, gram};
use super::representation::Representatives;
use super::{Member, Similarity};
use rayon::prelude::*;

/// The mean vectors of the classes of one member.
struct ClassMeans<'a> {
    vectors: &'a Representatives<'a>,
    classes: &'a [Vec<u32>],
}

impl Rows for ClassMeans<'_> {
    fn rows(&self) -> usize {
        self.classes.len()
    }

    fn columns(&self) -> usize {
        self.vectors.columns()
    }

    fn read(&self, row: usize, from: usize, out: &mut [f64]) {
        match self.classes[row].as_slice() {
            [] => out.fill(0.0),
            &[one] => self.vectors.read(one as usize, from, out),
            several => {
                let mut vector = vec![0.0; out.len()];
                out.fill(0.0);
                for &filter in several {
                    self.vectors.read(filter as usize, from, &mut vector);
                    out.iter_mut().zip(&vector).for_each(|(o, v)| *o += v);
                }
                out.iter_mut().for_each(|o| *o /= several.len() as f64);
            }
        }
    }
}

/// Chosen filters, one row each: those of all classes in order.
struct Chosen<'a, R> {
    rows: &'a R,
    chosen: Vec<u32>,
}

impl<R: Rows> Rows for Chosen<'_, R> {
    fn rows(&self) -> usize {
        self.chosen.len()
    }

    fn columns(&self) -> usize {
        self.rows.columns()
    }

    fn read(&self, row: usize, from: usize, out: &mut [f64]) {
        self.rows.read(self.chosen[row] as usize, from, out);
    }
}

/// The inner products of all filters of the classes, class by class; `apply` turns each into what is summed over the
/// pairs of two classes. It is given the products of a pair with itself and each other: `(aa, bb, ab)`.
pub(super) fn class_sums(
    rows: &impl Rows,
    classes: &[Vec<u32>],
    apply: impl Fn(f64, f64, f64) -> f64 + Sync,
) -> Matrix {
    let mut products = gram(&Chosen { rows, chosen: classes.iter().flatten().copied().collect() });
    let n = products.size();
    let squares: Vec<f64> = (0..n).map(|i| products.row(i)[i]).collect();
    products.entries_mut().par_chunks_mut(n.max(1)).enumerate().for_each(|(i, row)| {
        row.iter_mut().zip(&squares).for_each(|(v, &square)| *v = apply(squares[i], square, *v));
    });
    if classes.iter().all(|c| c.len() == 1) {
        return products;
    }
    let owners: Vec<usize> = classes.iter().enumerate().flat_map(|(c, filters)| vec![c; filters.len()]).collect();
    let mut sums = Matrix::filled(classes.len(), 0.0);
    for (i, &a) in owners.iter().enumerate() {
        for (&b, value) in owners.iter().zip(products.row(i)) {
            sums.row_mut(a)[b] += value;
        }
    }
    // A sum's order differs on the two sides of the diagonal; take one side for both.
    for a in 0..classes.len() {
        for b in 0..a {
            sums.row_mut(a)[b] = sums.row(b)[a];
        }
    }
    sums
}

/// The similarities of all pairs of classes. The diagonal is not an edge: the centralities pass over it.
pub fn matrix(members: &[Member<'_>], vectors: &[Representatives<'_>], classes: usize, kind: Similarity) -> Matrix {
    let mut total = Matrix::filled(classes, 0.0);
    let mut holders = Matrix::filled(if members.len() > 1 { classes } else { 0 }, 0.0);
    for (member, vectors) in members.iter().zip(vectors) {
        let single = member.classes.iter().all(|c| c.len() <= 1);
        let part = match kind {
            Similarity::Signed => gram(&ClassMeans { vectors, classes: &member.classes }),
            Similarity::Absolute if single => {
                let mut part = gram(&ClassMeans { vectors, classes: &member.classes });
                part.entries_mut().iter_mut().for_each(|v| *v = v.abs());
                part
            }
            Similarity::Absolute => {
                let mut sums = class_sums(vectors, &member.classes, |_, _, cosine| cosine.abs());
                for (i, own) in member.classes.iter().enumerate() {
                    for (v, other) in sums.row_mut(i).iter_mut().zip(&member.classes) {
                        *v /= (own.len() * other.len()).max(1) as f64;
                    }
                }
                sums
            }
        };
        if members.len() == 1 {
            total = part;
            break;
        }
        total.entries_mut().iter_mut().zip(part.entries()).for_each(|(t, p)| *t += p);
        for (i, _) in member.classes.iter().enumerate().filter(|(_, own)| !own.is_empty()) {
            for (h, other) in holders.row_mut(i).iter_mut().zip(&member.classes) {
                *h += f64::from(u8::from(!other.is_empty()));
            }
        }
    }
    if members.len() > 1 {
        total.entries_mut().iter_mut().zip(holders.entries()).for_each(|(t, &h)| *t /= h.max(1.0));
    }
    total.entries_mut().iter_mut().for_each(|v| *v = v.clamp(-1.0, 1.0));
    total
}

/// Weighted degree of the signed graph, `d_i = sum over j != i of S_ij`, without the matrix.
///
/// With one member `d_i = n_i . (sum of all n_j) - n_i . n_i`. With several, the number of members that two classes
/// share depends only on which members each is in, so classes are taken together by that, and each such set has one
/// sum a member.
pub fn signed_degree(members: &[Member<'_>], vectors: &[Representatives<'_>], classes: usize) -> Vec<f64> {
    let presence = |class: usize| -> Vec<bool> { members.iter().map(|m| !m.classes[class].is_empty()).collect() };
    let mut patterns: Vec<Vec<bool>> = (0..classes).map(presence).collect();
    patterns.sort();
    patterns.dedup();
    let pattern_of: Vec<usize> =
        (0..classes).map(|c| patterns.binary_search(&presence(c)).expect("it was collected")).collect();

    let mut degrees = vec![0.0; classes];
    for (m, (member, vectors)) in members.iter().zip(vectors).enumerate() {
        let rows = ClassMeans { vectors, classes: &member.classes };
        let length = rows.columns();
        let mut sums = vec![vec![0.0; length]; patterns.len()];
        let mut vector = vec![0.0; length];
        for class in (0..classes).filter(|&c| patterns[pattern_of[c]][m]) {
            rows.read(class, 0, &mut vector);
            sums[pattern_of[class]].iter_mut().zip(&vector).for_each(|(s, v)| *s += v);
        }
        degrees.par_iter_mut().enumerate().with_min_len(16).for_each_init(
            || vec![0.0; length],
            |vector, (class, degree)| {
                let own = pattern_of[class];
                if !patterns[own][m] {
                    return;
                }
                rows.read(class, 0, vector);
                for (other, sum) in sums.iter().enumerate().filter(|&(other, _)| patterns[other][m]) {
                    let shared = patterns[own].iter().zip(&patterns[other]).filter(|&(&a, &b)| a && b).count();
                    let itself = if own == other { dot(vector, vector) } else { 0.0 };
                    *degree += (dot(vector, sum) - itself) / shared as f64;
                }
            },
        );
    }
    degrees
}
