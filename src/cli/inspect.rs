//! `secateur inspect`.

use super::console::Console;
use super::failure::Failure;
use super::sizes::SizeArg;
use super::source::load;
use crate::analysis::{Coupling, open};
use crate::report::Inspection;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// Size of an input (NAME=1x3x224x224) or of a symbolic dimension (SYMBOL=N)
    #[arg(long, value_name = "NAME=SIZES")]
    input_shape: Vec<SizeArg>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, console: &mut Console) -> Result<(), Failure> {
    let loaded = load(&args.input, &args.input_shape, console)?;
    let opened = open(&loaded.model, loaded.worlds, &loaded.sizes);
    let coupling = Coupling::new(&opened.model, opened.worlds, &Vec::new());
    let inspection = Inspection::new(&opened.model, &coupling);
    if args.json {
        return Ok(console.json(&inspection)?);
    }
    console.table(&inspection.layer_table())?;
    let pins = inspection.pin_table();
    if !pins.rows.is_empty() {
        console.line("")?;
        console.table(&pins)?;
    }
    console.line("")?;
    for line in inspection.totals() {
        console.line(&line)?;
    }
    Ok(())
}
