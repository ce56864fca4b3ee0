//! Every fixture under `fixtures/passes` is run through the passes that its header names.
//!
//! `# secateur: passes=...` is the pipeline, `seed=...` fills the weights. The model before and after and the remarks
//! are a snapshot beside the fixture. Whether both compute the same is asserted on every run, never recorded: within
//! 1e-5 of the largest output, or of what `tolerance=...` says. `run=no` is for models that cannot be run in this
//! process; that they indeed cannot is asserted too.

use secateur::analysis::{Sizes, fed_inputs};
use secateur::ir::Model;
use secateur::onnx::proto::ModelProto;
use secateur::onnx::tensor::{DataType, Tensor};
use secateur::onnx::text::{PrintOptions, directives, parse_fixture, print};
use secateur::passes::{Context, Pipeline};
use secateur::run::{Runner, random_inputs};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

#[test]
fn fixtures() {
    let mut failed = Vec::new();
    for path in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/passes"), "onnxtxt") {
        if catch_unwind(AssertUnwindSafe(|| fixture(&path))).is_err() {
            failed.push(path.display().to_string());
        }
    }
    assert!(failed.is_empty(), "failed:\n{}", failed.join("\n"));
}

fn fixture(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let directives = directives(&text);
    let directive = |key: &str| directives.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
    let proto = parse_fixture(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut model = Model::import(proto.clone()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    model.check().unwrap();
    let before = model.clone();
    let passes = directive("passes").unwrap_or_else(|| panic!("{} names no passes", path.display()));
    let pipeline = Pipeline::parse(passes).unwrap();
    let outcomes = pipeline.run(&mut model, &Context::default(), &mut |_| ()).unwrap();
    let after = model.export();

    let options = PrintOptions { elide_above: Some(4) };
    let mut report = format!("{}\n---- {passes} ---->\n\n{}\n", print(&proto, &options), print(&after, &options));
    for (name, outcome) in &outcomes {
        writeln!(report, "{name}: {}", outcome.summary).unwrap();
        for remark in &outcome.remarks {
            writeln!(report, "  {remark}").unwrap();
        }
    }
    insta::with_settings!({
        snapshot_path => path.parent().unwrap(),
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!(path.file_stem().unwrap().to_str().unwrap(), report);
    });

    // What a pass gives is a model that can be read again, and a second run finds nothing more to change.
    Model::import(after.clone()).unwrap().check().unwrap();
    for (name, outcome) in pipeline.run(&mut model.clone(), &Context::default(), &mut |_| ()).unwrap() {
        assert_eq!(outcome.changes, 0, "{name} changes its own result in {}", path.display());
    }

    let ports = |m: &Model| {
        let graph = m.graph(m.main());
        let fed = graph.inputs().iter().filter(|p| m.value(p.value).def() == secateur::ir::Def::Input);
        fed.chain(graph.outputs()).map(|p| p.info.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ports(&before), ports(&model), "inputs and outputs of {}", path.display());
    let tolerance: f64 = directive("tolerance").map_or(1e-5, |t| t.parse().unwrap());
    match (run(&proto, &before), directive("run") == Some("no")) {
        (Err(_), true) => {}
        (Ok(_), true) => panic!("{} says run=no, but it can be run", path.display()),
        (Err(why), false) => panic!("{} cannot be run: {why}", path.display()),
        (Ok(expected), false) => {
            let found = run(&after, &before).unwrap_or_else(|e| panic!("{} afterwards: {e}", path.display()));
            for (a, b) in expected.iter().zip(&found) {
                assert_eq!((a.dtype(), a.shape()), (b.dtype(), b.shape()), "{}", path.display());
                let error = relative(a, b);
                assert!(error <= tolerance, "{}: outputs differ by {error:e}", path.display());
            }
        }
    }
}

/// Outputs for the same inputs, whichever version of the model is run.
fn run(proto: &ModelProto, like: &Model) -> Result<Vec<Tensor>, String> {
    let sizes = Sizes::candidates(&BTreeMap::new()).next().unwrap();
    let shapes: Vec<(String, DataType, Vec<usize>)> = fed_inputs(like)
        .into_iter()
        .map(|(v, ty)| {
            let name = like.value(v).name().to_owned();
            let (dtype, shape) = sizes.shape(Some(&name), ty.unwrap()).unwrap();
            (name, dtype.unwrap(), shape.unwrap())
        })
        .collect();
    let runner = Runner::load(proto, &shapes).map_err(|e| e.to_string())?;
    runner.run(&random_inputs(&shapes, 3)).map_err(|e| e.to_string())
}

fn relative(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_f64().unwrap(), b.to_f64().unwrap());
    let scale = a.iter().fold(1e-30f64, |m, x| m.max(x.abs()));
    // NaN must meet NaN; `max` would swallow it.
    let off = |(x, y): (&f64, &f64)| if x.is_nan() == y.is_nan() { (x - y).abs() } else { f64::INFINITY };
    a.iter().zip(&b).map(off).fold(0.0, f64::max) / scale
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    let nested = |p: PathBuf| if p.is_dir() { files(&p, extension) } else { vec![p] };
    let all = entries.into_iter().flat_map(nested);
    all.filter(|p| p.extension().is_some_and(|e| e == extension)).collect()
}
