//! Every fixture under `fixtures/passes` is run through the passes that its header names.
//!
//! `# secateur: passes=...` is the pipeline, `seed=...` fills the weights. The model before and after and the remarks
//! are a snapshot beside the fixture. Whether both compute the same is asserted on every run, never recorded: within
//! 1e-5 of the largest output, or of what `tolerance=...` says. `run=no` is for models that cannot be run in this
//! process; that they indeed cannot is asserted too.

mod fixture;

use fixture::Fixture;
use secateur::analysis::{Sizes, fed_inputs};
use secateur::ir::Model;
use secateur::onnx::proto::ModelProto;
use secateur::onnx::tensor::{DataType, Tensor};
use secateur::passes::{Context, Pipeline};
use secateur::run::{Runner, random_inputs};
use std::collections::BTreeMap;
use std::fmt::Write;

#[test]
fn fixtures() {
    fixture::each("passes", check);
}

fn check(fixture: &Fixture) {
    let Fixture { path, proto, .. } = fixture;
    let mut model = fixture.model.clone();
    let before = model.clone();
    let passes = fixture.directive("passes").unwrap_or_else(|| panic!("{} names no passes", path.display()));
    let pipeline = Pipeline::parse(passes).unwrap();
    let outcomes = pipeline.run(&mut model, &Context::default(), &mut |_| ()).unwrap();
    let after = model.export();

    let mut report = format!("{}\n---- {passes} ---->\n\n{}\n", fixture.text(proto), fixture.text(&after));
    for (name, outcome) in &outcomes {
        writeln!(report, "{name}: {}", outcome.summary).unwrap();
        for remark in &outcome.remarks {
            writeln!(report, "  {remark}").unwrap();
        }
    }
    fixture.snapshot(&report);

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
    let tolerance: f64 = fixture.directive("tolerance").map_or(1e-5, |t| t.parse().unwrap());
    match (run(proto, &before), fixture.directive("run") == Some("no")) {
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
