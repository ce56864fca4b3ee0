//! Running a model in this process, to verify a rewrite, to calibrate and to measure accuracy.
//!
//! Guarantees: nothing a model holds panics the caller or prints; a model that the interpreter cannot be trusted with
//! is a [`CannotRun`] value that names the node and the reason, not a result. Outputs come in the graph's order.
//! Refuses: operators of other domains and calls of model-local functions that cannot be inlined (the interpreter looks
//! at the operator's name alone), element types it lacks, operators it gets wrong (`admit` lists them), random ones.
//! How: the messages are handed to tract (`translate`) with the weights still borrowed from the file, and each of its
//! steps is run behind a barrier against panics (`barrier`).

mod admit;
mod barrier;
mod batches;
mod convert;
pub mod eval;
mod inputs;
mod lacking;
mod limits;
mod schedule;
mod stepwise;
mod translate;
mod widen;

pub use batches::{Batches, Misfit, batch_sizes};
pub use inputs::{generator, normal, random_inputs, uniform};
pub use limits::{Limits, MOST_ELEMENTS, admit_size, admit_whole};
pub use schedule::lightest_first;
pub use stepwise::{Stepwise, varying};

use crate::onnx::proto::ModelProto;
use crate::onnx::tensor::{DataType, Tensor};
use std::cell::Cell;
use std::sync::Arc;
use tract_onnx::model::ParsingContext;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::plan::{self, SimplePlan};
use tract_onnx::{Onnx, pb};
use translate::Labels;

/// A model that cannot be run in this process: "cannot verify: node, reason" is an outcome, not a failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", node.as_ref().map(|n| format!("node '{n}': ")).unwrap_or_default())]
pub struct CannotRun {
    /// The node at fault, by its name, or by its first output where it has none.
    pub node: Option<String>,
    /// Why, for a person to read.
    pub reason: String,
}

impl CannotRun {
    fn new(node: Option<&str>, reason: impl Into<String>) -> Self {
        Self { node: node.map(str::to_owned), reason: reason.into() }
    }
}

/// A model ready to run on inputs of fixed shapes. Can be shared between threads.
pub struct Runner {
    plan: Arc<TypedSimplePlan>,
    labels: Labels,
    /// Name, type and shape of each input, in the order in which they are given.
    inputs: Vec<(String, DataType, Vec<usize>)>,
    /// For each input of the plan, its place in `inputs`.
    order: Vec<usize>,
    /// Element type of each output as the graph declares it.
    outputs: Vec<Option<DataType>>,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Runner").field("inputs", &self.inputs).finish_non_exhaustive()
    }
}

impl Runner {
    /// Prepares `model` for inputs of these names, types and shapes: one for every graph input that is not an
    /// initializer, in any order. Weights are copied out of the model once, and every node runs as it is written:
    /// the right choice for one or two runs, and for a proof.
    pub fn load(model: &ModelProto, shapes: &[(String, DataType, Vec<usize>)]) -> Result<Self, CannotRun> {
        Self::prepare(model, shapes, false)
    }

    /// Like [`Runner::load`], but lets tract rewrite the graph first. On ResNet-50 and CNN14 loading took 1.2 and 4.6 s
    /// in place of 0.2 and 0.8, each run 0.2 and 1.8 s in place of 0.7 and 3.3: the choice from three runs on.
    pub fn load_optimized(model: &ModelProto, shapes: &[(String, DataType, Vec<usize>)]) -> Result<Self, CannotRun> {
        Self::prepare(model, shapes, true)
    }

    fn prepare(
        model: &ModelProto,
        shapes: &[(String, DataType, Vec<usize>)],
        optimized: bool,
    ) -> Result<Self, CannotRun> {
        let rewritten = lacking::without(model)?;
        let model = rewritten.as_ref().unwrap_or(model);
        admit::model(model)?;
        let translate::Translation { model, payloads, labels, outputs } = translate::model(model, shapes)?;
        let mut onnx = tract_onnx::onnx().with_ignore_value_info(true);
        onnx.provider = Arc::new(payloads);

        let inferred = match barrier::run(|| onnx.parse(&model, Some("/"))) {
            Ok(parsed) => parsed.map_err(|e| labels.blame(&e, None))?,
            Err(panic) => return Err(labels.blame_panic(&panic, first_to_panic(&onnx, &model))),
        };
        if let Some(name) = inferred.unresolved_inputs.first() {
            return Err(CannotRun::new(None, format!("value '{name}' is read but nothing produces it")));
        }
        drop(model);
        // Its rewriting is right on ONNX's own tests of operators, but tabulates what stands between DequantizeLinear
        // and QuantizeLinear value by value, even a Softmax (tract 0.23.9).
        let optimized = optimized && !labels.has_operator("DequantizeLinear");
        let plan = planned(inferred.model, optimized, &labels)?;

        let mut order = Vec::with_capacity(shapes.len());
        for outlet in &plan.model().inputs {
            let name = &plan.model().node(outlet.node).name;
            let place = shapes.iter().position(|(n, ..)| n == name);
            order.push(place.ok_or_else(|| CannotRun::new(None, format!("no shape is given for input '{name}'")))?);
        }
        Ok(Self { plan, labels, inputs: shapes.to_vec(), order, outputs })
    }

    /// Runs the model once. `inputs` stand in the order of the shapes that it was loaded with.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, CannotRun> {
        let fits = |((_, dtype, shape), t): (&(String, DataType, Vec<usize>), &Tensor)| {
            t.dtype() == *dtype && t.shape() == shape
        };
        if inputs.len() != self.inputs.len() || !self.inputs.iter().zip(inputs).all(fits) {
            let found: Vec<_> = inputs.iter().map(|t| (t.dtype(), t.shape())).collect();
            return Err(CannotRun::new(None, format!("loaded for inputs {:?}, given {found:?}", self.inputs)));
        }
        let at = Cell::new(None);
        let result = barrier::run(|| {
            let values = self.order.iter().map(|&i| convert::to_tract(&inputs[i]).map(TValue::from));
            let values = values.collect::<TractResult<TVec<TValue>>>()?;
            self.plan.spawn()?.run_plan_with_eval(values, |context, state, node, values| {
                at.set(Some(node.id));
                plan::eval(context, state, node, values)
            })
        });
        let at = at.get().map(|id| self.plan.model().node(id).name.as_str());
        let values = match result {
            Ok(values) => values.map_err(|e| self.labels.blame(&e, at))?,
            Err(panic) => return Err(self.labels.blame_panic(&panic, at)),
        };
        let outputs = values.into_iter().zip(&self.outputs).map(|(v, declared)| convert::from_tract(v, *declared));
        outputs.collect::<Result<_, String>>().map_err(|reason| CannotRun::new(None, reason))
    }
}

fn planned(model: InferenceModel, optimized: bool, labels: &Labels) -> Result<Arc<TypedSimplePlan>, CannotRun> {
    let build = || {
        let typed = model.into_typed()?;
        SimplePlan::new(if optimized { typed.into_optimized()? } else { typed })
    };
    match barrier::run(build) {
        Ok(plan) => plan.map_err(|e| labels.blame(&e, None)),
        Err(panic) => Err(labels.blame_panic(&panic, None)),
    }
}

/// The first node whose mere reading panics.
fn first_to_panic<'a>(onnx: &Onnx, model: &'a pb::ModelProto) -> Option<&'a str> {
    let graph = model.graph.as_ref()?;
    let context = ParsingContext {
        onnx_operator_set_version: model.opset_import.first()?.version,
        framework: onnx,
        model,
        parent_graphs: vec![graph],
        model_dir: Some("/"),
        template: InferenceModel::default(),
    };
    let panics = |node: &&pb::NodeProto| {
        let build = onnx.op_register.0.get(&node.op_type);
        build.is_some_and(|build| barrier::run(|| build(&context, node).is_ok()).is_err())
    };
    graph.node.iter().find(panics).map(|node| node.name.as_str())
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
