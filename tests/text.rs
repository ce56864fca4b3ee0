//! ONNX's textual syntax: what is read is what was printed, and errors say where.

use secateur::onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto};
use secateur::onnx::tensor::{DataType, Tensor};
use secateur::onnx::text::{PrintOptions, directives, parse, parse_fixture, print};

const EVERYTHING: &str = include_str!("text/everything.onnxtxt");
const SEEDED: &str = include_str!("text/seeded.onnxtxt");

fn floats(model: &ModelProto, name: &str) -> Vec<f32> {
    let graph = model.graph.as_ref().unwrap();
    let tensor = graph.initializer.iter().find(|tensor| tensor.name() == name).unwrap();
    Tensor::from_proto(tensor).unwrap().to_f32().unwrap().into_owned()
}

#[test]
fn what_is_printed_is_read_as_the_same_model() {
    let model = parse(EVERYTHING).unwrap();
    let text = print(&model, &PrintOptions::default());
    assert!(!text.contains("# lost"), "{text}");
    let again = parse(&text).unwrap();
    // Debug, not ==, since a NaN in it equals nothing.
    assert_eq!(format!("{again:?}"), format!("{model:?}"));
    assert_eq!(print(&again, &PrintOptions::default()), text);
}

#[test]
fn all_types_of_numbers_keep_their_bits() {
    for dtype in 1..=26 {
        let dtype = DataType::try_from(dtype).unwrap();
        if dtype == DataType::String {
            continue;
        }
        let bits = secateur::onnx::tensor::bits_per_element(dtype).unwrap();
        let bytes: Vec<u8> = (0..4 * bits / 8).map(|i| (i * 89 + 1) as u8 & 0x7f).collect();
        let tensor = Tensor::new(dtype, vec![4], bytes.into()).unwrap();
        let graph = GraphProto { initializer: vec![tensor.to_proto("t")], ..Default::default() };
        let text = print(&ModelProto { graph: Some(graph), ..Default::default() }, &PrintOptions::default());
        let back = parse(&text).unwrap_or_else(|error| panic!("{dtype:?}: {error}\n{text}"));
        let back = Tensor::from_proto(&back.graph.unwrap().initializer[0]);
        assert_eq!(back.unwrap(), tensor, "{dtype:?}\n{text}");
    }
}

#[test]
fn errors_say_where() {
    let cases = [
        ("", "line 1, column 1: expected the name of a graph, found the end of the text"),
        ("g (float[3] x) -> (float y) {}", "line 1, column 16: expected '=>', found '-'"),
        ("<ir_version: 8,\n colour: 3> g () => () {}", "line 2, column 2: 'colour' is not a property of a model"),
        ("<ir_version: 99999999999999999999>", "line 1, column 14: 99999999999999999999 is out of range"),
        (
            "g () => ()\n{\n  # ü\n  y = Op <k = > (x) }",
            "line 4, column 15: expected the value of an attribute, found '>'",
        ),
        ("g () => () { y = Op <k: int = 1.5> () }", "column 31: the attribute is of type INT, its value of type FLOAT"),
        ("g () => () { y = Op <k: colour = 1> () }", "column 25: 'colour' is not a type of attributes"),
        ("g () => () { y = Op <k = []> () }", "column 26: an empty list needs a type"),
        ("g () => () { y = Op <k = [1, 2.5]> () }", "column 30: the attribute is of type INT, its value of type FLOAT"),
        ("g () => () <float[N] w = {1}> {}", "column 26: the dimensions of a constant must be numbers"),
        ("g () => () <int8[1] w = {1.5}> {}", "column 26: expected an integer"),
        ("g () => () <float[1] w = {1e99}> {}", "column 27: 1e99 is out of range"),
        ("g () => () { y = Op(\"x) }", "column 21: this string has no end"),
        ("g (seq(float x) => () {}", "column 14: expected ')', found 'x'"),
        ("g () => () { y = Op(x) ", "column 24: expected '=', found the end of the text"),
        ("g () => () { y = Op(x) } extra", "column 31: expected '(', found the end of the text"),
    ];
    for (text, expected) in cases {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}\n  expected {expected}\n  found    {error}");
    }
    let deep = format!("g ({}float{} x) => () {{}}", "seq(".repeat(5000), ")".repeat(5000));
    assert!(parse(&deep).unwrap_err().message.contains("nested deeper"));
}

#[test]
fn every_prefix_of_a_text_is_read_or_refused_without_a_panic() {
    for (end, _) in EVERYTHING.char_indices() {
        let _ = parse(&EVERYTHING[..end]);
    }
}

#[test]
fn empty_operands_are_kept() {
    let read = |operands: &str| {
        let model = parse(&format!("g () => () {{ y = Op({operands}) }}")).unwrap();
        model.graph.unwrap().node[0].input.clone()
    };
    let none: [&str; 0] = [];
    assert_eq!(read(""), none);
    assert_eq!(read(", x"), ["", "x"]);
    assert_eq!(read("\"\""), [""]);
    assert_eq!(read(","), [""]);
    assert_eq!(read("x, , y"), ["x", "", "y"]);
    assert_eq!(read("x,"), ["x"]);
}

#[test]
fn what_the_syntax_cannot_say_is_said_in_a_comment() {
    let text = |attribute: AttributeProto, op: &str| {
        let node = NodeProto { op_type: Some(op.into()), attribute: vec![attribute], ..Default::default() };
        let graph = GraphProto { name: Some("g".into()), node: vec![node], ..Default::default() };
        let text = print(&ModelProto { graph: Some(graph), ..Default::default() }, &PrintOptions::default());
        parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        text.lines().find(|line| line.contains("= ")).unwrap().trim().to_owned()
    };
    let named = |name: &str| AttributeProto { name: Some(name.into()), ..Default::default() };
    assert_eq!(text(AttributeProto { i: Some(1), ..named("a b") }, "Op"), "= Op ()  # lost: the attribute \"a b\"");
    assert_eq!(text(named("nothing"), "Op"), "= Op ()  # lost: the attribute \"nothing\"");
    let op = "aten::add\n";
    assert_eq!(
        text(AttributeProto { i: Some(1), ..named("i") }, op),
        "= aten__add_ <i: int = 1> ()  # lost: the name \"aten::add \""
    );
    let inner = GraphProto { name: Some("float".into()), ..Default::default() };
    assert!(text(AttributeProto { g: Some(inner), ..named("g") }, "Op").contains("float_ ()"));
    let tensor = TensorProto { data_type: Some(27), dims: vec![1], name: Some("a/b".into()), ..Default::default() };
    assert!(text(AttributeProto { t: Some(tensor), ..named("t") }, "Op").contains("lost: the element type 27"));
    assert!(
        text(AttributeProto { tp: Some(TypeProto::default()), r#type: Some(13), ..named("t") }, "Op")
            .contains("lost: a type")
    );
}

#[test]
fn long_tensors_are_elided_and_the_rest_still_reads() {
    let model = parse_fixture(SEEDED).unwrap();
    let text = print(&model, &PrintOptions { elide_above: Some(4) });
    assert!(text.contains("float[4,3,3,3] w,  # 108 elements, sha256 "), "{text}");
    assert!(text.contains("float[2] given = {1.0,2.0},\n"), "{text}");
    let again = parse(&text).unwrap().graph.unwrap();
    assert!(again.value_info.iter().any(|value| value.name() == "w"));
    assert_eq!(again.initializer.len() + 1, model.graph.unwrap().initializer.len());

    let constant = "g () => () { c = Constant <value = float[2] {1, 2}> () }";
    let text = print(&parse(constant).unwrap(), &PrintOptions { elide_above: Some(1) });
    assert!(text.contains("c = Constant <value: tensor = float[2] => ()  # 2 elements, sha256 "), "{text}");
    let node = &parse(&text).unwrap().graph.unwrap().node[0];
    assert_eq!(node.attribute[0].t.as_ref().unwrap().dims, [2]);
}

#[test]
fn seeds_fill_what_nothing_produces() {
    let model = parse_fixture(SEEDED).unwrap();
    let graph = model.graph.as_ref().unwrap();
    let names: Vec<_> = graph.initializer.iter().map(|tensor| tensor.name()).collect();
    assert_eq!(names, ["given", "w", "b", "variance", "small", "half", "bytes"]);
    let described: Vec<_> = graph.value_info.iter().map(|value| value.name()).collect();
    assert_eq!(described, ["t"], "a value that a node produces stays one");

    let w = floats(&model, "w");
    let deviation = (w.iter().map(|x| x * x).sum::<f32>() / w.len() as f32).sqrt();
    assert!((0.14..0.25).contains(&deviation), "about 1 / sqrt(27), is {deviation}");
    assert!(floats(&model, "variance").iter().all(|x| (0.5..1.5).contains(x)));
    assert_ne!(floats(&model, "b"), floats(&model, "variance"));

    // Neither order nor neighbours matter, the seed does. The numbers are written out so that they stay.
    let moved = SEEDED.replace("float[4,3,3,3] w, float[4] b", "float[4] b, float[9] new, float[4,3,3,3] w");
    assert_eq!(floats(&parse_fixture(&moved).unwrap(), "w"), w);
    let other = SEEDED.replace("seed=7", "seed=8");
    assert_ne!(floats(&parse_fixture(&other).unwrap(), "w"), w);
    assert_eq!(floats(&model, "b"), [1.4869424, 1.3576207, 1.3604145, 0.70096004]);
}

#[test]
fn seeds_reach_into_bodies_and_refuse_what_has_no_shape() {
    let text = "# secateur: seed=1\ng (bool c, float[2] o) => (float[2] y) <float[2] outer> {
        y = If (c) <then_branch = t () => (float[2] r) <float[2] outer, float[2] own> { r = Add (own, outer) },
                    else_branch = e () => (float[2] r) { r = Identity (o) }> }";
    let graph = parse_fixture(text).unwrap().graph.unwrap();
    let body = graph.node[0].attribute[0].g.as_ref().unwrap();
    assert_eq!(body.initializer.iter().map(|t| t.name()).collect::<Vec<_>>(), ["own"]);

    let error = parse_fixture("# secateur: seed=1\ng () => ()\n <float[N,2] w> {}").unwrap_err();
    assert_eq!((error.line, error.column), (3, 14), "{error}");
    let error = parse_fixture("\n# secateur: seed=x\ng () => () {}").unwrap_err();
    assert_eq!(error.to_string(), "line 2, column 1: the seed 'x' is not a number");
}

#[test]
fn directives_are_those_of_the_header() {
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(directives(SEEDED), [pair("seed", "7"), pair("expect", "conv1 pruned")]);
    let text = "# secateur: alone\n\n## secateur: a=b=c\n# other: d=e\ng () => () {}\n# secateur: late=1";
    assert_eq!(directives(text), [pair("alone", ""), pair("a", "b=c")]);
}
