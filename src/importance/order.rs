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
    fn first(self, scores: &[f64], candidates: &[bool]) -> Option<usize> {
        let open = || scores.iter().zip(candidates).enumerate().filter(|(_, (_, c))| **c).map(|(i, (s, _))| (i, *s));
        let highest = open().map(|(_, s)| s).reduce(f64::max)?;
        open().find(|&(_, s)| self.equal(s, highest)).map(|(i, _)| i)
    }
}

/// By the scores as they are. The same as [`subtracting`] nothing, but sorted once.
pub(super) fn one_shot(scores: &[f64], removable: &[bool], remove: usize, ties: Ties) -> Vec<u32> {
    let mut sorted: Vec<u32> = (0..scores.len() as u32).filter(|&i| removable[i as usize]).collect();
    sorted.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b)));
    let remove = remove.min(sorted.len());
    // The lowest of the run that ties with its head goes; then the run may reach further.
    let mut order = Vec::with_capacity(remove);
    let mut run: std::collections::BTreeSet<u32> = std::collections::BTreeSet::new();
    let (mut head, mut end) = (0, 0);
    let mut gone = vec![false; scores.len()];
    while order.len() < remove {
        while gone[sorted[head] as usize] {
            head += 1;
        }
        let highest = scores[sorted[head] as usize];
        while end < sorted.len() && (end <= head || ties.equal(scores[sorted[end] as usize], highest)) {
            run.extend((!gone[sorted[end] as usize]).then_some(sorted[end]));
            end += 1;
        }
        let Some(next) = run.pop_first() else { break };
        gone[next as usize] = true;
        order.push(next);
    }
    order
}

/// One at a time, where the score of each that stays loses `term(gone, stays)`.
pub(super) fn subtracting(
    scores: &[f64],
    removable: &[bool],
    remove: usize,
    ties: Ties,
    term: impl Fn(usize, usize) -> f64,
) -> Vec<u32> {
    let mut scores = scores.to_vec();
    let mut open = removable.to_vec();
    let mut order = Vec::new();
    while order.len() < remove {
        let Some(gone) = ties.first(&scores, &open) else { break };
        open[gone] = false;
        order.push(gone as u32);
        scores.iter_mut().enumerate().for_each(|(other, score)| *score -= term(gone, other));
    }
    order
}

/// One at a time, where `without(position)` gives the scores of all that stay after the one at that position among
/// them has gone, in the order they were in.
pub(super) fn recomputing(
    scores: &[f64],
    removable: &[bool],
    remove: usize,
    ties: Ties,
    mut without: impl FnMut(usize) -> Vec<f64>,
) -> Vec<u32> {
    let mut scores = scores.to_vec();
    let mut open = removable.to_vec();
    let mut stay: Vec<u32> = (0..scores.len() as u32).collect();
    let mut order = Vec::new();
    while order.len() < remove {
        let Some(gone) = ties.first(&scores, &open) else { break };
        order.push(stay.remove(gone));
        open.remove(gone);
        // The scores after the last removal decide nothing.
        if order.len() < remove {
            scores = without(gone);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUMS: Ties = Ties { unit: 1.0 };

    #[test]
    fn ties_go_to_the_lowest_index_even_when_rounding_parts_them() {
        let scores = [0.5, 1.0, 2.0 + 4e-16, 1.0 + 2e-16, 2.0];
        assert_eq!(one_shot(&scores, &[true; 5], 5, SUMS), [2, 4, 1, 3, 0]);
        let scores = [2.0, 2.0 + 4e-16, 1.0];
        assert_eq!(one_shot(&scores, &[true; 3], 2, SUMS), [0, 1]);
        assert_eq!(one_shot(&[0.0; 4], &[true; 4], 3, Ties { unit: 0.0 }), [0, 1, 2]);
    }

    #[test]
    fn what_may_not_go_stays_and_no_more_than_there_are_go() {
        assert_eq!(one_shot(&[3.0, 2.0, 1.0], &[false, true, true], 9, SUMS), [1, 2]);
        assert_eq!(subtracting(&[3.0, 2.0, 1.0], &[false, true, true], 9, SUMS, |_, _| 0.0), [1, 2]);
        assert_eq!(recomputing(&[3.0, 2.0, 1.0], &[true, false, true], 2, SUMS, |_| vec![0.0, 5.0]), [0, 2]);
        assert!(one_shot(&[], &[], 3, SUMS).is_empty());
    }

    #[test]
    fn sorting_once_is_stepping_without_updates() {
        // Scores an apparent tie apart, in chains: the one-shot rule must be the step rule.
        let scores: Vec<f64> = (0..60).map(|i| ((i * 7) % 13) as f64 * 6e-12 + ((i * 5) % 3) as f64).collect();
        let removable: Vec<bool> = (0..60).map(|i| i % 4 != 1).collect();
        assert_eq!(one_shot(&scores, &removable, 40, SUMS), subtracting(&scores, &removable, 40, SUMS, |_, _| 0.0));
    }
}
