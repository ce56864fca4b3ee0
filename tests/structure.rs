//! Functions and odd pieces of models, held against the same network written out by hand.

mod fixture;

use secateur::analysis::{Coupling, groups, infer_all, open};
use secateur::ir::{InlineError, Model};
use secateur::onnx::proto::{ModelProto, SparseTensorProto};
use secateur::onnx::tensor::{DataType, Tensor};
use secateur::onnx::text::parse_fixture;
use secateur::passes::{Context, Pipeline};
use secateur::run::{Runner, random_inputs};
use std::collections::BTreeMap;

/// Optional operands left out, attributes with and without defaults, an output that is an operand, one that is given
/// twice, calls within calls, an overload.
const CALLED: &str = r#"
# secateur: seed=3
<ir_version: 10, opset_import: ["" : 17, "local" : 1]>
g (float[2, 4, 6, 6] x) => (float[2, 4, 6, 6] y, float[2, 4, 6, 6] z)
<float[4, 4, 3, 3] w1, float[4, 4, 3, 3] w2, float[4] b2>
{
    [a] p, q = local.Block <slope = 0.125> (x, w1)
    [b] r = local.Block (p, w2, b2)
    [c] y = local.Act:sharp (r)
    [d] s, t = local.Twice (q)
    z = Add (s, t)
}
<domain: "local", opset_import: ["" : 17, "local" : 1]>
Block <slope: float = 0.5> (X, W, B) => (Y, Same)
{
    c = Conv <pads = [1, 1, 1, 1]> (X, W, B)
    l = local.Act <alpha: float = @slope> (c)
    Y = Add (l, X)
    Same = Identity (l)
}
<domain: "local", opset_import: ["" : 17]>
Act <alpha> (X) => (Y) { Y = LeakyRelu <alpha: float = @alpha> (X) }
<domain: "local", opset_import: ["" : 17], overload: "sharp">
Act (X) => (Y) { Y = Tanh (X) }
<domain: "local", opset_import: ["" : 17]>
Twice (X) => (X, Y) { Y = Neg (X) }
"#;

const WRITTEN_OUT: &str = r#"
# secateur: seed=3
<ir_version: 10, opset_import: ["" : 17]>
g (float[2, 4, 6, 6] x) => (float[2, 4, 6, 6] y, float[2, 4, 6, 6] z)
<float[4, 4, 3, 3] w1, float[4, 4, 3, 3] w2, float[4] b2>
{
    c1 = Conv <pads = [1, 1, 1, 1]> (x, w1)
    q = LeakyRelu <alpha = 0.125> (c1)
    p = Add (q, x)
    c2 = Conv <pads = [1, 1, 1, 1]> (p, w2, b2)
    l2 = LeakyRelu <alpha = 0.5> (c2)
    r = Add (l2, p)
    y = Tanh (r)
    n = Neg (q)
    z = Add (q, n)
}
"#;

fn run(model: &ModelProto) -> Vec<Tensor> {
    let shapes = [("x".to_owned(), DataType::Float, vec![2, 4, 6, 6])];
    Runner::load(model, &shapes).unwrap().run(&random_inputs(&shapes, 5)).unwrap()
}

#[test]
fn calls_compute_what_is_written_out_by_hand() {
    let mut called = Model::import(parse_fixture(CALLED).unwrap()).unwrap();
    let done = called.inline_all();
    assert_eq!(done.calls, 6, "{:?}", done.refused);
    called.check().unwrap();
    let inlined = called.export();
    assert!(inlined.functions.is_empty());
    assert!(inlined.opset_import.iter().all(|o| o.domain() != "local"));
    assert_eq!(run(&inlined), run(&parse_fixture(WRITTEN_OUT).unwrap()));
}

#[test]
fn a_call_that_is_refused_leaves_the_model_as_it_was() {
    let text = r#"
        # secateur: seed=1
        <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[2, 4] x) => (float[2, 4] y)
        { a = local.Broken (x)  y = Relu (a) }
        <domain: "local", opset_import: ["" : 17]>
        Broken (X) => (Y) { b = Relu (X)  Y = Add (b, nothing) }"#;
    let mut model = Model::import(parse_fixture(text).unwrap()).unwrap();
    let before = model.export();
    let done = model.inline_all();
    assert!(matches!(done.refused[..], [(_, InlineError::Misfit { .. })]), "{:?}", done.refused);
    model.check().unwrap();
    assert_eq!(model.export(), before);
}

#[test]
fn functions_that_double_forty_times_are_refused() {
    let mut text = String::from(
        "<ir_version: 8, opset_import: [\"\" : 17, \"local\" : 1]>\ng (float[2] x) => (float[2] y) { y = local.F40 (x) }\n",
    );
    for i in 1..=40 {
        let callee = if i == 1 { "Neg".to_owned() } else { format!("local.F{}", i - 1) };
        text += &format!(
            "<domain: \"local\", opset_import: [\"\" : 17, \"local\" : 1]>\nF{i} (X) => (Y) {{ a = {callee} (X)  Y = {callee} (a) }}\n"
        );
    }
    let mut model = Model::import(parse_fixture(&text).unwrap()).unwrap();
    let done = model.inline_all();
    assert!(matches!(done.refused[..], [(_, InlineError::TooLarge(_))]), "{:?}", done.refused);
}

#[test]
fn inlining_first_gives_constants_of_bodies_a_name() {
    let path = fixture::root().join("coupling/refused-function-constant.onnxtxt");
    let mut model = fixture::Fixture::load(&path).model;
    let pipeline = Pipeline::parse("inline-functions, prune(ratio=0.5)").unwrap();
    let outcomes = pipeline.run(&mut model, &Context::default(), &mut |_| ()).unwrap();
    let plan = outcomes[1].1.plan.as_ref().unwrap();
    assert!(plan.tensors.iter().any(|t| t.name == "head/w"), "{:?}", plan.tensors);
}

#[test]
fn a_sparse_weight_is_refused_by_name() {
    let text = r#"
        # secateur: seed=1
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 3, 8, 8] x) => (float[1, 2, 8, 8] y)
        <float[8, 3, 1, 1] w1, float[2, 8, 1, 1] w2>
        { [conv1] a = Conv (x, w1)  b = Relu (a)  [conv2] y = Conv (b, w2) }"#;
    let mut proto = parse_fixture(text).unwrap();
    let graph = proto.graph.as_mut().unwrap();
    let at = graph.initializer.iter().position(|t| t.name() == "w2").unwrap();
    let dense = graph.initializer.remove(at);
    let values = Tensor::from_f32(&[1], &[0.5]).to_proto("w2");
    let sparse = SparseTensorProto {
        values: Some(values),
        indices: Some(Tensor::from_i64(&[1], &[3]).to_proto("")),
        dims: dense.dims,
    };
    graph.sparse_initializer.push(sparse);
    let model = Model::import(proto).unwrap();
    let none = BTreeMap::new();
    let opened = open(&model, infer_all(&model, &none), &none);
    let coupling = Coupling::new(&opened.model, opened.worlds, &Vec::new());
    let found = groups(&opened.model, &coupling);
    assert!(found.iter().all(|g| g.classes.is_empty()), "{found:?}");
    let pins: Vec<String> = found.iter().filter_map(|g| g.pin.as_ref()).map(|p| p.text.clone()).collect();
    assert!(pins.iter().any(|text| text.contains("'w2' is a sparse tensor")), "{pins:?}");
}

/// The filters that go first are all that one part of the split has.
#[test]
fn a_part_of_a_split_keeps_a_channel() {
    let text = r#"
        # secateur: seed=1
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 3, 8, 8] x) => (float[1, 2, 8, 8] y)
        <float[8, 3, 1, 1] w1, float[2, 8, 1, 1] w2>
        {
            [conv1] a = Conv (x, w1)
            b, c = Split <axis = 1> (a)
            d = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (b)
            e = Concat <axis = 1> (c, d)
            [conv2] y = Conv (e, w2)
        }"#;
    let mut model = Model::import(parse_fixture(text).unwrap()).unwrap();
    let weight = model.values().find(|&v| model.value(v).name() == "w1").unwrap();
    let mut filters = Tensor::from_proto(model.constant(weight).unwrap()).unwrap().to_f64().unwrap();
    filters[..12].iter_mut().for_each(|w| *w *= 1e-3);
    model.set_constant(weight, &Tensor::from_f64(DataType::Float, &[8, 3, 1, 1], &filters).unwrap());
    let pipeline = Pipeline::parse("prune(ratio=0.5, by=l1)").unwrap();
    let outcomes = pipeline.run(&mut model, &Context::default(), &mut |_| ()).unwrap();
    let removed = &outcomes[0].1.plan.as_ref().unwrap().groups[0].removed;
    assert!(!removed.is_empty() && (0..4).any(|f| !removed.contains(&f)), "{removed:?}");
    let world = &infer_all(&model, &BTreeMap::new())[0];
    assert!(model.values().filter_map(|v| world.shape(v)).all(|s| !s.contains(&0)));
}
