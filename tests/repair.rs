//! Repairs held against networks whose filters come in pairs: one of each pair is a multiple of the other, so that what
//! goes can be made good to float noise, whatever reads it. Choice by what readers lose has to find the pairs.

use secateur::analysis::cost;
use secateur::analysis::infer_all;
use secateur::budget::Measure;
use secateur::ir::{Model, ValueId};
use secateur::onnx::tensor::Tensor;
use secateur::onnx::text::parse_fixture;
use secateur::passes::{Context, Outcome, Pipeline};
use secateur::run::Batches;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What reads the channels of `a`, 8 of them; `w` is paired along the axis that numbers its outputs.
struct Case {
    name: &'static str,
    signature: &'static str,
    weights: &'static str,
    body: &'static str,
    /// Paired weights, each with the axis of its outputs.
    paired: &'static [(&'static str, usize)],
}

const CASES: &[Case] = &[
    Case {
        name: "a strided convolution",
        signature: "(float[N, 3, 10, 10] x) => (float[N, 4, 5, 5] y)",
        weights: "float[8, 3, 3, 3] w, float[8] b, float[4, 8, 3, 3] v, float[4] c",
        body: "p = Conv <pads = [1, 1, 1, 1]> (x, w, b)  a = Relu (p)  [reader] y = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (a, v, c)",
        paired: &[("w", 0), ("b", 0)],
    },
    Case {
        name: "a convolution along one axis, without a bias",
        signature: "(float[N, 3, 40] x) => (float[N, 4, 36] y)",
        weights: "float[8, 3, 3] w, float[4, 8, 3] v",
        body: "p = Conv <pads = [1, 1]> (x, w)  a = Relu (p)  [reader] y = Conv <dilations = [2]> (a, v)",
        paired: &[("w", 0)],
    },
    Case {
        name: "a convolution along three axes",
        signature: "(float[N, 2, 5, 6, 7] x) => (float[N, 4, 4, 5, 6] y)",
        weights: "float[8, 2, 1, 1, 1] w, float[4, 8, 2, 2, 2] v, float[4] c",
        body: "p = Conv (x, w)  a = Relu (p)  [reader] y = Conv (a, v, c)",
        paired: &[("w", 0)],
    },
    Case {
        name: "a grouped convolution",
        signature: "(float[N, 3, 10, 10] x) => (float[N, 6, 10, 10] y)",
        weights: "float[8, 3, 3, 3] w, float[6, 4, 3, 3] v, float[6] c",
        body: "p = Conv <pads = [1, 1, 1, 1]> (x, w)  a = Relu (p)  [reader] y = Conv <pads = [1, 1, 1, 1], group = 2> (a, v, c)",
        paired: &[("w", 0)],
    },
    Case {
        name: "a transposed convolution",
        signature: "(float[N, 3, 9, 9] x) => (float[N, 4, 18, 18] y)",
        weights: "float[8, 3, 3, 3] w, float[8, 4, 2, 2] v, float[4] c",
        body: "p = Conv <pads = [1, 1, 1, 1]> (x, w)  a = Relu (p)  [reader] y = ConvTranspose <strides = [2, 2]> (a, v, c)",
        paired: &[("w", 0)],
    },
    Case {
        name: "a dense layer behind a flattened map",
        signature: "(float[N, 3, 4, 4] x) => (float[N, 5] y)",
        weights: "float[8, 3, 3, 3] w, float[5, 128] v, float[5] c",
        body: "p = Conv <pads = [1, 1, 1, 1]> (x, w)  a = Relu (p)  f = Flatten (a)  [reader] y = Gemm <transB = 1> (f, v, c)",
        paired: &[("w", 0)],
    },
    Case {
        name: "a product of matrices, channels last",
        signature: "(float[N, 20, 3] x) => (float[N, 20, 4] y)",
        weights: "float[3, 8] w, float[8, 4] v, float[4] c",
        body: "p = MatMul (x, w)  a = Relu (p)  m = MatMul (a, v)  y = Add (m, c)",
        paired: &[("w", 1)],
    },
    Case {
        name: "batch normalisations around",
        signature: "(float[N, 3, 10, 10] x) => (float[N, 4, 10, 10] y)",
        weights: "float[8, 3, 3, 3] w, float[8] s, float[8] o, float[8] m = {0, 0, 0, 0, 0, 0, 0, 0}, \
                  float[8] u = {1, 1, 1, 1, 1, 1, 1, 1}, float[4, 8, 3, 3] v",
        body: "q = Conv <pads = [1, 1, 1, 1]> (x, w)  p = BatchNormalization (q, s, o, m, u)  a = Relu (p) \
               [reader] y = Conv <pads = [1, 1, 1, 1]> (a, v)",
        paired: &[("w", 0), ("s", 0), ("o", 0)],
    },
];

fn value(model: &Model, name: &str) -> ValueId {
    model.values().find(|&v| model.value(v).name() == name).unwrap_or_else(|| panic!("there is no '{name}'"))
}

/// Every odd position along an axis becomes a positive multiple of the even one before it, so that a ReLU keeps it so.
fn pair(model: &mut Model, name: &str, axis: usize, factor: f64) {
    let v = value(model, name);
    let tensor = Tensor::from_proto(model.constant(v).unwrap()).unwrap();
    let (shape, mut values) = (tensor.shape().to_vec(), tensor.to_f64().unwrap());
    let inner: usize = shape[axis + 1..].iter().product();
    for i in 0..values.len() {
        if i / inner % shape[axis] % 2 == 1 {
            values[i] = values[i - inner] * factor;
        }
    }
    model.set_constant(v, &Tensor::from_f64(tensor.dtype(), &shape, &values).unwrap());
}

fn made(case: &Case) -> Model {
    let Case { signature, weights, body, .. } = case;
    let text = format!(
        "# secateur: seed=7\n<ir_version: 8, opset_import: [\"\" : 17]>\ng {signature}\n<{weights}>\n{{ {body} }}"
    );
    let mut model = Model::import(parse_fixture(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))).unwrap();
    for (i, &(name, axis)) in case.paired.iter().enumerate() {
        // The scale of a normalisation carries the factor on its own; only what is added follows it.
        let normalised = case.paired.len() == 3;
        pair(&mut model, name, axis, if normalised && i == 0 { 1.0 } else { 0.5 });
    }
    model
}

fn run(model: &mut Model, passes: &str, calibration: Option<Batches>) -> Vec<Outcome> {
    let context = Context { calibration: calibration.map(Arc::new), ..Context::default() };
    let outcomes = Pipeline::parse(passes).unwrap().run(model, &context, &mut |_| ()).unwrap();
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

fn noise(model: &Model) -> Batches {
    Batches::noise(model, &BTreeMap::new(), 96, 5).unwrap()
}

const BOTH: &str = "prune(ratio=0.5, by=reconstruction, dense=true), repair(ridge=1e-9)";

#[test]
fn pairs_are_found_and_made_good_whatever_reads_them() {
    for case in CASES {
        let mut model = made(case);
        let data = noise(&model);
        let outcomes = run(&mut model, BOTH, Some(data));
        let plan = outcomes[0].plan.as_ref().unwrap();
        let mut removed: Vec<usize> = plan.groups[0].removed.iter().map(|r| r / 2).collect();
        removed.sort_unstable();
        assert_eq!(removed, [0, 1, 2, 3], "{}: one of each pair", case.name);
        let report = outcomes[1].repair.as_ref().unwrap_or_else(|| panic!("{}: {:?}", case.name, outcomes[1]));
        assert!(report.unrepaired.is_empty(), "{}: {report:?}", case.name);
        assert_eq!(report.repaired[0].channels[1] * 2, report.repaired[0].channels[0], "{}", case.name);
        assert!(report.drift[0] > 0.05 && report.drift[1] < 1e-3, "{}: {report:?}", case.name);
    }
}

#[test]
fn inputs_are_made_up_where_there_are_none() {
    for case in CASES {
        let mut model = made(case);
        let outcomes = run(&mut model, BOTH, None);
        let report = outcomes[1].repair.as_ref().unwrap();
        assert_eq!(report.data, "made-up inputs");
        assert!(report.drift[1] < 1e-3, "{}: {:?}", case.name, report.drift);
    }
}

/// Filters that have nothing in common may compute the same, for their inputs are the same.
#[test]
fn channels_are_common_by_what_their_readers_see() {
    let text = "# secateur: seed=3\n<ir_version: 8, opset_import: [\"\" : 17]>
        g (float[N, 3, 6, 6] x) => (float[N, 4, 6, 6] y)
        <float[3, 3, 1, 1] w = {0, 0, 1, 1, 0, 0, 0, 1, 0}, float[4, 3, 3, 3] v>
        { a = Conv (x, w)  y = Conv <pads = [1, 1, 1, 1]> (a, v) }";
    let mut removed = Vec::new();
    for representation in ["filter", "response"] {
        let mut model = Model::import(parse_fixture(text).unwrap()).unwrap();
        let mut data = noise(&model);
        for batch in &mut data.batches {
            let x = &batch[0];
            // The second channel is the first.
            let (values, map) = (x.to_f64().unwrap(), 36);
            let of = |i: usize| if i / map % 3 == 1 { values[i - map] } else { values[i] };
            batch[0] = Tensor::from_f64(x.dtype(), x.shape(), &(0..values.len()).map(of).collect::<Vec<_>>()).unwrap();
        }
        let passes = format!("prune(ratio=0.34, by=degree, representation={representation})");
        let outcomes = run(&mut model, &passes, Some(data));
        removed.push(outcomes[0].plan.as_ref().unwrap().groups[0].removed.clone());
    }
    assert_eq!(removed, [[0], [1]]);
}

/// A bias that is declared as a row of a matrix stays one.
#[test]
fn constants_keep_their_declared_shape() {
    let case = Case {
        name: "a bias of two axes",
        signature: "(float[N, 3, 4, 4] x) => (float[N, 5] y)",
        weights: "float[8, 3, 3, 3] w, float[5, 128] v, float[1, 5] c",
        body: "p = Conv <pads = [1, 1, 1, 1]> (x, w)  a = Relu (p)  f = Flatten (a)  [reader] y = Gemm <transB = 1> (f, v, c)",
        paired: &[("w", 0)],
    };
    let mut model = made(&case);
    let data = noise(&model);
    run(&mut model, "prune(ratio=0.75, by=reconstruction), repair", Some(data));
    let reader = model.walk().into_iter().find(|&n| model.node(n).op_type() == "Gemm").unwrap();
    let bias = model.node(reader).input(2).unwrap();
    assert_eq!(model.constant(bias).unwrap().dims, [1, 5]);
    let numbers = |model: &Model, v| Tensor::from_proto(model.constant(v).unwrap()).unwrap().to_f64().unwrap();
    let original = made(&case);
    assert_ne!(numbers(&model, bias), numbers(&original, value(&original, "c")), "it was fitted");
}

/// The branch that is computed last makes good what the first one lost: nothing else can.
#[test]
fn a_branch_makes_good_what_the_other_lost() {
    let case = Case {
        name: "two branches",
        signature: "(float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y)",
        weights: "float[8, 3, 1, 1] w, float[4, 8, 1, 1] v, float[4, 11, 1, 1] u",
        body: "[first] a = Conv (x, w)  [one] p = Conv (a, v)  j = Concat <axis = 1> (x, a)  [other] q = Conv (j, u)  s = Add (p, q)  y = Relu (s)",
        paired: &[],
    };
    // `first` keeps two of its eight linear functions of three channels, so that `one` cannot be what it was; `other`
    // reads all of `x` as well.
    let drift = |passes: &str| {
        let mut model = made(&case);
        let data = noise(&model);
        let outcomes = run(&mut model, passes, Some(data));
        outcomes[1].repair.as_ref().unwrap().drift[1]
    };
    let with = drift("prune(ratio=0.75, by=reconstruction), repair(ridge=1e-9)");
    let without = drift("prune(ratio=0.75, by=reconstruction), repair(ridge=1e-9, residual=false)");
    assert!(with < 1e-3, "{with}");
    assert!(without > 0.05, "{without}");
}

/// So it does where what follows either branch is listed only after both, and scales what it adds.
#[test]
fn a_branch_is_known_before_the_other_whatever_the_order_of_the_file() {
    let case = Case {
        name: "two branches, scaled",
        signature: "(float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y)",
        weights: "float[8, 3, 1, 1] w, float[4, 8, 1, 1] v, float[4, 11, 1, 1] u, float[4, 1, 1] g, float[1] h",
        body: "[first] a = Conv (x, w)  [one] p = Conv (a, v)  j = Concat <axis = 1> (x, a)  [other] q = Conv (j, u) \
               t = Mul (q, g)  r = Mul (p, h)  s = Add (r, t)  y = Relu (s)",
        paired: &[],
    };
    let mut model = made(&case);
    let data = noise(&model);
    let outcomes = run(&mut model, "prune(ratio=0.75, by=reconstruction), repair(ridge=1e-9)", Some(data));
    let report = outcomes[1].repair.as_ref().unwrap();
    assert!(report.repaired.iter().any(|r| r.node == "other" && r.residual), "{report:?}");
    assert!(report.drift[1] < 1e-3, "{report:?}");
}

/// A layer that was cut is fitted together with its reader: its filters become what the reader needs.
#[test]
fn filters_that_are_left_change_where_that_helps_the_reader() {
    let case = Case {
        name: "three filters for eight",
        signature: "(float[N, 3, 10, 10] x) => (float[N, 2, 10, 10] y)",
        weights: "float[8, 3, 3, 3] w, float[8] b, float[2, 8, 3, 3] v, float[2] c",
        body: "[writer] p = Conv <pads = [1, 1, 1, 1]> (x, w, b)  a = Relu (p)  [reader] y = Conv <pads = [1, 1, 1, 1]> (a, v, c)",
        paired: &[],
    };
    let drift = |steps: usize| {
        let mut model = made(&case);
        let data = noise(&model);
        let outcomes =
            run(&mut model, &format!("prune(ratio=0.6, by=reconstruction), repair(steps={steps})"), Some(data));
        let report = outcomes[1].repair.as_ref().unwrap();
        assert_eq!(report.repaired[0].writer.as_deref(), (steps > 0).then_some("writer"));
        report.drift[1]
    };
    let (without, with) = (drift(0), drift(3));
    assert!(with < without * 0.8, "{without} -> {with}");
}

/// Weights that are stored as integers get a new scale, and the addend's stays the product of those of data and weight.
#[test]
fn integers_are_rounded_to_a_scale_that_suits_them() {
    let case = Case {
        name: "integers",
        signature: "(float[N, 3, 10, 10] x) => (float[N, 4, 10, 10] y)",
        weights: "int8[8, 3, 3, 3] wi, float[8] ws, float[8] b, int8[4, 8, 3, 3] vi, float[4] vs, int32[4] ci, float[4] cs",
        body: "w = DequantizeLinear <axis = 0> (wi, ws)  v = DequantizeLinear <axis = 0> (vi, vs) \
               c = DequantizeLinear <axis = 0> (ci, cs)  p = Conv <pads = [1, 1, 1, 1]> (x, w, b)  a = Relu (p) \
               [reader] y = Conv <pads = [1, 1, 1, 1]> (a, v, c)",
        paired: &[("wi", 0), ("ws", 0), ("b", 0)],
    };
    let mut model = made(&case);
    // Pairs of integers are equal; their scales differ.
    pair(&mut model, "ws", 0, 0.5);
    pair(&mut model, "b", 0, 0.5);
    let numbers = |model: &Model, name| {
        Tensor::from_proto(model.constant(value(model, name)).unwrap()).unwrap().to_f64().unwrap()
    };
    let before = ["vs", "cs"].map(|name| numbers(&model, name));
    let data = noise(&model);
    let outcomes = run(&mut model, BOTH, Some(data));
    let report = outcomes[1].repair.as_ref().unwrap();
    assert!(report.drift[0] > 0.1 && report.drift[1] < 0.02, "{report:?}");
    let after = ["vs", "cs"].map(|name| numbers(&model, name));
    for i in 0..4 {
        let growth = [0, 1].map(|k| after[k][i] / before[k][i]);
        assert!(growth[0] < 0.5 && (growth[0] / growth[1] - 1.0).abs() < 1e-5, "{growth:?}");
    }
}

#[test]
fn budgets_are_met_and_no_class_more_goes_than_is_needed() {
    let case = &CASES[0];
    for measure in Measure::ALL {
        let whole = made(case);
        let of = |model: &Model| measure.of(cost(model, &infer_all(model, &BTreeMap::new())[0]));
        for percent in [10, 30, 60] {
            let mut model = whole.clone();
            let passes = format!("prune(target=\"{}=-{percent}%\", by=communality)", measure.name());
            run(&mut model, &passes, None);
            let share = of(&model) / of(&whole);
            let asked = 1.0 - f64::from(percent) / 100.0;
            // One of eight channels of `w` is an eighth of nearly all.
            assert!(share <= asked && share > asked - 0.126, "{}: {share} of {asked}", measure.name());
        }
    }
}

#[test]
fn a_budget_out_of_reach_says_what_is_closest() {
    let mut model = made(&CASES[0]);
    let pipeline = Pipeline::parse("prune(target=\"macs=-99%\", by=communality)").unwrap();
    let error = pipeline.run(&mut model, &Context::default(), &mut |_| ()).unwrap_err();
    let share = error.closest.expect("a budget that cannot be met");
    assert!((0.1..0.2).contains(&share), "one of eight channels stays: {share}");
}
