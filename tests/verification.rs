//! Verification can fail, and replaying a plan can refuse.

mod fixture;

use fixture::Fixture;
use secateur::ir::Model;
use secateur::onnx::tensor::Tensor;
use secateur::passes::{Context, Pipeline, prune};
use secateur::plan::{Outcome, Plan};
use secateur::verify::{self, verify};

fn load(name: &str) -> Fixture {
    Fixture::load(&fixture::root().join(format!("coupling/{name}.onnxtxt")))
}

fn pruned(fixture: &Fixture) -> (Model, Plan) {
    let mut model = fixture.model.clone();
    let pipeline = Pipeline::parse(&format!("prune({})", fixture.directive("prune").unwrap())).unwrap();
    let outcome = pipeline.run(&mut model, &Context::default(), &mut |_| ()).unwrap().swap_remove(0).1;
    (model, outcome.plan.unwrap())
}

fn outcome(original: &Model, pruned: &Model, plan: &Plan) -> Outcome {
    verify(original, pruned, plan, &verify::Options::default()).unwrap().outcome
}

/// The model with one constant changed.
fn changed(model: &Model, name: &str, change: impl Fn(&mut Vec<f64>)) -> Model {
    let mut model = model.clone();
    let value = model.constants().find(|&v| model.value(v).name() == name).unwrap();
    let tensor = Tensor::from_proto(model.constant(value).unwrap()).unwrap();
    let mut numbers = tensor.to_f64().unwrap();
    change(&mut numbers);
    model.set_constant(value, &Tensor::from_f64(tensor.dtype(), tensor.shape(), &numbers).unwrap());
    model
}

const NETWORKS: [&str; 4] = ["chain-bias", "residual", "dense-concat", "flatten-gemm"];

#[test]
fn a_plan_that_reads_other_channels_is_found_out() {
    for name in NETWORKS {
        let fixture = load(name);
        let (model, plan) = pruned(&fixture);
        assert_eq!(outcome(&fixture.model, &model, &plan), Outcome::Equal, "{name}");
        for i in 0..plan.reads.len() {
            let mut other = plan.clone();
            let extent =
                *plan.tensors.iter().filter(|t| t.name == plan.reads[i].tensor).map(|t| &t.size).max().unwrap();
            let read = &mut other.reads[i];
            let kept = (0..extent).find(|c| !read.removed.contains(c)).unwrap();
            read.removed[0] = kept;
            assert_eq!(outcome(&fixture.model, &model, &other), Outcome::Different, "{name}, read {i}");

            let mut fewer = plan.clone();
            fewer.reads.remove(i);
            assert_eq!(outcome(&fixture.model, &model, &fewer), Outcome::Different, "{name} without read {i}");
        }
    }
}

#[test]
fn a_weight_that_is_no_slice_of_the_original_is_found_out() {
    for name in NETWORKS {
        let fixture = load(name);
        let (model, plan) = pruned(&fixture);
        for read in &plan.reads {
            let other = changed(&model, &read.tensor, |numbers| numbers[0] += 0.5);
            assert_eq!(outcome(&fixture.model, &other, &plan), Outcome::Different, "{name}, {}", read.tensor);
        }
    }
}

#[test]
fn a_result_that_is_no_number_is_found_out() {
    let fixture = load("chain");
    let (model, plan) = pruned(&fixture);
    let other = changed(&model, "w2", |numbers| numbers[0] = f64::NAN);
    assert_eq!(outcome(&fixture.model, &other, &plan), Outcome::Different);
}

#[test]
fn a_foreign_plan_does_not_fit() {
    let (chain, concat) = (load("chain"), load("dense-concat"));
    let (model, plan) = pruned(&concat);
    let misfit = verify(&chain.model, &model, &plan, &verify::Options::default()).unwrap_err();
    assert!(misfit.to_string().starts_with("the plan does not fit the original: "), "{misfit}");

    // The right tensor, but a channel or an axis that it does not have.
    let (model, plan) = pruned(&chain);
    let mut beyond = plan.clone();
    beyond.reads[0].removed.push(8);
    assert!(verify(&chain.model, &model, &beyond, &verify::Options::default()).is_err());
    let mut beyond = plan.clone();
    beyond.reads[0].axis = 4;
    assert!(verify(&chain.model, &model, &beyond, &verify::Options::default()).is_err());
}

#[test]
fn what_cannot_be_run_is_neither_equal_nor_different() {
    let fixture = load("refused-unknown-operator");
    let (model, plan) = pruned(&fixture);
    let verified = verify(&fixture.model, &model, &plan, &verify::Options::default()).unwrap();
    assert_eq!((verified.outcome, verified.max_relative_error), (Outcome::Cannot, None));
    assert!(verified.reason.unwrap().contains("'strange'"));
}

#[test]
fn a_plan_is_replayed_on_its_own_model() {
    for name in NETWORKS {
        let fixture = load(name);
        let (model, plan) = pruned(&fixture);
        // Through its file, as a reviewer hands it on.
        let plan = Plan::from_json(&plan.to_json()).unwrap();
        let mut again = fixture.model.clone();
        let replayed = prune::apply(&plan, &mut again, &Context::default()).unwrap().plan.unwrap();
        assert_eq!(again.export(), model.export(), "{name}");
        assert_eq!((&replayed.reads, &replayed.tensors), (&plan.reads, &plan.tensors), "{name}");
    }
}

#[test]
fn a_plan_is_replayed_on_a_retrained_model() {
    for name in NETWORKS {
        let fixture = load(name);
        let (_, plan) = pruned(&fixture);
        let text = std::fs::read_to_string(&fixture.path).unwrap();
        let retrained = Fixture::parsed(&fixture.path, &text.replace("seed=1", "seed=2"));
        assert_ne!(retrained.proto, fixture.proto, "{name}: the weights are others");

        let mut model = retrained.model.clone();
        let replayed = prune::apply(&plan, &mut model, &Context::default()).unwrap().plan.unwrap();
        assert_eq!((&replayed.reads, &replayed.tensors), (&plan.reads, &plan.tensors), "{name}");
        assert_eq!(outcome(&retrained.model, &model, &replayed), Outcome::Equal, "{name}");
        // The cut is that of the plan, the numbers are the retrained model's.
        assert_eq!(outcome(&fixture.model, &model, &replayed), Outcome::Different, "{name}");
    }
}

#[test]
fn a_plan_of_another_model_is_refused() {
    for (plan_of, name) in [("residual", "chain"), ("chain", "residual"), ("chain", "flatten-gemm")] {
        let (_, plan) = pruned(&load(plan_of));
        let fixture = load(name);
        let mut model = fixture.model.clone();
        let refused = prune::apply(&plan, &mut model, &Context::default());
        assert!(refused.is_err(), "the plan of {plan_of} on {name}: {refused:?}");
        assert_eq!(model.export(), fixture.model.export(), "{name} is as it was");
    }
}
