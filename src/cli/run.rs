//! `secateur run`: a pipeline of the user's own.

use super::calibrate::Calibrating;
use super::console::Console;
use super::failure::Failure;
use super::pipeline::{Common, Judging, execute, finish};
use super::source::load;
use super::target::Targets;
use crate::passes::Pipeline;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Passes in their order, with their options in parentheses: "fold-constants,prune(ratio=0.5),eliminate-dead"
    #[arg(long, value_name = "PASSES")]
    passes: String,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    calibrating: Calibrating,
}

pub fn run(args: Args, console: &mut Console) -> Result<(), Failure> {
    let Args { input, passes, common, calibrating } = args;
    let parse = || Pipeline::parse(&passes);
    let pipeline = parse().map_err(|e| Failure::usage(format!("--passes \"{passes}\": {e}")))?;
    let cutting = pipeline.names().filter(|n| n.starts_with("prune")).count();
    if common.plan.is_some() && cutting != 1 {
        let text = format!("--plan needs exactly one prune pass, --passes has {cutting}");
        return Err(Failure::usage(text));
    }
    Targets { model: &common.output, plan: common.plan.as_deref(), report: None }.check(console)?;
    let loaded = load(&input, &common.input_shape, console)?;
    // Passes need not be able to change threads, so they are made where they run.
    let make = || parse().expect("parsed before");
    let calibration = calibrating.batches(&loaded)?.map(Arc::new);
    let done = execute(make, &loaded, &common, None, calibration, console)?;
    finish(done, &loaded, &common, Judging { no_verify: true, strict: false }, None, console)
}
