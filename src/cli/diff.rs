//! `secateur diff`.

use super::console::Console;
use super::failure::Failure;
use super::sizes::SizeArg;
use super::source::{load, one_stream};
use crate::report::Difference;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model before
    #[arg(value_name = "A")]
    before: PathBuf,
    /// The model after
    #[arg(value_name = "B")]
    after: PathBuf,
    /// Size of an input (NAME=1x3x224x224) or of a symbolic dimension (SYMBOL=N)
    #[arg(long, value_name = "NAME=SIZES")]
    input_shape: Vec<SizeArg>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, console: &mut Console) -> Result<(), Failure> {
    one_stream(&[&args.before, &args.after])?;
    let before = load(&args.before, &args.input_shape, console)?;
    let after = load(&args.after, &args.input_shape, console)?;
    let difference = Difference::new((&before.model, &before.worlds), (&after.model, &after.worlds));
    if args.json {
        return Ok(console.json(&difference)?);
    }
    if difference.is_empty() {
        return Ok(console.line("no difference")?);
    }
    console.table(&difference.table())?;
    console.line("")?;
    console.table(&difference.cost_table())?;
    Ok(())
}
