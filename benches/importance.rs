//! What a ranking costs: `cargo bench --bench importance`.

use divan::Bencher;
use secateur::importance::{Criterion, Filters, Member, Options, Quotas, Representation, rank};
use std::borrow::Cow;

fn main() {
    divan::main();
}

fn layer(filters: usize, in_channels: usize, taps: usize) -> Member<'static> {
    let mut state = 88172645463325252_u64;
    let mut weight = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let data = (0..filters * in_channels * taps).map(|_| weight()).collect();
    Member {
        filters: Filters { data: Cow::Owned(data), filters, in_channels, taps },
        classes: (0..filters as u32).map(|i| vec![i]).collect(),
    }
}

fn time(bencher: Bencher, members: &[Member<'_>], options: Options) {
    let all: Vec<Vec<bool>> = members.iter().map(|m| vec![true; m.classes.len()]).collect();
    bencher.bench_local(|| {
        let ranked = members.iter().zip(&all).map(|(m, removable)| {
            rank(std::slice::from_ref(m), &Quotas::of(removable, removable.len() / 2), &options).order.len()
        });
        ranked.sum::<usize>()
    });
}

#[divan::bench(args = [64, 256, 1024, 2048], sample_count = 10)]
fn degree(bencher: Bencher, n: usize) {
    time(bencher, &[layer(n, n, 9)], Options::default());
}

#[divan::bench(args = [64, 256, 1024, 2048], sample_count = 5)]
fn degree_one_at_a_time(bencher: Bencher, n: usize) {
    time(bencher, &[layer(n, n, 9)], Options { one_at_a_time: true, ..Options::default() });
}

#[divan::bench(args = [64, 256, 1024, 2048], sample_count = 3)]
fn degree_of_whole_filters(bencher: Bencher, n: usize) {
    time(bencher, &[layer(n, 512, 9)], Options { representation: Representation::Filter, ..Options::default() });
}

#[divan::bench(args = [64, 256, 1024, 2048], sample_count = 3)]
fn betweenness(bencher: Bencher, n: usize) {
    time(bencher, &[layer(n, 64, 9)], Options { criterion: Criterion::Betweenness, ..Options::default() });
}

/// Similarities of thousands of weights are all small and close to each other, 3x3 ones are spread.
#[divan::bench(args = [64, 256, 1024, 2048], sample_count = 3)]
fn betweenness_of_whole_filters(bencher: Bencher, n: usize) {
    let representation = Representation::Filter;
    let options = Options { criterion: Criterion::Betweenness, representation, ..Options::default() };
    time(bencher, &[layer(n, 512, 9)], options);
}

#[divan::bench(args = [64, 256, 1024, 2048], sample_count = 3)]
fn fpgm(bencher: Bencher, n: usize) {
    time(bencher, &[layer(n, 512, 9)], Options { criterion: Criterion::Fpgm, ..Options::default() });
}

/// All twelve convolutions of CNN14: 80.7 million weights with its dense layers, 75.5 million here.
#[divan::bench(sample_count = 10)]
fn degree_of_cnn14(bencher: Bencher) {
    let widths = [64, 128, 256, 512, 1024, 2048];
    let mut members = Vec::new();
    let mut before = 1;
    for width in widths {
        members.extend([layer(width, before, 9), layer(width, width, 9)]);
        before = width;
    }
    time(bencher, &members, Options::default());
}
