//! The command as a whole: exit codes, messages, and what it leaves behind.
//!
//! Every case runs the binary in a folder of its own that is empty but for the case's models; paths in what it prints
//! become `DIR`. A command that fails must leave the folder as it found it.

mod norms;

use secateur::onnx::proto::{GraphProto, ModelProto, OperatorSetIdProto};
use secateur::onnx::tensor::Tensor;
use secateur::onnx::text::parse_fixture;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A chain of two convolutions and a dense layer: both convolutions can be cut, the dense layer is the output.
const CHAIN: &str = r#"
# secateur: seed=1
<ir_version: 8, opset_import: ["" : 17]>
chain (float[N, 1, 8, 8] x) => (float[N, 3] y)
<float[6, 1, 3, 3] w1, float[6] b1, float[8, 6, 3, 3] w2, float[3, 8] w3, float[3] b3>
{
    [conv1] a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
    [relu1] b = Relu (a)
    [conv2] c = Conv (b, w2)
    [pool] d = GlobalAveragePool (c)
    [flat] e = Flatten (d)
    [fc] y = Gemm <transB = 1> (e, w3, b3)
}
"#;

/// One convolution whose channels are the output: nothing can be cut.
const PINNED: &str = r#"
# secateur: seed=1
<ir_version: 8, opset_import: ["" : 17]>
pinned (float[1, 2, 4, 4] x) => (float[1, 4, 4, 4] y)
<float[4, 2, 1, 1] w>
{
    [only] y = Conv (x, w)
}
"#;

/// The same chain behind a node that no interpreter knows.
const FOREIGN: &str = r#"
# secateur: seed=1
<ir_version: 8, opset_import: ["" : 17, "acme" : 1]>
foreign (float[N, 1, 8, 8] x) => (float[N, 3] y)
<float[6, 1, 3, 3] w1, float[8, 6, 3, 3] w2, float[3, 8] w3>
{
    [conv1] a = Conv <pads = [1, 1, 1, 1]> (x, w1)
    [relu1] b = Relu (a)
    [conv2] c = Conv (b, w2)
    [pool] d = GlobalAveragePool (c)
    [flat] e = Flatten (d)
    [fc] f = Gemm <transB = 1> (e, w3)
    [bell] y = acme.Ring (f)
}
"#;

struct Case {
    dir: TempDir,
}

impl Case {
    fn new() -> Self {
        let case = Self { dir: TempDir::new().unwrap() };
        case.model("in.onnx", &parsed(CHAIN));
        case
    }

    fn model(&self, name: &str, model: &ModelProto) {
        secateur::onnx::write(model, &self.dir.path().join(name)).unwrap();
    }

    fn bytes(&self, name: &str, bytes: &[u8]) {
        fs::write(self.dir.path().join(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.dir.path().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn exists(&self, name: &str) -> bool {
        self.dir.path().join(name).exists()
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap());
        let files = entries.filter(|e| e.path().is_file());
        files.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
    }

    /// Runs `secateur` in the folder.
    fn run(&self, args: &[&str], stdin: &[u8]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_secateur"))
            .args(args)
            .current_dir(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not read its input closes the pipe, which is its right.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        child.wait_with_output().unwrap()
    }

    fn shown(&self, output: &[u8]) -> String {
        redacted(&String::from_utf8_lossy(output), self.dir.path())
    }

    /// Exit code, what was printed and what was complained of, as a snapshot shows them.
    fn told(&self, args: &[&str]) -> String {
        let output = self.run(args, b"");
        let (out, err) = (self.shown(&output.stdout), self.shown(&output.stderr));
        format!("$ secateur {}\n{out}{err}exit {}\n", args.join(" "), output.status.code().unwrap_or(-1))
    }

    /// Like [`Case::told`], for what must fail and leave nothing behind.
    fn refused(&self, args: &[&str]) -> String {
        let before = self.files();
        let told = self.told(args);
        assert!(!told.ends_with("exit 0\n"), "{told}");
        assert!(!told.contains("panicked"), "{told}");
        let after = self.files();
        assert!(before == after, "left behind: {:?}\n{told}", after.keys().collect::<Vec<_>>());
        told
    }
}

fn redacted(text: &str, dir: &Path) -> String {
    text.replace(&dir.display().to_string(), "DIR")
}

fn parsed(text: &str) -> ModelProto {
    parse_fixture(text).unwrap_or_else(|e| panic!("{e}"))
}

/// The chain with its graph changed.
fn changed(change: impl FnOnce(&mut GraphProto)) -> ModelProto {
    let mut model = parsed(CHAIN);
    change(model.graph.as_mut().unwrap());
    model
}

/// As many cases as text, so that one snapshot shows all messages side by side.
fn all(parts: impl IntoIterator<Item = String>) -> String {
    parts.into_iter().collect::<Vec<_>>().join("\n")
}

#[test]
fn prune_says_what_it_did() {
    let case = Case::new();
    // What a repair adds has a test of its own: its numbers hang on the machine's vector instructions.
    let args = ["prune", "in.onnx", "-o", "out.onnx", "--no-repair", "--plan", "plan.json", "--report", "report.txt"];
    let told = case.told(&args);
    // The last digits of the error hang on the machine's vector instructions.
    let told = told.lines().map(|l| match l.strip_prefix("verified: largest relative difference ") {
        Some(rest) => format!("verified: largest relative difference _{}", &rest[rest.find(' ').unwrap()..]),
        None => l.to_owned(),
    });
    insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"));
    assert!(case.read("out.onnx").len() < case.read("in.onnx").len());
    let plan: serde_json::Value = serde_json::from_slice(&case.read("plan.json")).unwrap();
    assert_eq!(plan["model"]["file"], "in.onnx");
    assert_eq!(plan["model"]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(plan["verified"]["outcome"], "equal");
    let report = String::from_utf8(case.read("report.txt")).unwrap();
    assert!(report.contains("conv1") && report.contains("verified"), "{report}");
    assert_eq!(case.files().len(), 4);
}

#[test]
fn the_same_bytes_every_time_and_onto_itself() {
    let case = Case::new();
    let prune = |out: &str, threads: &str| {
        let args = ["prune", "in.onnx", "-o", out, "--threads", threads, "--plan", "plan.json"];
        assert_eq!(case.run(&args, b"").status.code(), Some(0));
        (case.read(out), case.read("plan.json"))
    };
    let first = prune("a.onnx", "1");
    assert_eq!(first, prune("b.onnx", "2"));
    let itself = case.run(&["prune", "in.onnx", "-o", "in.onnx"], b"");
    assert_eq!(itself.status.code(), Some(0), "{}", case.shown(&itself.stderr));
    assert_eq!(case.read("in.onnx"), first.0);
}

#[test]
fn models_go_through_pipes() {
    let case = Case::new();
    let piped = case.run(&["prune", "-", "-o", "-"], &case.read("in.onnx"));
    assert_eq!(piped.status.code(), Some(0), "{}", case.shown(&piped.stderr));
    let words = case.shown(&piped.stderr);
    assert!(words.contains("standard input -> standard output") && words.contains("verified"), "{words}");
    let to_file = case.run(&["prune", "in.onnx", "-o", "out.onnx"], b"");
    assert!(to_file.stderr.is_empty(), "{}", case.shown(&to_file.stderr));
    assert_eq!(piped.stdout, case.read("out.onnx"));
    let inspected = case.run(&["inspect", "-", "--json"], &piped.stdout);
    let json: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(json["layers"][0]["weight"], serde_json::json!([3, 1, 3, 3]));
}

#[test]
fn tables_for_people() {
    let case = Case::new();
    case.model("pinned.onnx", &parsed(PINNED));
    insta::assert_snapshot!(all([
        case.told(&["inspect", "in.onnx"]),
        case.told(&["inspect", "in.onnx", "--input-shape", "x=1x1x8x8"]),
        case.told(&["inspect", "pinned.onnx"]),
        case.told(&["explain", "in.onnx", "conv1:2"]),
        case.told(&["explain", "pinned.onnx", "only"]),
        case.told(&["diff", "in.onnx", "in.onnx"]),
        case.told(&["diff", "pinned.onnx", "in.onnx"]),
    ]));
}

#[test]
fn every_table_is_json_too() {
    let case = Case::new();
    let json = |args: &[&str]| -> serde_json::Value {
        let output = case.run(args, b"");
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", case.shown(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}"))
    };
    let pruned = json(&["prune", "in.onnx", "-o", "out.onnx", "--no-repair", "--plan", "plan.json", "--json"]);
    assert_eq!(pruned["layers"][0]["channels"], serde_json::json!([6, 3]));
    assert_eq!(json(&["inspect", "out.onnx", "--json"])["params"], pruned["cost"]["params"][1]);
    assert_eq!(json(&["explain", "in.onnx", "conv2", "--json"])["channels"], 8);
    assert_eq!(json(&["diff", "in.onnx", "out.onnx", "--json"])["nodes"], serde_json::json!([6, 6]));
    assert_eq!(json(&["verify", "in.onnx", "out.onnx", "--plan", "plan.json", "--json"])["outcome"], "equal");
    assert!(json(&["passes", "--json"]).as_array().unwrap().len() > 2);
    let ran = json(&["run", "in.onnx", "-o", "run.onnx", "--passes", "prune(ratio=0.5)", "--plan", "p.json", "--json"]);
    assert!(ran["verified"].is_null());
}

#[test]
fn a_plan_is_replayed_and_verified() {
    let case = Case::new();
    let succeeds = |args: &[&str]| {
        let output = case.run(args, b"");
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", case.shown(&output.stderr));
    };
    succeeds(&["prune", "in.onnx", "-o", "out.onnx", "--no-repair", "--plan", "plan.json"]);
    succeeds(&["apply", "plan.json", "in.onnx", "-o", "again.onnx", "--no-repair"]);
    assert_eq!(case.read("out.onnx"), case.read("again.onnx"));
    succeeds(&["verify", "in.onnx", "again.onnx", "--plan", "plan.json"]);

    // Another pruned model than the plan says, and a model that the plan was not made for.
    succeeds(&["prune", "in.onnx", "-o", "other.onnx", "--by", "l1", "--keep", "central", "--ratio", "0.4"]);
    let told = case.refused(&["verify", "in.onnx", "other.onnx", "--plan", "plan.json"]);
    assert!(told.contains("verification FAILED") && told.ends_with("exit 3\n"), "{told}");
    case.model("pinned.onnx", &parsed(PINNED));
    let told = case.refused(&["apply", "plan.json", "pinned.onnx", "-o", "bad.onnx"]);
    assert!(told.contains("pinned.onnx") && told.ends_with("exit 1\n"), "{told}");
}

/// The chain with a filter of zeros, and one that is a copy.
#[test]
fn a_repair_is_told_in_full() {
    let case = Case::new();
    let calibrated = ["--calibrate", "noise", "--samples", "64"];
    let prune = |out: &str, more: &[&str]| {
        let args = [&["prune", "in.onnx", "-o", out, "--plan", "plan.json"], &calibrated[..], more].concat();
        let output = case.run(&args, b"");
        assert_eq!(output.status.code(), Some(0), "{}", case.shown(&output.stderr));
        case.shown(&output.stdout)
    };
    let words = prune("out.onnx", &["--report", "report.txt"]);
    assert_eq!(case.shown(&case.read("report.txt")), words);
    for told in ["fitted layer", "error before", "fc", "on 64 inputs (noise) the outputs differ"] {
        assert!(words.contains(told), "'{told}' is not in\n{words}");
    }
    let json: serde_json::Value = serde_json::from_str(&prune("again.onnx", &["--json", "--threads", "1"])).unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&case.read("plan.json")).unwrap();
    let repair = &plan["repair"];
    assert_eq!(json["repair"], *repair);
    assert_eq!((&repair["data"], &repair["samples"]), (&"noise".into(), &64.into()));
    assert!(repair["drift"][1].as_f64() < repair["drift"][0].as_f64(), "{repair}");
    let fitted: Vec<&str> = repair["fitted"].as_array().unwrap().iter().map(|f| f["node"].as_str().unwrap()).collect();
    assert_eq!(fitted, ["conv2", "fc"]);
    let conv2 = &repair["fitted"][0];
    assert_eq!(conv2["channels"], serde_json::json!([6, 3]));
    assert!(conv2["error"][1].as_f64() < conv2["error"][0].as_f64(), "{conv2}");

    // A plan with a repair is replayed like any other; that repaired weights are others is no failed verification.
    let apply = case.run(&[&["apply", "plan.json", "in.onnx", "-o", "replayed.onnx"], &calibrated[..]].concat(), b"");
    assert_eq!(apply.status.code(), Some(0), "{}", case.shown(&apply.stderr));
    assert_eq!(case.read("replayed.onnx"), case.read("out.onnx"));
    let verify = case.told(&["verify", "in.onnx", "out.onnx", "--plan", "plan.json"]);
    assert!(verify.contains("cannot verify: node 'conv2': it was fitted") && verify.ends_with("exit 0\n"), "{verify}");
    let strict = case.refused(&["verify", "in.onnx", "out.onnx", "--plan", "plan.json", "--strict"]);
    assert!(strict.ends_with("exit 4\n"), "{strict}");
}

#[test]
fn a_model_that_cannot_be_run_is_pruned_by_its_weights() {
    let case = Case::new();
    case.model("foreign.onnx", &parsed(FOREIGN));
    let prune =
        |more: &[&'static str]| [&["prune", "foreign.onnx", "-o", "out.onnx", "--calibrate", "noise"], more].concat();
    let told = case.refused(&prune(&["--by", "reconstruction"]));
    assert!(told.contains("'bell'") && told.contains("choose by communality") && told.ends_with("exit 1\n"), "{told}");
    let told = case.told(&prune(&["--plan", "plan.json"]));
    assert!(told.contains("warning: prune: node 'bell': 'reconstruction' needs a model that can be run"), "{told}");
    assert!(told.contains("chosen by communality") && told.ends_with("exit 0\n"), "{told}");
    assert!(told.contains("warning: repair: node 'bell': the model cannot be run"), "{told}");
    let calibrated: serde_json::Value = serde_json::from_slice(&case.read("plan.json")).unwrap();
    assert_eq!(calibrated["options"]["by"], "communality");
    assert!(calibrated["repair"].is_null());
    let bytes = case.read("out.onnx");
    case.told(&["prune", "foreign.onnx", "-o", "out.onnx", "--by", "communality"]);
    assert_eq!(case.read("out.onnx"), bytes);
}

fn sparse() -> ModelProto {
    let fill = |g: &mut GraphProto, name: &str, change: fn(&mut [f64])| {
        let tensor = g.initializer.iter_mut().find(|t| t.name() == name).unwrap();
        let content = Tensor::from_proto(tensor).unwrap();
        let mut numbers = content.to_f64().unwrap();
        change(&mut numbers);
        *tensor = Tensor::from_f64(content.dtype(), content.shape(), &numbers).unwrap().to_proto(name);
    };
    changed(|g| {
        fill(g, "w1", |w| w[18..27].fill(0.0));
        fill(g, "b1", |b| b[2] = 0.0);
        fill(g, "w2", |w| w.copy_within(54..108, 0));
    })
}

#[test]
fn a_lossless_removal_is_compared_with_the_original_itself() {
    let case = Case::new();
    case.model("sparse.onnx", &sparse());
    let told = case.told(&["prune", "--lossless", "sparse.onnx", "-o", "out.onnx", "--plan", "plan.json"]);
    assert!(told.contains("between the new model and the original") && told.ends_with("exit 0\n"), "{told}");
    assert!(told.contains("conv1        6    5") && told.contains("conv2        8    7"), "{told}");
    let verified = case.told(&["verify", "sparse.onnx", "out.onnx", "--plan", "plan.json"]);
    assert!(
        verified.contains("between the new model and the original") && verified.ends_with("exit 0\n"),
        "{verified}"
    );
    // Another model than the original: what is unmasked counts.
    let told = case.refused(&["verify", "in.onnx", "out.onnx", "--plan", "plan.json"]);
    assert!(
        told.contains("FAILED") && told.contains("the new model and the original") && told.ends_with("exit 3\n"),
        "{told}"
    );
    let told = case.refused(&["apply", "plan.json", "in.onnx", "-o", "other.onnx"]);
    assert!(told.contains("run `prune --lossless` instead") && told.ends_with("exit 1\n"), "{told}");
    let told =
        case.told(&["run", "sparse.onnx", "-o", "again.onnx", "--passes", "prune-lossless", "--plan", "again.json"]);
    assert!(told.ends_with("exit 0\n"), "{told}");
    // Nothing to remove: the model comes out as it went in, unless the other passes find something.
    let told = case.told(&["prune", "--lossless", "in.onnx", "-o", "same.onnx"]);
    assert!(told.contains("Nothing was cut") && told.ends_with("exit 0\n"), "{told}");
    let told = case.refused(&["prune", "--lossless", "in.onnx", "-o", "same2.onnx", "--strict"]);
    assert!(told.ends_with("exit 4\n"), "{told}");
}

#[test]
fn a_model_that_cannot_be_cut_is_said_to_be_so() {
    let case = Case::new();
    case.model("pinned.onnx", &parsed(PINNED));
    let told = case.told(&["prune", "pinned.onnx", "-o", "out.onnx"]);
    assert!(told.contains("Nothing was cut") && told.ends_with("exit 0\n"), "{told}");
    assert!(case.exists("out.onnx"));
    insta::assert_snapshot!(all([told, case.refused(&["prune", "pinned.onnx", "-o", "strict.onnx", "--strict"])]));
}

#[test]
fn bad_files_are_named_with_the_cause() {
    let case = Case::new();
    let good = case.read("in.onnx");
    fs::create_dir(case.dir.path().join("folder")).unwrap();
    case.bytes("truncated.onnx", &good[..good.len() / 2]);
    case.bytes("random.onnx", &(0..999u32).map(|i| (i.wrapping_mul(2654435761) >> 13) as u8).collect::<Vec<_>>());
    case.bytes("empty.onnx", b"");
    let bare = |g: &mut GraphProto| *g = GraphProto { name: Some("bare".into()), ..Default::default() };
    case.model("bare.onnx", &changed(bare));
    case.model("cycle.onnx", &changed(|g| g.node[0].input[0] = "c".into()));
    case.model("missing.onnx", &changed(|g| g.initializer.retain(|t| t.name() != "w2")));
    case.model(
        "misfit.onnx",
        &changed(|g| {
            let w2 = g.initializer.iter_mut().find(|t| t.name() == "w2").unwrap();
            w2.dims = vec![12, 4, 3, 3];
        }),
    );
    case.model("short.onnx", &changed(|g| g.initializer[0].dims[0] += 1));
    let mut future = parsed(CHAIN);
    future.opset_import = vec![OperatorSetIdProto { domain: None, version: Some(99) }];
    case.model("future.onnx", &future);
    let refused = |file| case.refused(&["prune", file, "-o", "out.onnx"]);
    insta::assert_snapshot!(all([
        refused("nowhere.onnx"),
        refused("folder"),
        refused("truncated.onnx"),
        refused("random.onnx"),
        refused("empty.onnx"),
        refused("bare.onnx"),
        refused("cycle.onnx"),
        refused("missing.onnx"),
        refused("misfit.onnx"),
        refused("short.onnx"),
        refused("future.onnx"),
    ]));
}

#[test]
fn bad_targets_are_refused() {
    let case = Case::new();
    fs::create_dir(case.dir.path().join("folder")).unwrap();
    insta::assert_snapshot!(all([
        case.refused(&["prune", "in.onnx", "-o", "folder"]),
        case.refused(&["prune", "in.onnx", "-o", "nowhere/out.onnx"]),
        case.refused(&["prune", "in.onnx", "-o", "in.onnx/out.onnx"]),
        case.refused(&["prune", "in.onnx", "-o", "out.onnx", "--plan", "nowhere/plan.json"]),
        case.refused(&["prune", "in.onnx", "-o", "-", "--plan", "-"]),
        case.refused(&["prune", "in.onnx", "-o", "out.onnx", "--plan", "out.onnx"]),
    ]));
}

#[test]
fn bad_arguments_are_usage_errors() {
    let case = Case::new();
    let prune = |more: &[&str]| case.refused(&[&["prune", "in.onnx", "-o", "out.onnx"], more].concat());
    let told = all([
        prune(&["--ratio", "1"]),
        prune(&["--ratio", "-0.1"]),
        prune(&["--ratio", "NaN"]),
        prune(&["--layer", "conv*=1.5"]),
        prune(&["--layer", "cnov1=0.5"]),
        prune(&["--exclude", "relu1"]),
        prune(&["--exclude", "["]),
        prune(&["--by", "degre"]),
        prune(&["--input-shape", "z=1x2"]),
        prune(&["--lossless", "--ratio", "0.5"]),
        prune(&["--lossless", "--exclude", "conv1"]),
        prune(&["--input-shape", "x=1x1x8"]),
        prune(&["--input-shape", "x=1x3x8x8"]),
        case.refused(&["prune", "in.onnx"]),
        case.refused(&["run", "in.onnx", "-o", "out.onnx", "--passes", "fold-constant"]),
        case.refused(&["run", "in.onnx", "-o", "out.onnx", "--passes", "eliminate-dead", "--plan", "plan.json"]),
        case.refused(&["explain", "in.onnx", "cnov1"]),
        case.refused(&["explain", "in.onnx", "conv1:6"]),
        case.refused(&["explain", "in.onnx", "relu1"]),
        case.refused(&["explain", "in.onnx", "1"]),
        case.refused(&["passes", "fold-constant"]),
        case.refused(&["verify", "-", "-", "--plan", "plan.json"]),
    ]);
    assert!(told.split("\n\n").all(|t| t.trim_end().ends_with("exit 2") || !t.contains("exit ")), "{told}");
    insta::assert_snapshot!(told);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let case = Case::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_secateur"))
        .args(["inspect", "in.onnx"])
        .current_dir(case.dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]));
}

#[test]
fn the_whole_command_runs_in_process() {
    let case = Case::new();
    let (mut stdin, mut stdout, mut stderr) = (&case.read("in.onnx")[..], Vec::new(), Vec::new());
    let args = ["secateur", "prune", "-", "-o", "-", "--no-verify"].map(Into::into);
    let code = secateur::cli::main_with(args, &mut stdin, &mut stdout, &mut stderr);
    assert_eq!(code, 0, "{}", String::from_utf8_lossy(&stderr));
    assert!(secateur::onnx::read_bytes(stdout.into(), None).is_ok());
}
