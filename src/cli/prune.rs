//! `secateur prune`: the default pipeline.

use super::calibrate::{Calibrate, Calibrating, Repairing};
use super::choice::{Choice, check_globs, ratio};
use super::console::Console;
use super::failure::Failure;
use super::pipeline::{Common, Done, Judging, execute, finish, on_threads};
use super::scored::divide;
use super::source::{Loaded, load};
use super::target::Targets;
use crate::passes::prune::{Prune, PruneOptions, Target};
use crate::passes::prune_lossless::PruneLossless;
use crate::passes::{Context, Pass, Pipeline};
use crate::report::AccuracyChange;
use crate::run::Batches;
use crate::sweep::{Bench, Found, Rows, smallest};
use crate::verify;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model
    #[arg(value_name = "IN")]
    input: PathBuf,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    judging: Judging,
    /// Labelled data that --target accuracy-drop is measured on, by default that of --calibrate; where it is also what is
    /// repaired by, even rows are for repair and odd ones are measured
    #[arg(long, value_name = "FILE.npz|DIR")]
    data: Option<PathBuf>,
    /// The array of labels; by default y where it holds whole numbers
    #[arg(long, value_name = "NAME")]
    labels: Option<String>,
    #[command(flatten)]
    calibrating: Calibrating,
    #[command(flatten)]
    repairing: Repairing,
    /// Remove only what does not change the outputs: channels that are constant, duplicate or unread
    #[arg(long, conflicts_with_all = CHOOSING)]
    lossless: bool,
    /// Write the summary that is printed: as JSON where the name ends in .json, else as text
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    // Last, for their heading is that of all that follows.
    #[command(flatten)]
    amount: Amount,
    #[command(flatten)]
    choice: Choice,
}

/// Options that say which filters go, which a lossless removal does not leave to choice.
const CHOOSING: [&str; 14] = [
    "target",
    "ratio",
    "layer",
    "exclude",
    "by",
    "representation",
    "similarity",
    "reading",
    "one_at_a_time",
    "keep",
    "multiple_of",
    "min_channels",
    "dense",
    "allow_inexact",
];

/// How many filters go.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Choice of filters")]
struct Amount {
    /// Share of each layer's filters that goes, 0 <= R < 1
    #[arg(long, value_name = "R", default_value = "0.5", value_parser = ratio, allow_negative_numbers = true)]
    ratio: f64,
    /// A goal for the whole model in place of ratios: macs=-50%, params=-30%, bytes=-30%, or the smallest model whose
    /// accuracy on labelled data falls by at most N points, accuracy-drop=1%
    #[arg(long, value_name = "WHAT=-N%", value_parser = str::parse::<Goal>, conflicts_with_all = ["ratio", "layer"])]
    target: Option<Goal>,
    /// Another ratio for the layers whose name matches a glob; the last match counts
    #[arg(long, value_name = "GLOB=R", value_parser = layer)]
    layer: Vec<(String, f64)>,
}

/// What a whole model is to meet.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Goal {
    Budget(Target),
    /// Points of accuracy that may be lost.
    AccuracyDrop(f64),
}

impl std::str::FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(points) = text.strip_prefix("accuracy-drop=") else {
            return text.parse().map(Self::Budget).map_err(|e: String| format!("{e}, or accuracy-drop=1%"));
        };
        let points = points.strip_suffix('%').and_then(|p| p.parse().ok()).filter(|p| (0.0..100.0).contains(p));
        points.map(Self::AccuracyDrop).ok_or_else(|| {
            format!("'{text}': how many points of accuracy may be lost, 0% <= N < 100%, such as accuracy-drop=1%")
        })
    }
}

pub fn run(args: Args, console: &mut Console) -> Result<(), Failure> {
    let Args { input, common, choice, amount, judging, calibrating, repairing, data, labels, lossless, report } = args;
    let seed = choice.seed;
    if (data.is_some() || labels.is_some()) && !matches!(amount.target, Some(Goal::AccuracyDrop(_))) {
        return Err(Failure::usage("--data and --labels are for --target accuracy-drop=N%"));
    }
    Targets { model: &common.output, plan: common.plan.as_deref(), report: report.as_deref() }.check(console)?;
    let loaded = load(&input, &common.input_shape, console)?;
    let named = |f: Failure| f.of(&loaded.name);
    let (calibration, scored) = match amount.target {
        Some(Goal::AccuracyDrop(drop)) => {
            let divided = divide(&loaded, labelled(data.as_deref(), &calibrating)?, labels.as_deref(), &calibrating)?;
            (divided.calibration, Some((drop, divided.scored)))
        }
        _ => (calibrating.batches(&loaded)?.map(Arc::new), None),
    };
    let mut options = PruneOptions {
        ratio: amount.ratio,
        layers: amount.layer,
        ..choice.options(calibration.is_some(), amount.target.is_some())
    };
    check_globs(&options, &loaded).map_err(named)?;
    let mut accuracy = None;
    match (amount.target, scored) {
        (Some(Goal::Budget(target)), _) => options.target = Some(target),
        (_, Some((drop, rows))) => {
            let found = search(&loaded, &common, &repairing, &options, calibration.clone(), (drop, &rows), console)
                .map_err(named)?;
            options.target = Some(found.target);
            accuracy = Some(AccuracyChange::new(&rows, &found, drop));
        }
        _ => {}
    }
    let verify = verify::Options { sizes: loaded.sizes.clone(), seed, ..Default::default() };
    let cutter: Box<dyn Pass + Send> = if lossless { Box::new(PruneLossless) } else { Box::new(Prune { options }) };
    let make = || Pipeline::standard(cutter, !repairing.no_repair);
    let done = execute(make, &loaded, &common, (!judging.no_verify).then_some(&verify), calibration, console)?;
    finish(Done { accuracy, ..done }, &loaded, &common, judging, report.as_deref(), console)
}

/// Where labelled data is: in a file of its own, or in the one that is calibrated by.
fn labelled<'a>(data: Option<&'a Path>, calibrating: &'a Calibrating) -> Result<&'a Path, Failure> {
    match (data, &calibrating.calibrate) {
        (Some(path), _) => Ok(path),
        (None, Some(Calibrate::Path(path))) => Ok(path),
        _ => Err(Failure::usage(
            "--target accuracy-drop needs labelled data: --data FILE.npz, or --calibrate FILE.npz with an array of labels",
        )),
    }
}

/// The smallest budget that keeps the accuracy of the rows.
fn search(
    loaded: &Loaded,
    common: &Common,
    repairing: &Repairing,
    options: &PruneOptions,
    calibration: Option<Arc<Batches>>,
    (drop, rows): (f64, &Rows),
    console: &Console,
) -> Result<Found, Failure> {
    let context = Context { verify_each: common.verify_each, ..loaded.context(calibration) };
    let bar = console.progress(7);
    bar.set_message("the original");
    let work = || {
        let bench = Bench::new(&loaded.model, context, !repairing.no_repair, rows)?;
        smallest(&bench, options, drop, &mut |target| {
            bar.set_message(target.to_string());
            bar.inc(1);
        })
    };
    let found = on_threads(common.threads, work);
    bar.finish_and_clear();
    Ok(found??)
}

fn layer(text: &str) -> Result<(String, f64), String> {
    let (glob, r) = text.rsplit_once('=').ok_or("GLOB=R is expected, such as 'stem*=0.25'")?;
    Ok((glob.to_owned(), ratio(r)?))
}
