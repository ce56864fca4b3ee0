//! `secateur eval`.

use super::console::Console;
use super::failure::Failure;
use super::source::load;
use crate::data;
use crate::run::eval::{self, Options};
use serde::Serialize;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The classifier
    #[arg(value_name = "MODEL")]
    input: PathBuf,
    /// The labelled data: a NumPy archive
    #[arg(long, value_name = "FILE.npz")]
    data: PathBuf,
    /// The array of inputs, one row an item
    #[arg(long, value_name = "NAME", default_value = "x")]
    x: String,
    /// The array of labels
    #[arg(long, value_name = "NAME", default_value = "y")]
    y: String,
    /// Items that are run at a time
    #[arg(long, value_name = "N", default_value_t = 64)]
    batch: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Accuracy {
    correct: usize,
    total: usize,
    accuracy: f64,
}

pub fn run(args: Args, console: &mut Console) -> Result<(), Failure> {
    let loaded = load(&args.input, &[], console)?;
    let array = |name: &str| data::read_named(&args.data, name).map_err(|e| Failure::failed(e.to_string()));
    let (x, y) = (array(&args.x)?, array(&args.y)?);
    let file = args.data.display().to_string();
    let labels = y.to_i64().ok_or_else(|| {
        Failure::failed(format!("array '{}' holds {:?}, not whole numbers to use as labels", args.y, y.dtype()))
            .of(&file)
    })?;
    let options = Options { batch: args.batch.max(1), file, x: args.x, y: args.y };
    let bar = console.progress(0);
    bar.set_message("eval");
    let measured = eval::top1(&loaded.model.export(), &x, &labels, &options);
    bar.finish_and_clear();
    let measured = measured.map_err(|e| Failure::failed(e.to_string()).of(&loaded.name))?;
    let accuracy = Accuracy { correct: measured.correct, total: measured.total, accuracy: measured.ratio() };
    if args.json {
        return Ok(console.json(&accuracy)?);
    }
    let Accuracy { correct, total, accuracy } = accuracy;
    Ok(console.line(&format!("top-1 accuracy {:.2}% ({correct} of {total})", accuracy * 100.0))?)
}
