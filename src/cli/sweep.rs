//! `secateur sweep`: what a model is worth at each size.

use super::calibrate::{Calibrating, Repairing};
use super::choice::{Choice, check_globs, ratio};
use super::console::Console;
use super::failure::Failure;
use super::pipeline::on_threads;
use super::scored::{Divided, divide};
use super::sizes::SizeArg;
use super::source::load;
use super::target::{check_text, write_text};
use crate::passes::prune::Target;
use crate::report::Curve;
use crate::sweep::{Ask, Bench, sweep};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model
    #[arg(value_name = "MODEL")]
    input: PathBuf,
    /// What it is scored on: a NumPy file, or a folder of them; every other row of it where it is also what is repaired by
    #[arg(long, value_name = "FILE.npz|DIR")]
    data: PathBuf,
    /// The array of labels; by default y where it holds whole numbers. Without any, or with none, the drift of the outputs
    /// is measured
    #[arg(long, value_name = "NAME|none")]
    labels: Option<String>,
    /// Budgets to measure at, with commas between; by default macs=-10% to macs=-80%
    #[arg(long, value_name = "WHAT=-N%,...", value_delimiter = ',', value_parser = str::parse::<Target>)]
    targets: Vec<Target>,
    /// Shares of each layer's filters to measure at, with commas between
    #[arg(long, value_name = "R,...", value_delimiter = ',', value_parser = ratio, conflicts_with = "targets")]
    ratios: Vec<f64>,
    /// Write the curve as a picture
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Threads to work with; the result does not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Size of an input (NAME=1x3x224x224) or of a symbolic dimension (SYMBOL=N)
    #[arg(long, value_name = "NAME=SIZES")]
    input_shape: Vec<SizeArg>,
    #[command(flatten)]
    calibrating: Calibrating,
    #[command(flatten)]
    repairing: Repairing,
    // Last, for its heading is that of all that follows.
    #[command(flatten)]
    choice: Choice,
}

pub fn run(args: Args, console: &mut Console) -> Result<(), Failure> {
    if let Some(path) = &args.svg {
        check_text(path, console)?;
    }
    let loaded = load(&args.input, &args.input_shape, console)?;
    let asks: Vec<Ask> = match (&args.targets[..], &args.ratios[..]) {
        ([], []) => Ask::usual(),
        (targets, []) => targets.iter().map(|&t| Ask::Budget(t)).collect(),
        (_, ratios) => ratios.iter().map(|&r| Ask::Ratio(r)).collect(),
    };
    let named = |f: Failure| f.of(&loaded.name);
    let Divided { scored, calibration } = divide(&loaded, &args.data, args.labels.as_deref(), &args.calibrating)?;
    let options = args.choice.options(calibration.is_some(), args.ratios.is_empty());
    check_globs(&options, &loaded).map_err(named)?;
    let context = loaded.context(calibration.clone());
    let bar = console.progress(asks.len());
    bar.set_message("the original");
    let work = || {
        let bench = Bench::new(&loaded.model, context, !args.repairing.no_repair, &scored)?;
        let points = sweep(&bench, &options, &asks, &mut |ask| {
            bar.set_message(ask.to_string());
            bar.inc(1);
        })?;
        Ok(Curve::new(&loaded.name, &bench, &scored, calibration.as_deref(), &points))
    };
    let curve = on_threads(args.threads, work);
    bar.finish_and_clear();
    let curve = curve?.map_err(|e: crate::sweep::SweepError| named(e.into()))?;
    if let Some(path) = &args.svg {
        write_text(path, curve.svg(), console)?;
    }
    if args.json {
        return Ok(console.json(&curve)?);
    }
    console.table(&curve.table())?;
    console.line("")?;
    curve.lines().iter().try_for_each(|line| console.line(line)).map_err(Failure::from)
}
