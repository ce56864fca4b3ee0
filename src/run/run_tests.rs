use super::*;
use crate::onnx::proto::*;
use prost::Message;

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let own = |names: &[&str]| names.iter().map(|n| n.to_string()).collect();
    NodeProto { op_type: Some(op.into()), input: own(inputs), output: own(outputs), ..Default::default() }
}

fn named(name: &str, node: NodeProto) -> NodeProto {
    NodeProto { name: Some(name.into()), ..node }
}

fn value(name: &str, dtype: DataType, dims: &[&str]) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |d: &&str| Dimension {
        value: Some(d.parse().map_or_else(|_| Value::DimParam(d.to_string()), Value::DimValue)),
        ..Default::default()
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(dtype as i32), shape: Some(shape) };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: Some(name.into()), r#type: Some(r#type), ..Default::default() }
}

fn model(nodes: Vec<NodeProto>, inputs: &[&str], outputs: &[&str], weights: Vec<TensorProto>) -> ModelProto {
    let values = |names: &[&str]| names.iter().map(|n| value(n, DataType::Float, &["N", "2"])).collect();
    let graph = GraphProto {
        node: nodes,
        input: values(inputs),
        output: values(outputs),
        initializer: weights,
        ..Default::default()
    };
    let opset = OperatorSetIdProto { domain: None, version: Some(17) };
    ModelProto { ir_version: Some(8), opset_import: vec![opset], graph: Some(graph), ..Default::default() }
}

fn shapes(names: &[&str]) -> Vec<(String, DataType, Vec<usize>)> {
    names.iter().map(|n| (n.to_string(), DataType::Float, vec![1, 2])).collect()
}

fn refusal(model: &ModelProto) -> (Option<String>, String) {
    let refused = Runner::load(model, &shapes(&["x"])).unwrap_err();
    (refused.node, refused.reason)
}

#[test]
fn inputs_go_by_name_and_outputs_keep_their_order() {
    let nodes = vec![node("Sub", &["a", "b"], &["d"]), node("Neg", &["d"], &["n"]), node("Mul", &["d", "w"], &["m"])];
    // As files of IR version 3 do it, the weight is listed among the inputs, and so is one that nothing reads.
    let weights = vec![
        Tensor::from_f32(&[1, 2], &[10., 100.]).to_proto("w"),
        Tensor::from_f32(&[1, 2], &[0., 0.]).to_proto("unread"),
    ];
    let model = model(nodes, &["unread", "a", "w", "b"], &["m", "a", "n", "m"], weights);
    let (a, b) = (Tensor::from_f32(&[1, 2], &[5., 7.]), Tensor::from_f32(&[1, 2], &[1., 2.]));
    for (order, inputs) in [(["a", "b"], [&a, &b]), (["b", "a"], [&b, &a])] {
        let runner = Runner::load(&model, &shapes(&order)).unwrap();
        let outputs = runner.run(&inputs.map(Clone::clone)).unwrap();
        let expected: [&[f32]; 4] = [&[40., 500.], &[5., 7.], &[-4., -5.], &[40., 500.]];
        assert_eq!(outputs, expected.map(|v| Tensor::from_f32(&[1, 2], v)));
        let short = runner.run(&inputs.map(Clone::clone)[..1]).unwrap_err();
        assert!(short.reason.contains("loaded for inputs"), "{short}");
    }
    let missing = Runner::load(&model, &shapes(&["a"])).unwrap_err();
    assert_eq!(missing.reason, "no shape is given for input 'b'");
    let many = Runner::load(&model, &shapes(&["a", "b", "w"])).unwrap_err();
    assert_eq!(many.reason, "3 shapes are given for 2 inputs");
}

#[test]
fn large_weights_are_lent_and_integers_come_back() {
    let big: Vec<f32> = (0..2000).map(|i| i as f32).collect();
    let weights = vec![Tensor::from_f32(&[1000, 2], &big).to_proto("w")];
    let mut model = model(
        vec![node("Add", &["x", "w"], &["s"]), node("Shape", &["s"], &["extents"])],
        &["x"],
        &["s", "extents"],
        weights,
    );
    model.graph.as_mut().unwrap().output[1] = value("extents", DataType::Int64, &["2"]);
    let runner = Runner::load(&model, &shapes(&["x"])).unwrap();
    let out = runner.run(&[Tensor::from_f32(&[1, 2], &[0.5, 0.5])]).unwrap();
    assert_eq!(out[0].to_f32().unwrap()[1998..], [1998.5, 1999.5]);
    assert_eq!(out[1], Tensor::from_i64(&[2], &[1000, 2]));
}

/// Each would be run by tract, or bring it down, with nothing said.
#[test]
fn refusals_name_node_and_reason() {
    let relu = || named("act", node("Relu", &["x"], &["y"]));
    let single = |n: NodeProto| model(vec![n], &["x"], &["y"], vec![]);
    let foreign = NodeProto { domain: Some("my.ops".into()), ..relu() };
    let (at, reason) = refusal(&single(foreign.clone()));
    assert_eq!(at.as_deref(), Some("act"));
    assert_eq!(reason, "Relu is an operator of domain 'my.ops', which the interpreter does not know");

    let mut functions = single(foreign);
    functions.functions =
        vec![FunctionProto { domain: Some("my.ops".into()), name: Some("Relu".into()), ..Default::default() }];
    // A call is inlined, unless it does not fit.
    assert!(refusal(&functions).1.contains("does not fit function my.ops.Relu"));

    let (at, reason) = refusal(&single(node("NoSuchOp", &["x"], &["y"])));
    assert_eq!((at.as_deref(), &*reason), (Some("y"), "the interpreter does not know operator NoSuchOp"));
    assert!(refusal(&single(node("RandomNormalLike", &["x"], &["y"]))).1.contains("another result at every run"));

    let mut reversed = node("LSTM", &["x", "w", "r"], &["y"]);
    reversed.attribute =
        vec![AttributeProto { name: Some("direction".into()), s: Some("reverse".into()), ..Default::default() }];
    assert!(refusal(&single(reversed)).1.contains("does not reverse"));

    let brain = Tensor::from_f64(DataType::Bfloat16, &[1, 2], &[1., 2.]).unwrap().to_proto("w");
    let (at, reason) =
        refusal(&model(vec![named("add", node("Add", &["x", "w"], &["y"]))], &["x"], &["y"], vec![brain]));
    assert_eq!((at.as_deref(), &*reason), (Some("add"), "tensor 'w' is of type Bfloat16, which the interpreter lacks"));

    let mut short = Tensor::from_f32(&[1, 2], &[1., 2.]).to_proto("w");
    short.dims = vec![1, 3];
    assert!(
        refusal(&model(vec![node("Add", &["x", "w"], &["y"])], &["x"], &["y"], vec![short])).1.contains("needs 12")
    );

    let misfit = Tensor::from_f32(&[3], &[1., 2., 3.]).to_proto("w");
    let misfit = model(vec![named("add", node("Add", &["x", "w"], &["y"]))], &["x"], &["y"], vec![misfit]);
    let x = Tensor::from_f32(&[1, 2], &[1., 2.]);
    let refused = Runner::load(&misfit, &shapes(&["x"])).and_then(|runner| runner.run(&[x])).unwrap_err();
    assert_eq!(refused.node.as_deref(), Some("add"), "{refused}");
    assert!(refused.reason.starts_with("Add: "), "{refused}");

    let (at, reason) = refusal(&model(vec![named("add", node("Add", &["x", "?"], &["y"]))], &["x"], &["y"], vec![]));
    assert_eq!((at, &*reason), (None, "value '?' is read but nothing produces it"));
    assert!(refusal(&model(vec![relu()], &["x"], &["nowhere"], vec![])).1.contains("'nowhere' is read"));
    assert_eq!(refusal(&ModelProto::default()).1, "the model has no graph");

    let mut typed = single(relu());
    typed.graph.as_mut().unwrap().input[0] = value("x", DataType::Double, &["1", "2"]);
    assert_eq!(refusal(&typed).1, "input 'x' is of type Double, not Float");
}

/// Rewritten, tract 0.23.9 would tabulate the Softmax and give 127 everywhere.
#[test]
fn softmax_between_quantized_values() {
    let weights = vec![
        Tensor::from_f32(&[], &[0.1]).to_proto("s"),
        Tensor::from_f64(DataType::Int8, &[], &[0.]).unwrap().to_proto("z"),
        Tensor::from_f32(&[], &[1.0 / 256.0]).to_proto("s2"),
        Tensor::from_f64(DataType::Int8, &[], &[-128.]).unwrap().to_proto("z2"),
    ];
    let nodes = vec![
        node("QuantizeLinear", &["x", "s", "z"], &["q"]),
        node("DequantizeLinear", &["q", "s", "z"], &["d"]),
        node("Softmax", &["d"], &["p"]),
        node("QuantizeLinear", &["p", "s2", "z2"], &["y"]),
    ];
    let mut model = model(nodes, &["x"], &["y"], weights);
    model.graph.as_mut().unwrap().output[0] = value("y", DataType::Int8, &["1", "2"]);
    for load in [Runner::load, Runner::load_optimized] {
        let out = load(&model, &shapes(&["x"])).unwrap().run(&[Tensor::from_f32(&[1, 2], &[0., 0.])]).unwrap();
        assert_eq!(out[0].to_i64().unwrap(), [0, 0]);
    }
}

#[test]
fn damaged_models_are_values_too() {
    let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/models/dcase21_fsdd.onnx")).unwrap();
    let shapes = [("logmel".to_owned(), DataType::Float, vec![1, 1, 40, 62])];
    let inputs = random_inputs(&shapes, 1);
    // The graph's structure comes first in the file: flip some of its bytes, one at a time.
    for at in (0..1600).step_by(17) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x15;
        if let Ok(model) = ModelProto::decode(&damaged[..])
            && let Ok(runner) = Runner::load(&model, &shapes)
        {
            let _ = runner.run(&inputs);
        }
    }
}
