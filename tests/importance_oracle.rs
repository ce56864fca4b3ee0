//! The scores against numpy's and networkx's, in double precision and by other methods.
//!
//! fixtures/oracle holds small layers, written by the script next to them. More layers are read from the folder
//! `oracle` of the shared folder (`SECATEUR_SHARED`, by default `../shared`) where there is one.

use secateur::importance::representation::Representatives;
use secateur::importance::{
    Criterion, Filters, Member, Options, Quotas, Reading, Representation, Similarity, rank, similarity,
};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

const TOLERANCE: f64 = 1e-5;

/// An array of an npz file, its numbers widened.
struct Array {
    shape: Vec<usize>,
    values: Vec<f64>,
}

fn npz(path: &Path) -> BTreeMap<String, Array> {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(path).unwrap()).unwrap();
    let mut arrays = BTreeMap::new();
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).unwrap();
        let name = entry.name().unwrap().trim_end_matches(".npy").to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        arrays.insert(name, npy(&bytes));
    }
    arrays
}

fn npy(bytes: &[u8]) -> Array {
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00", "an npy file of version 1");
    let end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..end]).unwrap();
    let field = |key: &str| header.split_once(key).unwrap().1.trim_start_matches([':', ' ', '\'']);
    let inside = field("'shape'").split(['(', ')']).nth(1).unwrap();
    let shape: Vec<usize> = inside.split(',').filter_map(|d| d.trim().parse().ok()).collect();
    let payload = &bytes[end..];
    let eight = || payload.as_chunks::<8>().0.iter();
    let mut values: Vec<f64> = match &field("'descr'")[..3] {
        "<f4" => payload.as_chunks::<4>().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect(),
        "<f8" => eight().map(|&b| f64::from_le_bytes(b)).collect(),
        "<i8" => eight().map(|&b| i64::from_le_bytes(b) as f64).collect(),
        other => panic!("element type {other}"),
    };
    if field("'fortran_order'").starts_with("True") && shape.len() == 2 {
        let (rows, columns) = (shape[0], shape[1]);
        values = (0..rows * columns).map(|i| values[i % columns * rows + i / columns]).collect();
    }
    Array { shape, values }
}

fn layers(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap().path());
    let mut paths: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == "npz")).collect();
    paths.sort();
    paths
}

fn close(what: &str, found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= TOLERANCE * e.abs().max(1.0), "{what}: [{i}] is {f}, the oracle has {e}");
    }
}

/// The same order, but for filters whose scores tie.
fn same_order(what: &str, found: &[u32], expected: &[f64], scores: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (place, (&f, &e)) in found.iter().zip(expected).enumerate() {
        let gap = (scores[f as usize] - scores[e as usize]).abs();
        assert!(gap < 1e-9, "{what}: place {place} has filter {f}, the oracle {e}, whose score differs by {gap}");
    }
}

fn check(path: &Path) {
    let arrays = npz(path);
    let weights = &arrays["W_oihw"];
    let filters = Filters {
        data: Cow::Owned(weights.values.iter().map(|&w| w as f32).collect()),
        filters: weights.shape[0],
        in_channels: weights.shape[1],
        taps: weights.shape[2..].iter().product(),
    };
    let n = filters.filters;
    let member = Member { filters, classes: (0..n as u32).map(|i| vec![i]).collect() };
    let members = std::slice::from_ref(&member);
    let run = |options: Options| rank(members, &Quotas::of(&vec![true; n], n), &options);
    let at = |key: &str| format!("{} {key}", path.file_stem().unwrap().to_string_lossy());

    // What does not go by the spatial representation.
    let whole = Options { representation: Representation::Filter, ..Options::default() };
    for (key, criterion, sign) in
        [("l1", Criterion::L1, -1.0), ("l2", Criterion::L2, -1.0), ("fpgm", Criterion::Fpgm, -1.0)]
    {
        let Some(expected) = arrays.get(key) else { continue };
        let found: Vec<f64> = run(Options { criterion, ..whole }).scores.iter().map(|s| s * sign).collect();
        close(&at(key), &found, &expected.values);
    }
    if let Some(expected) = arrays.get("degree_filter_signed") {
        close(&at("degree_filter_signed"), &run(whole).scores, &expected.values);
    }
    if let Some(expected) = arrays.get("cosine_filter") {
        let vectors = Representatives::new(&member.filters, Representation::Filter);
        let found = similarity::matrix(members, &[vectors], n, Similarity::Signed);
        close(&at("cosine_filter"), found.entries(), &expected.values);
    }

    if member.filters.taps == 1 {
        let ranking = run(Options::default());
        assert_eq!(ranking.representation, Some(Representation::Filter), "{}", at("1x1"));
        assert!(ranking.reason.contains("1x1"), "{}", ranking.reason);
        return;
    }
    let vectors = Representatives::new(&member.filters, Representation::Auto);
    let expected = &arrays["representatives"];
    for i in 0..n {
        let column: Vec<f64> = expected.values.iter().skip(i).step_by(n).copied().collect();
        close(&at(&format!("representative of filter {i}")), &vectors.vector(i), &column);
    }
    let found = similarity::matrix(members, &[vectors], n, Similarity::Signed);
    close(&at("cosine"), found.entries(), &arrays["cosine"].values);

    for (key, similarity) in [("signed", Similarity::Signed), ("abs", Similarity::Absolute)] {
        let ranking = run(Options { similarity, ..Options::default() });
        let scores = &arrays[&format!("degree_{key}")].values;
        close(&at("degree"), &ranking.scores, scores);
        same_order(&at("rank_degree"), &ranking.order, &arrays[&format!("rank_degree_{key}")].values, scores);
    }
    for (key, criterion, reading) in [
        ("betweenness_abs_as_length", Criterion::Betweenness, Reading::Published),
        ("betweenness_inverse_abs_as_length", Criterion::Betweenness, Reading::Sound),
        ("closeness_one_minus_abs", Criterion::Closeness, Reading::Published),
        ("closeness_inverse_abs", Criterion::Closeness, Reading::Sound),
        ("eigenvector_abs", Criterion::Eigenvector, Reading::Sound),
    ] {
        close(&at(key), &run(Options { criterion, reading, ..Options::default() }).scores, &arrays[key].values);
    }
    if let Some(expected) = arrays.get("order_one_at_a_time_signed") {
        let found = run(Options { one_at_a_time: true, ..Options::default() }).order;
        let expected: Vec<u32> = expected.values.iter().map(|&i| i as u32).collect();
        assert_eq!(found, expected, "{}", at("one at a time"));
    }
}

#[test]
fn scores_are_those_of_numpy_and_networkx() {
    let paths = layers(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/oracle"));
    assert_eq!(paths.len(), 5);
    paths.iter().for_each(|path| check(path));
}

#[test]
fn scores_are_those_of_the_shared_oracle() {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let shared = std::env::var_os("SECATEUR_SHARED").map_or_else(beside, PathBuf::from);
    let paths = layers(&shared.join("oracle"));
    if paths.is_empty() {
        println!("skipped: no npz files in {}", shared.join("oracle").display());
    }
    paths.iter().for_each(|path| check(path));
}
