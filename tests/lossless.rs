//! A lossless removal changes no output: on every fixture, on a trained network with planted channels, and on random
//! networks.

mod fixture;

use fixture::Fixture;
use secateur::analysis::{Sizes, cost, infer_all};
use secateur::ir::Model;
use secateur::onnx::tensor::{DataType, Tensor};
use secateur::onnx::text::parse_fixture;
use secateur::passes::{Context, Outcome, Pass, prune, prune_lossless::PruneLossless};
use secateur::plan;
use secateur::run::{Runner, random_inputs};
use secateur::verify::{self, input_shapes, verify};
use std::collections::BTreeMap;

fn pruned(model: &Model) -> (Model, Outcome) {
    let mut new = model.clone();
    let outcome = PruneLossless.run(&mut new, &Context::default()).unwrap();
    new.check().unwrap();
    (new, outcome)
}

/// Largest difference over several inputs, large ones among them, relative to the largest output.
fn difference(a: &Model, b: &Model) -> f64 {
    let sizes = Sizes::candidates(&BTreeMap::new()).next().unwrap();
    let shapes = input_shapes(a, &sizes).unwrap();
    let load = |m: &Model| Runner::load(&m.export(), &shapes).unwrap_or_else(|e| panic!("{e}"));
    let (a, b) = (load(a), load(b));
    let mut worst = 0f64;
    // Half precision has no room for large ones.
    let large = if shapes.iter().any(|s| s.1 == DataType::Float16) { 1.0 } else { 100.0 };
    for (seed, factor) in [(1, 1.0), (2, 1.0), (3, 1e-3), (4, large)] {
        let scaled = |t: &Tensor| {
            let values: Vec<f64> = t.to_f64().unwrap().iter().map(|x| x * factor).collect();
            Tensor::from_f64(t.dtype(), t.shape(), &values).unwrap()
        };
        let inputs: Vec<Tensor> = random_inputs(&shapes, seed).iter().map(scaled).collect();
        for (x, y) in a.run(&inputs).unwrap().iter().zip(&b.run(&inputs).unwrap()) {
            assert_eq!((x.dtype(), x.shape()), (y.dtype(), y.shape()));
            let (x, y) = (x.to_f64().unwrap(), y.to_f64().unwrap());
            assert!(x.iter().all(|v| v.is_finite()), "the original is not finite");
            let largest = x.iter().fold(1e-6f64, |m, v| m.max(v.abs()));
            let gap = |(a, b): (&f64, &f64)| if b.is_nan() { f64::INFINITY } else { (a - b).abs() };
            worst = worst.max(x.iter().zip(&y).map(gap).fold(0.0, f64::max) / largest);
        }
    }
    worst
}

fn constant(model: &Model, name: &str) -> Tensor {
    let value = model.constants().find(|&v| model.value(v).name() == name).unwrap_or_else(|| panic!("{name}"));
    Tensor::from_proto(model.constant(value).unwrap()).unwrap()
}

/// Changes the slices of a constant along axis 0.
fn plant(model: &mut Model, name: &str, change: impl FnOnce(&mut Vec<Vec<f64>>)) {
    let tensor = constant(model, name);
    let run = tensor.elements() / tensor.shape()[0];
    let mut slices: Vec<Vec<f64>> = tensor.to_f64().unwrap().chunks(run).map(<[f64]>::to_vec).collect();
    change(&mut slices);
    let value = model.constants().find(|&v| model.value(v).name() == name).unwrap();
    model.set_constant(value, &Tensor::from_f64(tensor.dtype(), tensor.shape(), &slices.concat()).unwrap());
}

fn params(model: &Model) -> u64 {
    cost(model, &infer_all(model, &BTreeMap::new())[0]).params
}

#[test]
fn every_fixture_computes_the_same_afterwards() {
    fixture::each("passes/prune-lossless", |fixture| {
        let Fixture { path, model, .. } = fixture;
        let (new, outcome) = pruned(model);
        let half = model.constants().any(|v| model.constant(v).unwrap().data_type() == DataType::Float16 as i32);
        let error = difference(model, &new);
        assert!(error <= if half { 1e-2 } else { 1e-5 }, "{}: outputs differ by {error:e}", path.display());
        let plan = outcome.plan.unwrap();
        assert!(plan.reads.is_empty() && plan.reference == plan::Reference::Original);
        let verified = verify(model, &new, &plan, &verify::Options::default()).unwrap();
        assert_eq!((verified.outcome, verified.reference), (plan::Outcome::Equal, plan::Reference::Original));
        let removed: usize = plan.groups.iter().map(|g| g.removed.len()).sum();
        assert_eq!(removed, outcome.changes, "{}", path.display());
    });
    for (name, rule) in [
        ("padding", "padding"),
        ("graph-output", "graph-output"),
        ("weight-shared", "weight-shared"),
        ("pool-padding", "not-constant-when-read"),
        ("dequantised", "weight-computed"),
    ] {
        let path = fixture::root().join(format!("passes/prune-lossless/refused-{name}.onnxtxt"));
        let (_, outcome) = pruned(&Fixture::load(&path).model);
        let rules: Vec<&str> = outcome.remarks.iter().map(|r| &r.rule[..]).collect();
        assert!(!rules.is_empty() && rules.iter().all(|r| *r == rule), "{name}: {:?}", outcome.remarks);
        assert!(outcome.remarks[0].node.is_some());
        assert_eq!(outcome.changes, usize::from(name == "dequantised"), "{name}");
    }
    let of = |name: &str| {
        let path = fixture::root().join(format!("passes/prune-lossless/{name}.onnxtxt"));
        let (_, outcome) = pruned(&Fixture::load(&path).model);
        outcome.remarks.iter().map(|r| r.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(of("refused-last-channel")[0], "conv1: last-channel: filter 0: a layer keeps a channel at least");
    assert!(of("residual")[0].starts_with("conv2: not-constant-when-read: filter 2 of 'conv2'"));
    assert!(of("refused-overridable")[0].starts_with("overridable: 1 constants"));
    assert!(of("half")[0].starts_with("conv4: rounding: "));
}

fn trained() -> Model {
    let path = fixture::root().join("models/dcase21_fsdd.onnx");
    Model::import(secateur::onnx::read(&path).unwrap().model).unwrap()
}

#[test]
fn a_trained_network_loses_what_was_planted_and_no_more() {
    let original = trained();
    let names: Vec<String> = original.constants().map(|v| original.value(v).name().to_owned()).collect();
    let (same, outcome) = pruned(&original);
    assert_eq!((outcome.changes, same.export() == original.export()), (0, true), "{names:?}");

    let mut model = original.clone();
    // Zero filters with their normalisation; a scale of zero whose shift does not pass the activation.
    for i in [3, 7] {
        plant(&mut model, "conv1.weight", |w| w[i].fill(0.0));
        for name in ["conv1.bias", "bn1.weight", "bn1.bias"] {
            plant(&mut model, name, |b| b[i].fill(0.0));
        }
    }
    plant(&mut model, "bn2.weight", |w| w[5].fill(0.0));
    plant(&mut model, "bn2.bias", |b| b[5].fill(-0.25));
    // A duplicate, normalisation included.
    for name in ["conv3.weight", "conv3.bias", "bn3.weight", "bn3.bias", "bn3.mean", "bn3.var"] {
        plant(&mut model, name, |w| w[20] = w[4].clone());
    }
    // A constant that a dense layer reads: no padding there.
    plant(&mut model, "bn3.weight", |w| w[9].fill(0.0));
    plant(&mut model, "bn3.bias", |b| b[9].fill(0.75));
    // A dense unit that nothing reads.
    let dense2 = constant(&model, "dense2.weight");
    let mut numbers = dense2.to_f64().unwrap();
    numbers.chunks_mut(dense2.shape()[1]).for_each(|row| row[42] = 0.0);
    let value = model.constants().find(|&v| model.value(v).name() == "dense2.weight").unwrap();
    model.set_constant(value, &Tensor::from_f64(dense2.dtype(), dense2.shape(), &numbers).unwrap());

    let (new, outcome) = pruned(&model);
    let plan = outcome.plan.unwrap();
    let removed: Vec<(&str, &[usize])> =
        plan.groups.iter().filter(|g| !g.removed.is_empty()).map(|g| (&g.id[..], &g.removed[..])).collect();
    let expected: [(&str, &[usize]); 4] = [("conv1", &[3, 7]), ("conv2", &[5]), ("conv3", &[9, 20]), ("dense1", &[42])];
    assert_eq!(removed, expected);
    assert_eq!(constant(&new, "conv1.weight").shape()[0], 14);
    assert_eq!(constant(&new, "conv2.weight").shape()[..2], [15, 14]);
    assert_eq!(constant(&new, "conv3.weight").shape()[..2], [30, 15]);
    assert_eq!(constant(&new, "dense1.weight").shape(), [99, 60]);
    assert_eq!(constant(&new, "dense2.weight").shape(), [10, 99]);
    // Weights, bias, scale and shift of each layer.
    let count = |c1: u64, c2: u64, c3: u64, d: u64| {
        (c1 * 49 + c1 * c2 * 49 + c2 * c3 * 49 + 3 * (c1 + c2 + c3)) + 2 * c3 * d + d + d * 10 + 10
    };
    assert_eq!((params(&model), params(&new)), (count(16, 16, 32, 100), count(14, 15, 30, 99)));
    let error = difference(&model, &new);
    assert!(error < 1e-5, "{error:e}");
    assert!(difference(&model, &original) > 1e-3, "what was planted makes a difference");
}

#[test]
fn a_wrong_result_is_found_out_and_a_plan_is_not_replayed() {
    let fixture = Fixture::load(&fixture::root().join("passes/prune-lossless/constant-conv.onnxtxt"));
    let (new, outcome) = pruned(&fixture.model);
    let plan = outcome.plan.unwrap();
    let name = "b3";
    let mut other = new.clone();
    plant(&mut other, name, |b| b[0][0] += 0.5);
    let verified = verify(&fixture.model, &other, &plan, &verify::Options::default()).unwrap();
    assert_eq!(verified.outcome, plan::Outcome::Different);
    assert!(secateur::report::verification_text(&verified).contains("between the new model and the original"));

    let text = plan.to_json();
    let plan = plan::Plan::from_json(&text).unwrap();
    assert_eq!(plan.to_json(), text);
    let refused = prune::apply(&plan, &mut fixture.model.clone(), &Context::default()).unwrap_err();
    assert!(refused.text.contains("lossless"), "{refused}");
}

/// Numbers for choices: the same on every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) % n as u64) as usize
    }
}

/// A chain of layers of random kinds, with additions, concatenations and depthwise layers between.
fn network(dice: &mut Dice, seed: usize) -> (String, Vec<(String, usize)>) {
    let (mut nodes, mut weights, mut layers) = (String::new(), Vec::new(), Vec::new());
    let (mut at, mut channels) = ("x".to_owned(), 2);
    let depth = 2 + dice.roll(4);
    for i in 0..depth {
        let filters = 2 + dice.roll(6);
        let kernel = 1 + 2 * dice.roll(2);
        let pad = if dice.roll(3) == 0 { 0 } else { kernel / 2 };
        let crop = if pad == kernel / 2 { "" } else { "V" };
        let conv = |name: &str, from: &str| {
            format!("    [{name}] {name} = Conv <pads = [{pad}, {pad}, {pad}, {pad}]> ({from}, {name}w, {name}b)\n")
        };
        let name = format!("c{i}");
        nodes += &conv(&name, &at);
        weights.push(format!("float[{filters}, {channels}, {kernel}, {kernel}] {name}w, float[{filters}] {name}b"));
        layers.push((name.clone(), filters));
        at = name.clone();
        channels = filters;
        if dice.roll(2) == 0 {
            nodes += &format!("    n{i} = BatchNormalization ({at}, s{i}, t{i}, m{i}, v{i})\n");
            weights.push(["s", "t", "m", "v"].map(|p| format!("float[{filters}] {p}{i}")).join(", "));
            at = format!("n{i}");
        }
        let function = ["Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSwish"][dice.roll(5)];
        nodes += &format!("    r{i} = {function} ({at})\n");
        at = format!("r{i}");
        match dice.roll(4) {
            0 if crop.is_empty() => {
                nodes += &format!("    d{i} = Conv <group = {filters}, pads = [1, 1, 1, 1]> ({at}, d{i}w)\n");
                weights.push(format!("float[{filters}, 1, 3, 3] d{i}w"));
                at = format!("d{i}");
            }
            1 => {
                let other = format!("e{i}");
                nodes += &format!(
                    "    [{other}] {other} = Conv ({at}, {other}w, {other}b)\n    a{i} = Add ({at}, {other})\n"
                );
                weights.push(format!("float[{filters}, {filters}, 1, 1] {other}w, float[{filters}] {other}b"));
                layers.push((other, filters));
                at = format!("a{i}");
            }
            2 => {
                nodes += &format!("    u{i} = Tanh ({at})\n    k{i} = Concat <axis = 1> ({at}, u{i})\n");
                at = format!("k{i}");
                channels = 2 * filters;
            }
            _ => {}
        }
    }
    nodes += &format!("    p = GlobalAveragePool ({at})\n    f = Flatten (p)\n    y = Gemm <transB = 1> (f, fw, fb)\n");
    weights.push(format!("float[3, {channels}] fw, float[3] fb"));
    let text = format!(
        "# secateur: seed={seed}\n<ir_version: 8, opset_import: [\"\" : 17]>\ng (float[N, 2, 16, 16] x) => (float[N, 3] y)\n<{}>\n{{\n{nodes}}}\n",
        weights.join(", ")
    );
    (text, layers)
}

#[test]
fn random_networks_with_planted_channels_compute_the_same() {
    let mut dice = Dice(11);
    let (mut removed, mut kept) = (0, 0);
    for seed in 0..120 {
        let (text, layers) = network(&mut dice, seed);
        let proto = parse_fixture(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let mut model = Model::import(proto).unwrap();
        for (name, filters) in &layers {
            let (w, b) = (format!("{name}w"), format!("{name}b"));
            for _ in 0..1 + dice.roll(2) {
                let (i, j) = (dice.roll(*filters), dice.roll(*filters));
                match dice.roll(4) {
                    // Zero, constant, a copy of another, and nothing.
                    0 => {
                        plant(&mut model, &w, |w| w[i].fill(0.0));
                        plant(&mut model, &b, |b| b[i].fill(0.0));
                    }
                    1 => plant(&mut model, &w, |w| w[i].fill(0.0)),
                    2 => {
                        plant(&mut model, &w, |w| w[i] = w[j].clone());
                        plant(&mut model, &b, |b| b[i] = b[j].clone());
                        let n = name.trim_start_matches(['c', 'e']);
                        for p in ["s", "t", "m", "v"].map(|p| format!("{p}{n}")) {
                            if name.starts_with('c') && model.constants().any(|v| model.value(v).name() == p) {
                                plant(&mut model, &p, |w| w[i] = w[j].clone());
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
        let (new, outcome) = pruned(&model);
        let error = difference(&model, &new);
        assert!(error < 1e-5, "outputs differ by {error:e}:\n{text}");
        let (_, again) = pruned(&new);
        assert_eq!(again.changes, 0, "a second run finds more:\n{text}");
        removed += outcome.changes;
        kept += outcome.remarks.len();
        // The bytes went with the channels.
        assert_eq!(outcome.changes > 0, params(&new) < params(&model), "{text}");
    }
    assert!(removed > 100 && kept > 10, "{removed} channels went, {kept} remarks were made");
}
