//! Curves of size against accuracy or drift, and budgets that keep the accuracy.
//!
//! The labels are what the model itself says, so it begins with 100 %; every accuracy that is told is measured again by
//! `secateur eval` on the rows that were scored.

use secateur::onnx::tensor::{DataType, Tensor};
use secateur::onnx::text::parse_fixture;
use secateur::run::{Runner, random_inputs};
use serde_json::Value;
use std::io::Write;
use std::path::PathBuf;
use tempfile::TempDir;

const CHAIN: &str = r#"
# secateur: seed=1
<ir_version: 8, opset_import: ["" : 17]>
chain (float[N, 1, 8, 8] x) => (float[N, 3] scores)
<float[6, 1, 3, 3] w1, float[6] b1, float[8, 6, 3, 3] w2, float[3, 288] w3, float[3] b3>
{
    [conv1] a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
    [relu1] b = Relu (a)
    [conv2] c = Conv (b, w2)
    [relu2] r = Relu (c)
    [flat] e = Flatten (r)
    [fc] scores = Gemm <transB = 1> (e, w3, b3)
}
"#;

const ROWS: usize = 120;

struct Case {
    dir: TempDir,
    x: Tensor,
    y: Vec<i64>,
}

impl Case {
    /// The model, `data.npz` with `x` and `y`, and `bare.npz` with `x` alone.
    fn new() -> Self {
        let model = parse_fixture(CHAIN).unwrap();
        let shapes = [("x".to_owned(), DataType::Float, vec![ROWS, 1, 8, 8])];
        let x = random_inputs(&shapes, 3).remove(0);
        let scores = Runner::load(&model, &shapes).unwrap().run(std::slice::from_ref(&x)).unwrap().remove(0);
        let highest = |s: &[f64]| (0..3).max_by(|&a, &b| s[a].total_cmp(&s[b])).unwrap() as i64;
        let y: Vec<i64> = scores.to_f64().unwrap().chunks(3).map(highest).collect();
        assert!((0..3).all(|class| y.contains(&class)), "{y:?}");
        let case = Self { dir: TempDir::new().unwrap(), x, y };
        secateur::onnx::write(&model, &case.path("in.onnx")).unwrap();
        case.archive("data.npz", 0, 1, true);
        case.archive("bare.npz", 0, 1, false);
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Every `step`th row from `first`.
    fn archive(&self, name: &str, first: usize, step: usize, labelled: bool) {
        let rows: Vec<usize> = (first..ROWS).step_by(step).collect();
        let mut zip = zip::ZipWriter::new(std::fs::File::create(self.path(name)).unwrap());
        let mut put = |name: &str, kind: &str, shape: &str, data: &[u8]| {
            zip.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
            let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n");
            zip.write_all(b"\x93NUMPY\x01\x00").unwrap();
            zip.write_all(&u16::try_from(header.len()).unwrap().to_le_bytes()).unwrap();
            zip.write_all(header.as_bytes()).unwrap();
            zip.write_all(data).unwrap();
        };
        put("x", "<f4", &format!("({}, 1, 8, 8)", rows.len()), self.x.take(0, &rows).unwrap().data());
        if labelled {
            let y: Vec<u8> = rows.iter().flat_map(|&i| self.y[i].to_le_bytes()).collect();
            put("y", "<i8", &format!("({},)", rows.len()), &y);
        }
        zip.finish().unwrap();
    }

    /// Runs a command in this process: its code, and what it printed and complained of. Arguments that name files of the
    /// case are spelled `@name`.
    fn run(&self, args: &[&str]) -> (u8, String, String) {
        let (mut stdin, mut stdout, mut stderr) = (&b""[..], Vec::new(), Vec::new());
        let spelled = args.iter().map(|a| match a.strip_prefix('@') {
            Some(name) => self.path(name).into_os_string(),
            None => (*a).into(),
        });
        let args = std::iter::once("secateur".into()).chain(spelled);
        let code = secateur::cli::main_with(args, &mut stdin, &mut stdout, &mut stderr);
        (code, String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    fn json(&self, args: &[&str]) -> Value {
        let (code, out, err) = self.run(&[args, &["--json"]].concat());
        assert_eq!(code, 0, "{args:?}: {err}");
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?}: {e}\n{out}"))
    }

    fn correct(&self, model: &str, data: &str) -> Value {
        self.json(&["eval", model, "--data", data])["correct"].clone()
    }
}

#[test]
fn a_curve_of_accuracy() {
    let case = Case::new();
    case.archive("odd.npz", 1, 2, true);
    case.archive("even.npz", 0, 2, true);
    let sweep = |more: &[&str]| {
        case.json(&[&["sweep", "@in.onnx", "--data", "@data.npz", "--targets", "macs=-20%,macs=-60%"], more].concat())
    };
    let curve = sweep(&["--svg", "@curve.svg"]);
    assert_eq!((&curve["measure"], &curve["rows"]), (&"top-1".into(), &(ROWS / 2).into()));
    assert_eq!(
        (&curve["data"], &curve["calibration"]["data"]),
        (&"data.npz, odd rows".into(), &"data.npz, even rows".into())
    );
    assert_eq!(curve["original"]["correct"], ROWS / 2);
    let points = curve["points"].as_array().unwrap();
    let whole = curve["original"]["macs"].as_f64().unwrap();
    for (point, most) in points.iter().zip([0.8, 0.4]) {
        assert!(point["macs"].as_f64().unwrap() <= whole * most, "{point}");
        assert!(point["correct"].as_u64().unwrap() > ROWS as u64 / 6, "{point}");
    }

    // Every point is what `prune` writes for it on these rows.
    for (point, target) in points.iter().zip(["macs=-20%", "macs=-60%"]) {
        let args = ["prune", "@in.onnx", "-o", "@out.onnx", "--target", target, "--calibrate", "@even.npz"];
        let pruned = case.json(&args);
        assert_eq!(pruned["cost"]["macs"][1], point["macs"]);
        assert_eq!(case.correct("@out.onnx", "@odd.npz"), point["correct"], "{target}");
    }

    // The same file under both options is divided as well; another one is used as a whole, and so is what is scored.
    assert_eq!(sweep(&["--calibrate", "@data.npz"]), curve);
    assert_eq!(sweep(&["--threads", "1", "--svg", "@again.svg"]), curve);
    assert_eq!(std::fs::read(case.path("curve.svg")).unwrap(), std::fs::read(case.path("again.svg")).unwrap());
    let other = sweep(&["--calibrate", "@bare.npz"]);
    assert_eq!((&other["rows"], &other["calibration"]["samples"]), (&ROWS.into(), &ROWS.into()));
    assert!(sweep(&["--calibrate", "none"])["calibration"].is_null());

    let svg = std::fs::read_to_string(case.path("curve.svg")).unwrap();
    assert!(svg.starts_with("<svg xmlns") && svg.ends_with("</svg>\n"), "{svg}");
    assert_eq!(svg.matches("<circle").count(), 3);
    assert!(
        svg.contains("in.onnx: top-1 accuracy against size") && svg.contains("prefers-color-scheme: dark"),
        "{svg}"
    );
}

#[test]
fn a_curve_of_drift() {
    let case = Case::new();
    let sweep = |more: &[&str]| case.json(&[&["sweep", "@in.onnx", "--data", "@bare.npz"], more].concat());
    let curve = sweep(&["--ratios", "0,0.5", "--by", "l1"]);
    assert_eq!((&curve["measure"], &curve["original"]["drift"]), (&"drift".into(), &0.0.into()));
    assert_eq!(curve["points"][0]["asked"], "ratio=0");
    assert!(curve["points"][0]["drift"].as_f64().unwrap() < 1e-3, "{curve}");
    assert!(curve["points"][1]["drift"].as_f64().unwrap() > 1e-2, "{curve}");

    // Labels can be left alone.
    let labelled = case.json(&["sweep", "@in.onnx", "--data", "@data.npz", "--labels", "none", "--ratios", "0.5"]);
    assert_eq!((&labelled["measure"], &labelled["rows"]), (&"drift".into(), &(ROWS / 2).into()));

    // What cannot be reached comes with the closest that can, which is measured once.
    let curve = sweep(&["--min-channels", "4", "--targets", "macs=-30%,macs=-90%,macs=-95%"]);
    let points = curve["points"].as_array().unwrap();
    assert!(points[0].get("closest").is_none(), "{curve}");
    assert_eq!((&points[1]["asked"], &points[2]["asked"]), (&"macs=-90%".into(), &"macs=-95%".into()));
    assert!(points[1]["closest"].as_str().unwrap().starts_with("macs=-"), "{curve}");
    assert_eq!(points[1]["macs"], points[2]["macs"]);
    assert!(points[1]["macs"].as_u64() < points[0]["macs"].as_u64(), "{curve}");

    let (code, out, _) = case.run(&["sweep", "@in.onnx", "--data", "@bare.npz", "--min-channels", "4"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("macs=-10%") && out.contains("macs=-80%") && out.contains("not reachable; the closest is"),
        "{out}"
    );
    assert!(
        out.contains("on 60 rows of bare.npz, odd rows") && out.contains("60 inputs (bare.npz, even rows)"),
        "{out}"
    );
}

#[test]
fn what_keeps_the_accuracy() {
    let case = Case::new();
    case.archive("odd.npz", 1, 2, true);
    let args = ["prune", "@in.onnx", "-o", "@out.onnx", "--target", "accuracy-drop=10%", "--calibrate", "@data.npz"];
    let done = case.json(&[&args[..], &["--plan", "@plan.json"]].concat());
    let accuracy = &done["accuracy"];
    assert_eq!((&accuracy["rows"], &accuracy["data"]), (&(ROWS / 2).into(), &"data.npz, odd rows".into()));
    assert_eq!(case.correct("@in.onnx", "@odd.npz"), accuracy["correct"][0]);
    assert_eq!(case.correct("@out.onnx", "@odd.npz"), accuracy["correct"][1]);
    assert!(accuracy["lost"].as_f64().unwrap() <= 10.0, "{accuracy}");
    assert!(done["cost"]["macs"][1].as_u64() < done["cost"]["macs"][0].as_u64(), "{done}");
    let plan: Value = serde_json::from_slice(&std::fs::read(case.path("plan.json")).unwrap()).unwrap();
    assert_eq!(plan["options"]["target"], accuracy["budget"]);
    // The next step down was tried, and lost more or was out of reach.
    let steps = accuracy["steps"].as_array().unwrap();
    let percent = |v: &Value| -> i64 { v.as_str().unwrap()["macs=-".len()..].trim_end_matches('%').parse().unwrap() };
    let next = steps.iter().find(|s| percent(&s["budget"]) == percent(&accuracy["budget"]) + 1).unwrap();
    assert!(next["lost"].as_f64().is_none_or(|lost| lost > 10.0), "{accuracy}");

    let words = case.run(&args).1;
    assert!(words.contains("top-1 accuracy 100.00% -> ") && words.contains("that repair did not see"), "{words}");
    // Labelled data apart from what is repaired by: all of it is scored.
    let apart = [&args[..6], &["--data", "@data.npz", "--calibrate", "noise", "--samples", "64"]].concat();
    assert_eq!(case.json(&apart)["accuracy"]["rows"], ROWS);
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let case = Case::new();
    let refused = |args: &[&str], code: u8, words: &str| {
        let (found, _, err) = case.run(args);
        assert_eq!(found, code, "{args:?}: {err}");
        assert!(err.contains(words), "{args:?}: {err}");
        assert!(!case.path("out.onnx").exists());
    };
    let prune = ["prune", "@in.onnx", "-o", "@out.onnx"];
    let with = |more: &[&'static str]| [&prune[..], more].concat();
    refused(&with(&["--target", "accuracy-drop=1%"]), 2, "needs labelled data");
    refused(&with(&["--target", "accuracy-drop=100%"]), 2, "0% <= N < 100%");
    refused(&with(&["--target", "accuracy=1%"]), 2, "accuracy-drop=1%");
    refused(&with(&["--target", "macs=-10%", "--data", "@data.npz"]), 2, "are for --target accuracy-drop");
    refused(&with(&["--target", "accuracy-drop=1%", "--data", "@bare.npz"]), 1, "needs labels");
    let whole = ["--target", "accuracy-drop=0%", "--data", "@data.npz", "--exclude", "*"];
    refused(&with(&whole), 4, "accuracy-drop=0% cannot be reached: nothing can be cut");
    let sweep = ["sweep", "@in.onnx", "--data"];
    refused(&[&sweep[..], &["@data.npz", "--labels", "z"]].concat(), 1, "no array 'z' of labels; there are: x, y");
    refused(&[&sweep[..], &["@data.npz", "--labels", "x"]].concat(), 1, "not a whole number for each row");
    refused(
        &[&sweep[..], &["@data.npz", "--ratios", "0.1", "--targets", "macs=-1%"]].concat(),
        2,
        "cannot be used with",
    );
    refused(&[&sweep[..], &["@data.npz", "--svg", "@nowhere/c.svg"]].concat(), 1, "cannot be written");
    refused(&[&sweep[..], &["@missing.npz"]].concat(), 1, "missing.npz");
}
