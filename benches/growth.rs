//! How the analysis grows with the number of nodes: `cargo bench --bench growth`.
//!
//! Three kinds of networks from 100 to 100,000 nodes: residual blocks, dense blocks (every layer reads all before it),
//! and chains of channel shuffles whose shapes are computed by nodes.

use divan::Bencher;
use secateur::analysis::{Coupling, groups, infer_all};
use secateur::ir::Model;
use secateur::onnx::text::parse_fixture;
use secateur::passes::{Context, Pass, prune::Prune};
use std::collections::BTreeMap;

const NODES: [usize; 4] = [100, 1_000, 10_000, 100_000];

fn main() {
    divan::main();
}

/// A network as text: declared constants, and nodes.
#[derive(Default)]
struct Text {
    constants: Vec<String>,
    nodes: Vec<String>,
}

impl Text {
    fn weight(&mut self, filters: usize, channels: usize) -> String {
        let name = format!("w{}", self.constants.len());
        self.constants.push(format!("float[{filters}, {channels}, 1, 1] {name}"));
        name
    }

    fn node(&mut self, op: &str, attributes: &str, inputs: &[&str]) -> String {
        let name = format!("v{}", self.nodes.len());
        let inputs = inputs.join(", ");
        self.nodes.push(format!("{name} = {op} {attributes} ({inputs})"));
        name
    }

    fn conv(&mut self, x: &str, filters: usize, channels: usize) -> String {
        let w = self.weight(filters, channels);
        self.node("Conv", "", &[x, &w])
    }

    /// The model, with a last layer of two channels.
    fn model(mut self, x: &str, channels: usize, shapes: &str) -> Model {
        let y = self.conv(x, 2, channels);
        let text = format!(
            "# secateur: seed=1\n<ir_version: 8, opset_import: [\"\" : 17]>\n\
             g (float[{shapes}] x) => (float[?, 2, ?, ?] {y})\n<{}>\n{{\n{}\n}}",
            self.constants.join(",\n"),
            self.nodes.join("\n")
        );
        Model::import(parse_fixture(&text).expect("a text")).expect("a graph")
    }
}

fn residual(nodes: usize) -> Model {
    let mut t = Text::default();
    let mut x = t.conv("x", 8, 8);
    while t.nodes.len() < nodes {
        let a = t.conv(&x, 8, 8);
        let b = t.node("Relu", "", &[&a]);
        let c = t.conv(&b, 8, 8);
        let d = t.node("Add", "", &[&x, &c]);
        x = t.node("Relu", "", &[&d]);
    }
    t.model(&x, 8, "1, 8, 4, 4")
}

fn dense(nodes: usize) -> Model {
    let mut t = Text::default();
    let mut x = t.conv("x", 8, 8);
    let mut channels = 8;
    while t.nodes.len() < nodes {
        for _ in 0..8 {
            let a = t.node("Relu", "", &[&x]);
            let b = t.conv(&a, 4, channels);
            x = t.node("Concat", "<axis = 1>", &[&x, &b]);
            channels += 4;
        }
        x = t.conv(&x, 8, channels);
        channels = 8;
    }
    t.model(&x, channels, "1, 8, 4, 4")
}

fn shuffles(nodes: usize) -> Model {
    let mut t = Text::default();
    let numbers = [("i0", "{0}"), ("i2", "{2}"), ("i3", "{3}")];
    t.constants.extend(numbers.map(|(name, content)| format!("int64 {name} = {content}")));
    let vectors = [("at0", "{0}"), ("two", "{2}"), ("four", "{4}"), ("eight", "{8}")];
    t.constants.extend(vectors.map(|(name, content)| format!("int64[1] {name} = {content}")));
    let mut x = t.conv("x", 8, 8);
    while t.nodes.len() < nodes {
        let a = t.conv(&x, 8, 8);
        let shape = t.node("Shape", "", &[&a]);
        let extents: Vec<String> = ["i0", "i2", "i3"]
            .iter()
            .map(|at| {
                let one = t.node("Gather", "<axis = 0>", &[&shape, at]);
                t.node("Unsqueeze", "", &[&one, "at0"])
            })
            .collect();
        let apart = t.node("Concat", "<axis = 0>", &[&extents[0], "two", "four", &extents[1], &extents[2]]);
        let b = t.node("Reshape", "", &[&a, &apart]);
        let c = t.node("Transpose", "<perm = [0, 2, 1, 3, 4]>", &[&b]);
        let together = t.node("Concat", "<axis = 0>", &[&extents[0], "eight", &extents[1], &extents[2]]);
        x = t.node("Reshape", "", &[&c, &together]);
    }
    t.model(&x, 8, "N, 8, H, W")
}

fn analysis(bencher: Bencher, model: Model) {
    bencher.bench_local(|| {
        let coupling = Coupling::new(&model, infer_all(&model, &BTreeMap::new()), &Vec::new());
        groups(&model, &coupling).len()
    });
}

/// Shapes, coupling and groups.
#[divan::bench(args = NODES, sample_count = 3, sample_size = 1)]
fn residual_blocks(bencher: Bencher, nodes: usize) {
    analysis(bencher, residual(nodes));
}

#[divan::bench(args = NODES, sample_count = 3, sample_size = 1)]
fn dense_blocks(bencher: Bencher, nodes: usize) {
    analysis(bencher, dense(nodes));
}

#[divan::bench(args = NODES, sample_count = 3, sample_size = 1)]
fn shuffles_of_computed_shapes(bencher: Bencher, nodes: usize) {
    analysis(bencher, shuffles(nodes));
}

/// The whole pass on residual blocks.
#[divan::bench(args = [100, 1_000, 10_000], sample_count = 3, sample_size = 1)]
fn prune_residual_blocks(bencher: Bencher, nodes: usize) {
    let model = residual(nodes);
    let context = Context::default();
    bencher.with_inputs(|| model.clone()).bench_local_values(|mut model| {
        Prune::default().run(&mut model, &context).expect("a cut");
        model
    });
}
