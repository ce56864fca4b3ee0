//! What must hold for any weights.

use secateur::importance::{
    Criterion, Filters, Member, Options, Quotas, Ranking, Reading, Representation, Similarity, rank,
};
use std::borrow::Cow;

/// Reproducible numbers in -1..1 without structure.
fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn layer(data: Vec<f32>, filters: usize, taps: usize) -> Member<'static> {
    let in_channels = data.len() / filters / taps;
    let filters_ = Filters { data: Cow::Owned(data), filters, in_channels, taps };
    Member { filters: filters_, classes: (0..filters as u32).map(|i| vec![i]).collect() }
}

fn run(members: &[Member], remove: usize, options: Options) -> Ranking {
    rank(members, &Quotas::of(&vec![true; members[0].classes.len()], remove), &options)
}

/// Every criterion in every reading, one shot and one at a time.
fn all_options() -> Vec<Options> {
    let mut all = Vec::new();
    for &criterion in Criterion::ALL {
        for &reading in Reading::ALL {
            for &similarity in Similarity::ALL {
                for one_at_a_time in [false, true] {
                    let base = Options::default();
                    all.push(Options { criterion, reading, similarity, one_at_a_time, seed: 5, ..base });
                }
            }
        }
    }
    all
}

#[test]
fn permuting_input_channels_does_not_move_absolute_similarities() {
    let (n, channels, taps) = (16, 6, 9);
    let weights = noise(n * channels * taps, 1);
    let reversed: Vec<f32> = weights
        .chunks(channels * taps)
        .flat_map(|f| f.chunks(taps).rev().flatten().copied().collect::<Vec<_>>())
        .collect();
    for criterion in [Criterion::Degree, Criterion::Betweenness, Criterion::Closeness, Criterion::Eigenvector] {
        let options = Options { criterion, similarity: Similarity::Absolute, ..Options::default() };
        let before = run(&[layer(weights.clone(), n, taps)], n, options);
        let after = run(&[layer(reversed.clone(), n, taps)], n, options);
        assert_eq!(before.order, after.order, "{criterion}");
    }
    // The published signs hang on channel 0: the trap this guards against is believing otherwise.
    let signed = |w: &[f32]| run(&[layer(w.to_vec(), n, taps)], n, Options::default()).order;
    assert_ne!(signed(&weights), signed(&reversed));
}

#[test]
fn permuting_filters_permutes_scores() {
    let (n, size, taps) = (14, 45, 9);
    let weights = noise(n * size, 2);
    let turned: Vec<f32> = weights.chunks(size).rev().flatten().copied().collect();
    for options in all_options().into_iter().filter(|o| o.criterion != Criterion::Random) {
        let before = run(&[layer(weights.clone(), n, taps)], n, options);
        let after = run(&[layer(turned.clone(), n, taps)], n, options);
        for i in 0..n {
            let (a, b) = (before.scores[i], after.scores[n - 1 - i]);
            assert!((a - b).abs() < 1e-9 * a.abs().max(1.0), "{options:?}: {a} {b}");
        }
    }
}

#[test]
fn multiples_tie_and_the_lower_index_goes_first() {
    let (n, size, taps) = (12, 36, 9);
    let mut weights = noise(n * size, 3);
    for k in 0..size {
        weights[9 * size + k] = 2.0 * weights[4 * size + k];
        weights[6 * size + k] = weights[4 * size + k];
    }
    for criterion in [Criterion::Degree, Criterion::Betweenness, Criterion::Closeness, Criterion::Eigenvector] {
        for &representation in Representation::ALL {
            let options = Options { criterion, representation, ..Options::default() };
            let ranking = run(&[layer(weights.clone(), n, taps)], n, options);
            let place = |f: u32| ranking.order.iter().position(|&o| o == f).unwrap();
            assert!((ranking.scores[4] - ranking.scores[9]).abs() < 1e-9, "{options:?} {:?}", ranking.scores);
            assert!(place(4) < place(6) && place(6) < place(9), "{options:?}: {:?}", ranking.order);
        }
    }
}

#[test]
fn zero_and_infinite_filters_never_make_a_nan() {
    let (n, size) = (10, 18);
    let mut weights = noise(n * size, 4);
    weights[2 * size..3 * size].fill(0.0);
    weights[5 * size] = f32::NAN;
    weights[7 * size + 3] = f32::NEG_INFINITY;
    for taps in [1, 9, 18] {
        for data in [weights.clone(), vec![0.0; n * size], vec![f32::NAN; n * size]] {
            for options in all_options() {
                let ranking = run(&[layer(data.clone(), n, taps)], n, options);
                assert!(ranking.scores.iter().all(|s| s.is_finite()), "{options:?}: {:?}", ranking.scores);
                let mut order = ranking.order.clone();
                order.sort_unstable();
                assert_eq!(order, (0..n as u32).collect::<Vec<_>>(), "{options:?}");
            }
        }
    }
    let ranking = run(&[layer(weights, n, 9)], n, Options::default());
    assert!(ranking.reason.contains("1 filter is all zero") && ranking.reason.contains("2 filters are not finite"));
    assert_eq!(ranking.scores[5], 0.0);
}

#[test]
fn one_shot_takes_a_whole_cluster_and_one_at_a_time_leaves_one_of_each() {
    // Two clusters of four, large and small weights alike, among filters that resemble little.
    let (n, size, taps) = (8, 90, 9);
    let centres = noise(2 * size, 6);
    let mut weights = noise(n * size, 7);
    for i in 0..n {
        for k in 0..size {
            weights[i * size + k] = centres[(i % 2) * size + k] + 0.02 * (1.0 + (i % 2) as f32) * weights[i * size + k];
        }
    }
    let base =
        Options { similarity: Similarity::Absolute, representation: Representation::Filter, ..Options::default() };
    let survivors = |options| {
        let gone = run(&[layer(weights.clone(), n, taps)], 6, options).order;
        let left: Vec<u32> = (0..n as u32).filter(|f| !gone.contains(f)).collect();
        (left.iter().filter(|f| **f % 2 == 0).count(), left.iter().filter(|f| **f % 2 == 1).count())
    };
    assert_eq!(survivors(base), (0, 2), "the tighter cluster is gone as a whole");
    assert_eq!(survivors(Options { one_at_a_time: true, ..base }), (1, 1));
}

#[test]
fn threads_do_not_change_a_bit() {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let member = layer(noise(150 * 9 * 7, 8), 150, 9);
    for options in all_options().into_iter().filter(|o| !o.one_at_a_time) {
        let one = pool(1).install(|| run(std::slice::from_ref(&member), 70, options));
        let two = pool(2).install(|| run(std::slice::from_ref(&member), 70, options));
        assert_eq!(one, two, "{options:?}");
        let bits = |r: &Ranking| r.scores.iter().map(|s| s.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&one), bits(&two));
    }
}

#[test]
fn keeping_the_central_is_the_opposite() {
    let member = layer(noise(20 * 27, 9), 20, 9);
    // What goes by a layer's readers is ranked where they are known (`importance::reconstruction`), not by `rank`.
    for &criterion in Criterion::ALL.iter().filter(|c| !c.is_by_readers()) {
        let options = Options { criterion, ..Options::default() };
        let central = run(std::slice::from_ref(&member), 20, options);
        let control = run(std::slice::from_ref(&member), 20, Options { keep_central: true, ..options });
        assert!(central.scores.iter().zip(&control.scores).all(|(a, b)| *a == -*b), "{criterion}");
        if criterion != Criterion::Betweenness {
            let reversed: Vec<u32> = control.order.iter().rev().copied().collect();
            assert_eq!(central.order, reversed, "{criterion}");
        }
    }
}

/// The definition, for any classes: mean over members of the mean (absolute) cosine of whole filters.
fn direct_degree(members: &[Member], absolute: bool) -> Vec<f64> {
    let cosine = |m: &Member, a: u32, b: u32| {
        let (a, b) = (m.filters.filter(a as usize), m.filters.filter(b as usize));
        let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
        let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
        if absolute { cosine.abs() } else { cosine }
    };
    let n = members[0].classes.len();
    let edge = |i: usize, j: usize| {
        let means: Vec<f64> = members
            .iter()
            .filter(|m| !m.classes[i].is_empty() && !m.classes[j].is_empty())
            .map(|m| {
                let pairs = m.classes[i].iter().flat_map(|&a| m.classes[j].iter().map(move |&b| (a, b)));
                let cosines: Vec<f64> = pairs.map(|(a, b)| cosine(m, a, b)).collect();
                cosines.iter().sum::<f64>() / cosines.len() as f64
            })
            .collect();
        means.iter().sum::<f64>() / means.len().max(1) as f64
    };
    (0..n).map(|i| (0..n).filter(|&j| j != i).map(|j| edge(i, j)).sum()).collect()
}

#[test]
fn several_members_and_filters_are_combined_as_defined() {
    let mut first = layer(noise(12 * 20, 10), 12, 1);
    first.classes = vec![vec![0, 1], vec![2], vec![], vec![3, 4, 5], vec![6], vec![7]];
    let mut second = layer(noise(6 * 14, 11), 6, 1);
    second.classes[5].clear();
    let mut third = layer(noise(6 * 8, 12), 6, 1);
    third.classes = vec![vec![5], vec![4], vec![3], vec![2], vec![1], vec![0]];
    let members = [first, second, third];
    for (similarity, absolute) in [(Similarity::Signed, false), (Similarity::Absolute, true)] {
        let ranking = run(&members, 6, Options { similarity, ..Options::default() });
        let expected = direct_degree(&members, absolute);
        for (found, expected) in ranking.scores.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-9, "{similarity}: {found} {expected}");
        }
        let slow = run(&members, 6, Options { similarity, one_at_a_time: true, ..Options::default() });
        assert_eq!(slow.scores, ranking.scores);
        assert_eq!(slow.order[0], ranking.order[0]);
    }
    let norms = run(&members, 6, Options { criterion: Criterion::L2, ..Options::default() }).scores;
    let l2 = |m: usize, f: usize| members[m].filters.filter(f).iter().map(|w| f64::from(w * w)).sum::<f64>().sqrt();
    assert!((norms[0] + l2(0, 0) + l2(0, 1) + l2(1, 0) + l2(2, 5)).abs() < 1e-5);
}

#[test]
fn members_with_and_without_taps_share_a_group() {
    let members = [layer(noise(8 * 12, 13), 8, 1), layer(noise(8 * 36, 14), 8, 9)];
    let ranking = run(&members, 4, Options::default());
    assert_eq!(ranking.representation, Some(Representation::Spatial));
    assert!(ranking.reason.starts_with("spatial, but 1 of 2 members have 1x1 kernels"), "{}", ranking.reason);
    assert_eq!(ranking.order.len(), 4);
}

#[test]
fn empty_groups_have_empty_rankings() {
    for options in all_options() {
        assert!(rank(&[], &Quotas::of(&[], 3), &options).order.is_empty());
        let scores = rank(&[], &Quotas::of(&[true, true], 1), &options).scores;
        assert!(scores.len() == 2 && scores.iter().all(|s| s.is_finite()), "{options:?}");
        let single = layer(noise(9, 15), 1, 9);
        assert_eq!(run(&[single], 1, options).order, [0], "{options:?}");
    }
}
