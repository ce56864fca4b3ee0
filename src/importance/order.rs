//! From scores to an order of removal.
//!
//! Guarantees: only removable classes appear, each once, and equal scores go by index, lowest first. Scores count as
//! equal when they differ by no more than rounding can explain, for a tie that holds on paper (two filters that are
//! multiples of each other) must not be decided by the last bit.
//! How: each step takes the lowest index among those that tie with the highest score; what the steps differ in is how
//! the scores of those that stay change.

/// How far rounding may pull apart two scores that are equal.
pub(super) const ROUNDING: f64 = 1e-11;

/// When two scores are a tie: `|a - b| <= ROUNDING * max(|a|, |b|, unit)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ties {
    /// The size of the terms a score is summed from, below which its own size says nothing of its rounding.
    pub unit: f64,
}

impl Ties {
    fn equal(self, a: f64, b: f64) -> bool {
        (a - b).abs() <= ROUNDING * a.abs().max(b.abs()).max(self.unit)
    }

    /// The candidate that goes next: the lowest index that ties with the highest score.
    pub(super) fn first(self, scores: &[f64], candidates: &[bool]) -> Option<usize> {
        let open = || scores.iter().zip(candidates).enumerate().filter(|(_, (_, c))| **c).map(|(i, (s, _))| (i, *s));
        let highest = open().map(|(_, s)| s).reduce(f64::max)?;
        open().find(|&(_, s)| self.equal(s, highest)).map(|(i, _)| i)
    }
}

/// How many may go: each class is in a bucket, and of each bucket no more than so many go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quotas {
    bucket: Vec<u32>,
    left: Vec<usize>,
}

impl Quotas {
    /// Class `i` is in `bucket[i]`, of which at most `most[bucket]` go.
    ///
    /// # Panics
    /// If a bucket has no quota.
    pub fn new(bucket: Vec<u32>, most: Vec<usize>) -> Self {
        assert!(bucket.iter().all(|&b| (b as usize) < most.len()), "each bucket has a quota");
        Self { bucket, left: most }
    }

    /// At most `remove` of those that are removable.
    pub fn of(removable: &[bool], remove: usize) -> Self {
        Self::new(removable.iter().map(|&r| u32::from(!r)).collect(), vec![remove, 0])
    }

    /// Takes a class out of its bucket, so that it stays.
    pub fn withhold(&mut self, class: usize) {
        let shut = self.left.iter().position(|&l| l == 0).unwrap_or_else(|| {
            self.left.push(0);
            self.left.len() - 1
        });
        self.bucket[class] = shut as u32;
    }

    /// How many go at most.
    pub fn total(&self) -> usize {
        self.left.iter().sum()
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.bucket.len()
    }

    /// The first of these classes, in their order, that may go.
    pub fn first_of(mut self, order: &[u32]) -> Vec<u32> {
        let mut taken = order.to_vec();
        taken.retain(|&c| {
            let open = self.open(c as usize);
            if open {
                self.take(c as usize);
            }
            open
        });
        taken
    }

    fn open(&self, class: usize) -> bool {
        self.left[self.bucket[class] as usize] > 0
    }

    fn take(&mut self, class: usize) {
        self.left[self.bucket[class] as usize] -= 1;
    }

    fn candidates(&self) -> Vec<bool> {
        (0..self.classes()).map(|c| self.open(c)).collect()
    }
}

/// By the scores as they are. The same as [`subtracting`] nothing, but sorted once.
pub(super) fn one_shot(scores: &[f64], quotas: &Quotas, ties: Ties) -> Vec<u32> {
    let mut quotas = quotas.clone();
    let mut sorted: Vec<u32> = (0..scores.len() as u32).filter(|&i| quotas.open(i as usize)).collect();
    sorted.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b)));
    // The lowest of the run that ties with its head goes; then the run may reach further.
    let mut order = Vec::new();
    let mut run: std::collections::BTreeSet<u32> = std::collections::BTreeSet::new();
    let (mut head, mut end) = (0, 0);
    let mut gone = vec![false; scores.len()];
    loop {
        while sorted.get(head).is_some_and(|&c| gone[c as usize] || !quotas.open(c as usize)) {
            head += 1;
        }
        let Some(&first) = sorted.get(head) else { return order };
        let highest = scores[first as usize];
        while end < sorted.len() && (end <= head || ties.equal(scores[sorted[end] as usize], highest)) {
            let next = sorted[end];
            run.extend((!gone[next as usize] && quotas.open(next as usize)).then_some(next));
            end += 1;
        }
        let Some(next) = run.pop_first() else { return order };
        gone[next as usize] = true;
        quotas.take(next as usize);
        order.push(next);
        if !quotas.open(next as usize) {
            run.retain(|&c| quotas.open(c as usize));
        }
    }
}

/// One at a time, where the score of each that stays loses `term(gone, stays)`.
pub(super) fn subtracting(scores: &[f64], quotas: &Quotas, ties: Ties, term: impl Fn(usize, usize) -> f64) -> Vec<u32> {
    let mut quotas = quotas.clone();
    let mut scores = scores.to_vec();
    let mut open = quotas.candidates();
    let mut order: Vec<u32> = Vec::new();
    while let Some(gone) = ties.first(&scores, &open) {
        quotas.take(gone);
        order.push(gone as u32);
        open[gone] = false;
        open.iter_mut().enumerate().for_each(|(c, open)| *open &= quotas.open(c));
        scores.iter_mut().enumerate().for_each(|(other, score)| *score -= term(gone, other));
    }
    order
}

/// One at a time, where `without(position)` gives the scores of all that stay after the one at that position among
/// them has gone, in the order they were in.
pub(super) fn recomputing(
    scores: &[f64],
    quotas: &Quotas,
    ties: Ties,
    mut without: impl FnMut(usize) -> Vec<f64>,
) -> Vec<u32> {
    let mut quotas = quotas.clone();
    let mut scores = scores.to_vec();
    let mut stay: Vec<u32> = (0..scores.len() as u32).collect();
    let mut order = Vec::new();
    loop {
        let open: Vec<bool> = stay.iter().map(|&c| quotas.open(c as usize)).collect();
        let Some(gone) = ties.first(&scores, &open) else { return order };
        let class = stay.remove(gone);
        quotas.take(class as usize);
        order.push(class);
        // The scores after the last removal decide nothing.
        if !stay.iter().any(|&c| quotas.open(c as usize)) {
            return order;
        }
        scores = without(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMS: Ties = Ties { unit: 1.0 };

    #[test]
    fn ties_go_to_the_lowest_index_even_when_rounding_parts_them() {
        let scores = [0.5, 1.0, 2.0 + 4e-16, 1.0 + 2e-16, 2.0];
        assert_eq!(one_shot(&scores, &Quotas::of(&[true; 5], 5), SUMS), [2, 4, 1, 3, 0]);
        let scores = [2.0, 2.0 + 4e-16, 1.0];
        assert_eq!(one_shot(&scores, &Quotas::of(&[true; 3], 2), SUMS), [0, 1]);
        assert_eq!(one_shot(&[0.0; 4], &Quotas::of(&[true; 4], 3), Ties { unit: 0.0 }), [0, 1, 2]);
    }

    #[test]
    fn what_may_not_go_stays_and_no_more_than_there_are_go() {
        assert_eq!(one_shot(&[3.0, 2.0, 1.0], &Quotas::of(&[false, true, true], 9), SUMS), [1, 2]);
        assert_eq!(subtracting(&[3.0, 2.0, 1.0], &Quotas::of(&[false, true, true], 9), SUMS, |_, _| 0.0), [1, 2]);
        assert_eq!(
            recomputing(&[3.0, 2.0, 1.0], &Quotas::of(&[true, false, true], 2), SUMS, |_| vec![0.0, 5.0]),
            [0, 2]
        );
        assert!(one_shot(&[], &Quotas::of(&[], 3), SUMS).is_empty());
    }

    #[test]
    fn sorting_once_is_stepping_without_updates() {
        // Scores an apparent tie apart, in chains: the one-shot rule must be the step rule.
        let scores: Vec<f64> = (0..60).map(|i| ((i * 7) % 13) as f64 * 6e-12 + ((i * 5) % 3) as f64).collect();
        let removable: Vec<bool> = (0..60).map(|i| i % 4 != 1).collect();
        let thirds = Quotas::new((0..60).map(|i| i % 3).collect(), vec![20, 5, 0]);
        for quotas in [Quotas::of(&removable, 40), thirds] {
            assert_eq!(one_shot(&scores, &quotas, SUMS), subtracting(&scores, &quotas, SUMS, |_, _| 0.0));
        }
    }

    #[test]
    fn a_bucket_that_is_empty_gives_no_more() {
        let quotas = Quotas::new(vec![0, 0, 1, 1], vec![1, 1]);
        assert_eq!(one_shot(&[4.0, 3.0, 2.0, 1.0], &quotas, SUMS), [0, 2]);
        let mut withheld = quotas.clone();
        withheld.withhold(0);
        assert_eq!(one_shot(&[4.0, 3.0, 2.0, 1.0], &withheld, SUMS), [1, 2]);
        assert_eq!(recomputing(&[4.0, 3.0, 2.0, 1.0], &quotas, SUMS, |_| vec![0.0, 9.0, 8.0]), [0, 2]);
    }
}
