//! `--allow-inexact norm`, as it is asked for and told.

use super::{Case, parsed};

/// A normalisation over channels between two convolutions, and a length of all channels behind.
const NORMALISED: &str = r#"
# secateur: seed=1
<ir_version: 8, opset_import: ["" : 17]>
normalised (float[N, 8, 8, 3] x) => (float[N, 8, 8, 3] y)
<float[3, 12] w1, float[12] s, float[12] b, float[12, 3] w2, float e = {0.1}>
{
    [one] p = MatMul (x, w1)
    [norm] n = LayerNormalization <axis = -1> (p, s, b)
    [length] l = ReduceL2 <axes = [-1]> (n)
    above = Add (l, e)
    u = Div (n, above)
    [two] y = MatMul (u, w2)
}
"#;

#[test]
fn a_removal_through_norms_is_asked_for_and_told() {
    let case = Case::new();
    case.model("norms.onnx", &parsed(NORMALISED));
    let told = case.told(&["prune", "norms.onnx", "-o", "same.onnx"]);
    assert!(told.contains("Nothing was cut") && !told.contains("inexact"), "{told}");
    let through =
        ["prune", "norms.onnx", "-o", "out.onnx", "--allow-inexact", "norm", "--plan", "plan.json", "--no-repair"];
    let told = case.told(&through);
    let named =
        "inexact: 2 statistics over channels are of the channels that stay: LayerNormalization 'n', ReduceL2 'l'\n";
    assert!(told.contains(named) && told.contains("with its statistics rescaled"), "{told}");
    assert!(told.ends_with("exit 0\n"), "{told}");
    let plan: serde_json::Value = serde_json::from_slice(&case.read("plan.json")).unwrap();
    assert_eq!(plan["options"]["allow-inexact"], "norm");
    assert_eq!(plan["reference"], "rescaled");
    assert_eq!(plan["inexact"][1]["op"], "ReduceL2");
    let count = |at: usize| plan["inexact"][1]["count"][at].as_u64().unwrap();
    assert_eq!(count(0), 2 * count(1));

    let told = case.told(&["verify", "norms.onnx", "out.onnx", "--plan", "plan.json"]);
    assert!(told.contains("with its statistics rescaled") && told.ends_with("exit 0\n"), "{told}");
    let told = case.told(&["apply", "plan.json", "norms.onnx", "-o", "again.onnx", "--no-repair"]);
    assert!(told.ends_with("exit 0\n"), "{told}");
    assert_eq!(case.read("out.onnx"), case.read("again.onnx"));
    let pass = "prune(allow_inexact=norm)";
    let told = case.told(&["run", "norms.onnx", "-o", "run.onnx", "--passes", pass, "--json"]);
    assert!(told.contains("\"inexact\": [") && told.ends_with("exit 0\n"), "{told}");

    // Held against an original whose statistics are taken otherwise it is another model.
    let mut plan = plan;
    plan["inexact"][1]["count"] = serde_json::json!([1, 1]);
    case.bytes("wrong.json", plan.to_string().as_bytes());
    let told = case.refused(&["verify", "norms.onnx", "out.onnx", "--plan", "wrong.json"]);
    assert!(told.contains("verification FAILED") && told.ends_with("exit 3\n"), "{told}");
    plan["inexact"][1]["output"] = "nothing".into();
    case.bytes("wrong.json", plan.to_string().as_bytes());
    let told = case.refused(&["verify", "norms.onnx", "out.onnx", "--plan", "wrong.json"]);
    assert!(told.contains("it has no ReduceL2 that computes 'nothing'") && told.ends_with("exit 1\n"), "{told}");
    let told = case.refused(&["prune", "norms.onnx", "-o", "bad.onnx", "--lossless", "--allow-inexact", "norm"]);
    assert!(told.ends_with("exit 2\n"), "{told}");
}
