//! The same input gives the same bytes, of the model and of its plan: on every run, with any number of threads.

mod fixture;

use fixture::Fixture;
use secateur::ir::Model;
use secateur::onnx::{read, write::write_to};
use secateur::passes::{Context, Pipeline, prune::Prune};

/// The whole default pipeline; the bytes of the model and of the plan.
fn pruned(model: &Model) -> (Vec<u8>, String) {
    let mut model = model.clone();
    let pipeline = Pipeline::standard(Box::new(Prune::default()), true);
    let outcomes = pipeline.run(&mut model, &Context::default(), &mut |_| ()).unwrap();
    let plan = outcomes.iter().find_map(|(_, o)| o.plan.as_ref()).unwrap();
    assert!(plan.groups.iter().any(|g| !g.removed.is_empty()), "nothing was removed");
    let mut bytes = Vec::new();
    write_to(&model.export(), &mut bytes).unwrap();
    (bytes, plan.to_json())
}

fn same_in_all_runs(name: &str, model: &Model) {
    let first = pruned(model);
    assert_eq!(pruned(model), first, "{name} in a second run");
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| pruned(model)), first, "{name} with {threads} threads");
    }
}

#[test]
fn trained_network() {
    let path = fixture::root().join("models/dcase21_fsdd.onnx");
    let model = Model::import(read::read(&path).unwrap().model).unwrap();
    same_in_all_runs("dcase21_fsdd.onnx", &model);
}

#[test]
fn coupled_networks() {
    for name in ["residual", "dense-concat", "channel-shuffle-dynamic"] {
        let fixture = Fixture::load(&fixture::root().join(format!("coupling/{name}.onnxtxt")));
        same_in_all_runs(name, &fixture.model);
    }
}
