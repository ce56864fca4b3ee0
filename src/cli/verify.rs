//! `secateur verify`.

use super::console::Console;
use super::failure::{Failure, REFUSED, UNVERIFIED};
use super::sizes::SizeArg;
use super::source::{load, one_stream, read_text};
use crate::plan::{Outcome, Plan};
use crate::report::verification_text;
use crate::verify;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The original
    #[arg(value_name = "A")]
    original: PathBuf,
    /// The pruned model
    #[arg(value_name = "B")]
    pruned: PathBuf,
    /// The plan that it was pruned by
    #[arg(long, value_name = "FILE")]
    plan: PathBuf,
    /// Fail (exit 4) where it cannot be verified
    #[arg(long)]
    strict: bool,
    /// Seed of the inputs
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Size of an input (NAME=1x3x224x224) or of a symbolic dimension (SYMBOL=N)
    #[arg(long, value_name = "NAME=SIZES")]
    input_shape: Vec<SizeArg>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, console: &mut Console) -> Result<(), Failure> {
    one_stream(&[&args.original, &args.pruned, &args.plan])?;
    let text = read_text(&args.plan, console)?;
    let plan = Plan::from_json(&text).map_err(|e| Failure::failed(e).of(args.plan.display().to_string()))?;
    let original = load(&args.original, &args.input_shape, console)?;
    let pruned = load(&args.pruned, &args.input_shape, console)?;
    let options = verify::Options { sizes: original.sizes.clone(), seed: args.seed, ..Default::default() };
    let verified = verify::verify(&original.model, &pruned.model, &plan, &options);
    let verified = verified.map_err(|e| Failure::failed(e.to_string()).of(&original.name))?;
    let text = verification_text(&verified);
    if args.json {
        console.json(&verified)?;
    } else if verified.outcome != Outcome::Different {
        console.line(&text)?;
    }
    match verified.outcome {
        Outcome::Equal => Ok(()),
        Outcome::Different => Err(Failure::new(UNVERIFIED, text).of(&pruned.name)),
        Outcome::Cannot if args.strict => Err(Failure::new(REFUSED, text).of(&pruned.name)),
        Outcome::Cannot => Ok(()),
    }
}
