//! `secateur apply`: a plan replayed.

use super::calibrate::{Calibrating, Repairing};
use super::console::Console;
use super::failure::Failure;
use super::pipeline::{Common, Judging, execute, finish};
use super::source::{load, one_stream, read_text};
use super::target::Targets;
use crate::ir::Model;
use crate::passes::{Context, Outcome, Pass, PassError, Pipeline, prune};
use crate::plan::Plan;
use crate::verify;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The plan, as written by --plan
    #[arg(value_name = "PLAN")]
    replay: PathBuf,
    /// The model that the plan was made for, or another checkpoint of it
    #[arg(value_name = "MODEL")]
    input: PathBuf,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    judging: Judging,
    #[command(flatten)]
    calibrating: Calibrating,
    #[command(flatten)]
    repairing: Repairing,
    /// Seed of the inputs that verification runs on
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

/// The pass that removes what a plan says, in the place of `prune`.
struct Replay(Plan);

impl Pass for Replay {
    fn name(&self) -> &'static str {
        "prune"
    }

    fn run(&self, model: &mut Model, context: &Context) -> Result<Outcome, PassError> {
        prune::apply(&self.0, model, context)
    }
}

pub fn run(args: Args, console: &mut Console) -> Result<(), Failure> {
    let Args { replay, input, common, judging, calibrating, repairing, seed } = args;
    one_stream(&[&replay, &input])?;
    Targets { model: &common.output, plan: common.plan.as_deref(), report: None }.check(console)?;
    let text = read_text(&replay, console)?;
    let plan = Plan::from_json(&text).map_err(|e| Failure::failed(e).of(replay.display().to_string()))?;
    let loaded = load(&input, &common.input_shape, console)?;
    let verify = verify::Options { sizes: loaded.sizes.clone(), seed, ..Default::default() };
    let make = || Pipeline::standard(Box::new(Replay(plan)), !repairing.no_repair);
    let calibration = calibrating.batches(&loaded)?.map(Arc::new);
    let done = execute(make, &loaded, &common, (!judging.no_verify).then_some(&verify), calibration, console)?;
    finish(done, &loaded, &common, judging, None, console)
}
