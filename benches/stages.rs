//! What each stage costs: `cargo bench --bench stages`. With SECATEUR_BENCH_MODEL the stages are those of that file.

use divan::Bencher;
use secateur::analysis::{Coupling, groups, infer_all};
use secateur::ir::Model;
use secateur::onnx::proto::ModelProto;
use secateur::passes::{Context, Pass, Pipeline, prune::Prune};
use std::collections::BTreeMap;
use std::path::PathBuf;

fn main() {
    divan::main();
}

fn path() -> PathBuf {
    let fixture = || concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/models/dcase21_fsdd.onnx").into();
    std::env::var_os("SECATEUR_BENCH_MODEL").map_or_else(fixture, PathBuf::from)
}

fn model() -> Model {
    Model::import(secateur::onnx::read(&path()).expect("a model").model).expect("a graph")
}

#[divan::bench]
fn read() -> ModelProto {
    secateur::onnx::read(&path()).expect("a model").model
}

#[divan::bench]
fn shapes(bencher: Bencher) {
    let model = model();
    bencher.bench_local(|| infer_all(&model, &BTreeMap::new()).len());
}

#[divan::bench]
fn coupling(bencher: Bencher) {
    let model = model();
    let worlds = infer_all(&model, &BTreeMap::new());
    bencher.bench_local(|| {
        let coupling = Coupling::new(&model, worlds.clone(), &Vec::new());
        groups(&model, &coupling).len()
    });
}

/// Shapes, coupling, scores and cut: the pass as a whole. What it takes beyond the two above is scores and cut.
#[divan::bench(sample_count = 10)]
fn scores_and_cut(bencher: Bencher) {
    let model = model();
    let context = Context::default();
    bencher.with_inputs(|| model.clone()).bench_local_values(|mut model| {
        Prune::default().run(&mut model, &context).expect("a cut");
        model
    });
}

/// The passes behind the cut.
#[divan::bench(sample_count = 10)]
fn fold(bencher: Bencher) {
    let mut pruned = model();
    let context = Context::default();
    Prune::default().run(&mut pruned, &context).expect("a cut");
    let passes = "fold-batch-norm,fold-constants,eliminate-identity,eliminate-dead";
    let passes = Pipeline::parse(passes).expect("passes");
    bencher.with_inputs(|| pruned.clone()).bench_local_values(|mut model| {
        passes.run(&mut model, &context, &mut |_| ()).expect("passes run");
        model
    });
}

#[divan::bench(sample_count = 10)]
fn write(bencher: Bencher) {
    let mut pruned = model();
    Prune::default().run(&mut pruned, &Context::default()).expect("a cut");
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("out.onnx");
    bencher.bench_local(|| secateur::onnx::write(&pruned.export(), &output).expect("written"));
}
