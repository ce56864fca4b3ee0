//! What each stage costs: `cargo bench --bench stages`. With SECATEUR_BENCH_MODEL the stages are those of that file;
//! `nodes` shows how the analysis grows with the number of nodes.

use divan::Bencher;
use secateur::analysis::{Coupling, groups, infer_all};
use secateur::ir::Model;
use secateur::onnx::proto::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};
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

/// A chain of residual blocks of five nodes: two convolutions, two activations, an addition.
fn chain(nodes: usize) -> Model {
    const WIDTH: usize = 8;
    let name = |text: String| Some(text);
    let weight = |n: usize| TensorProto {
        name: name(format!("w{n}")),
        data_type: Some(1),
        dims: vec![WIDTH as i64, WIDTH as i64, 1, 1],
        raw_data: Some((0..WIDTH * WIDTH).flat_map(|i| ((i * (n + 3) % 7) as f32).to_le_bytes()).collect()),
        ..Default::default()
    };
    let port = |text: &str, channels: usize| {
        let dim = |d: usize| Dimension { value: Some(dimension::Value::DimValue(d as i64)), denotation: None };
        let shape = Some(TensorShapeProto { dim: [1, channels, 4, 4].into_iter().map(dim).collect() });
        let value = Some(type_proto::Value::TensorType(type_proto::Tensor { elem_type: Some(1), shape }));
        ValueInfoProto {
            name: name(text.to_owned()),
            r#type: Some(TypeProto { value, denotation: None }),
            ..Default::default()
        }
    };
    let mut graph = GraphProto { name: name("chain".into()), input: vec![port("x", WIDTH)], ..Default::default() };
    let mut add = |op: &str, input: &[String], output: String| {
        let (input, output) = (input.to_vec(), vec![output]);
        graph.node.push(NodeProto { op_type: name(op.into()), input, output, ..Default::default() });
    };
    let blocks = nodes.div_ceil(5);
    add("Conv", &["x".into(), "w0".into()], "v0".into());
    for b in 0..blocks {
        let (from, to) = (format!("v{b}"), format!("v{}", b + 1));
        let inner = |i: usize| format!("b{b}_{i}");
        add("Conv", &[from.clone(), format!("w{}", 2 * b + 1)], inner(0));
        add("Relu", &[inner(0)], inner(1));
        add("Conv", &[inner(1), format!("w{}", 2 * b + 2)], inner(2));
        add("Add", &[from, inner(2)], inner(3));
        add("Relu", &[inner(3)], to);
    }
    add("Conv", &[format!("v{blocks}"), format!("w{}", 2 * blocks + 1)], "y".into());
    graph.output = vec![port("y", WIDTH)];
    graph.initializer = (0..2 * blocks + 2).map(weight).collect();
    let opset_import = vec![OperatorSetIdProto { domain: None, version: Some(17) }];
    let model = ModelProto { ir_version: Some(8), opset_import, graph: Some(graph), ..Default::default() };
    Model::import(model).expect("a graph")
}

/// Shapes, coupling and groups of a chain of so many nodes.
#[divan::bench(args = [100, 1_000, 10_000, 100_000], sample_count = 5, sample_size = 1)]
fn nodes(bencher: Bencher, nodes: usize) {
    let model = chain(nodes);
    bencher.bench_local(|| {
        let coupling = Coupling::new(&model, infer_all(&model, &BTreeMap::new()), &Vec::new());
        groups(&model, &coupling).len()
    });
}

/// The whole pass on the same chain.
#[divan::bench(args = [100, 1_000, 10_000], sample_count = 3, sample_size = 1)]
fn prune_nodes(bencher: Bencher, nodes: usize) {
    let model = chain(nodes);
    let context = Context::default();
    bencher.with_inputs(|| model.clone()).bench_local_values(|mut model| {
        Prune::default().run(&mut model, &context).expect("a cut");
        model
    });
}
