//! Passes at work: run, watched, verified, written, told.
//!
//! Guarantees: a model is written only after all passes have run, and not where verification finds a difference.

use super::console::Console;
use super::failure::{Failure, REFUSED, UNVERIFIED};
use super::source::{Loaded, is_stream};
use super::target::Targets;
use crate::analysis::infer_all;
use crate::ir::Model;
use crate::passes::{CANNOT_RUN, Context, Event, Pipeline};
use crate::plan::{ModelRef, Outcome as Verdict, Plan};
use crate::report::{AccuracyChange, PassLine, Summary};
use crate::run::Batches;
use crate::verify;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Groups that are told about when they were left alone; the others are counted.
const TOLD: usize = 5;
/// Nodes that are named where their statistics changed; the others are counted.
const NAMED: usize = 3;

/// Fitted layers that are told about, the worst first; the others are counted.
const FITTED: usize = 8;

/// What prune, run and apply have in common.
#[derive(Debug, clap::Args)]
pub struct Common {
    /// Where the model is written; may be IN itself
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Write the plan: what was removed of which tensor, the scores and a verdict for every group (JSON)
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    /// Check the model's invariants after every pass
    #[arg(long)]
    pub verify_each: bool,
    /// Threads to work with; the result does not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Size of an input (NAME=1x3x224x224) or of a symbolic dimension (SYMBOL=N)
    #[arg(long, value_name = "NAME=SIZES")]
    pub input_shape: Vec<super::sizes::SizeArg>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// How the result is judged.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Judging {
    /// Do not compare the pruned model with the masked original
    #[arg(long)]
    pub no_verify: bool,
    /// Fail (exit 4) where nothing can be cut or the result cannot be verified
    #[arg(long)]
    pub strict: bool,
}

/// What the passes made of a model.
pub struct Done {
    pub model: Model,
    pub plan: Option<Plan>,
    pub passes: Vec<PassLine>,
    /// How the budget was found, where accuracy was to be kept.
    pub accuracy: Option<AccuracyChange>,
}

/// Runs passes on a copy of the model. Where `judging` asks for it, the pass that cuts is verified.
pub fn execute(
    make: impl FnOnce() -> Pipeline + Send,
    loaded: &Loaded,
    common: &Common,
    verify: Option<&verify::Options>,
    calibration: Option<Arc<Batches>>,
    console: &Console,
) -> Result<Done, Failure> {
    let bar = console.progress(0);
    let context = Context { verify_each: common.verify_each, ..loaded.context(calibration) };
    let work = || -> Result<Done, Failure> {
        let mut model = loaded.model.clone();
        let mut around: Option<(Model, Model, Plan)> = None;
        let mut before = None;
        let outcomes = make().run(&mut model, &context, &mut |event| match event {
            Event::Started { step, steps, name, model } => {
                bar.set_length(steps as u64);
                bar.set_position(step as u64);
                bar.set_message(name);
                before = verify.map(|_| model.clone());
            }
            Event::Finished { model, outcome, .. } => {
                if let (Some(before), Some(plan)) = (before.take(), &outcome.plan) {
                    around = Some((before, model.clone(), plan.clone()));
                }
            }
        })?;
        let passes = outcomes.iter().map(|(name, outcome)| PassLine::new(name, outcome)).collect();
        let repair = outcomes.iter().filter_map(|(_, outcome)| outcome.repair.as_ref()).next_back().map(Into::into);
        let mut plan = outcomes.into_iter().filter_map(|(_, outcome)| outcome.plan).next_back();
        if let Some(plan) = &mut plan {
            plan.repair = repair;
        }
        if let (Some(options), Some((before, after, made))) = (verify, around)
            && let Some(plan) = plan.as_mut().filter(|_| !made.tensors.is_empty())
        {
            bar.set_message("verify");
            let verified = verify::verify(&before, &after, &made, options);
            plan.verified = Some(verified.map_err(|e| Failure::failed(e.to_string()))?);
        }
        Ok(Done { model, plan, passes, accuracy: None })
    };
    let done = on_threads(common.threads, work)?;
    bar.finish_and_clear();
    done.map_err(|f| f.of(&loaded.name))
}

/// Works on so many threads, or on as many as there are processors.
pub fn on_threads<T: Send>(threads: Option<u16>, work: impl FnOnce() -> T + Send) -> Result<T, Failure> {
    let Some(n) = threads else { return Ok(work()) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(n.into()).build();
    Ok(pool.map_err(|e| Failure::failed(format!("{n} threads cannot be started: {e}")))?.install(work))
}

/// Judges, writes and tells what was done. `report` is a file for the summary.
pub fn finish(
    mut done: Done,
    loaded: &Loaded,
    common: &Common,
    judging: Judging,
    report: Option<&Path>,
    console: &mut Console,
) -> Result<(), Failure> {
    let targets = Targets { model: &common.output, plan: common.plan.as_deref(), report };
    if let Some(plan) = done.plan.as_mut() {
        plan.model.file = loaded.file_name();
        if common.plan.is_some() {
            plan.model = ModelRef { sha256: Some(loaded.sha256()?), file: plan.model.file.take() };
        }
    }
    let shapes = infer_all(&done.model, &loaded.sizes);
    let (Some(before), Some(after)) = (loaded.worlds.first(), shapes.first()) else {
        return Err(Failure::failed("no sizes could be assumed for the model's inputs").of(&loaded.name));
    };
    let plan = done.plan.as_ref();
    let mut summary = Summary::new((&loaded.model, before), (&done.model, after), done.passes, plan);
    summary.accuracy = done.accuracy;
    judge(&summary, plan, judging).map_err(|f| f.of(&loaded.name))?;
    let told = Told {
        input: &loaded.name,
        output: if is_stream(&common.output) { "standard output" } else { &common.output.to_string_lossy() },
        summary: &summary,
    };
    let text = report.map(|path| match path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
        true => serde_json::to_string_pretty(&told).map(|t| t + "\n").map_err(std::io::Error::other),
        false => Ok(words(&told, None)),
    });
    let plan_text = plan.map(Plan::to_json);
    targets.write(&done.model, &loaded.map, plan_text, text.transpose()?, console)?;
    if common.json {
        console.json(&told)?
    } else {
        console.text(&words(&told, console.width))?
    }
    for (pass, remark) in summary.remarks(CANNOT_RUN) {
        let node = remark.node.as_ref().map(|n| format!("node '{n}': ")).unwrap_or_default();
        console.warn(&format!("{pass}: {node}{}", remark.text));
    }
    if let Some(verified) = summary.verified.as_ref().filter(|v| v.outcome == Verdict::Cannot) {
        console.warn(&crate::report::verification_text(verified));
    }
    Ok(())
}

/// A summary with the names of the files.
#[derive(Serialize)]
struct Told<'a> {
    input: &'a str,
    output: &'a str,
    #[serde(flatten)]
    summary: &'a Summary,
}

fn judge(summary: &Summary, plan: Option<&Plan>, judging: Judging) -> Result<(), Failure> {
    if let Some(verified) = &summary.verified {
        let text = crate::report::verification_text(verified);
        match verified.outcome {
            Verdict::Different => return Err(Failure::new(UNVERIFIED, format!("{text}; nothing was written"))),
            Verdict::Cannot if judging.strict => {
                let text = format!("{text}; nothing was written, because of --strict (--no-verify leaves it out)");
                return Err(Failure::new(REFUSED, text));
            }
            _ => {}
        }
    }
    if judging.strict && plan.is_some() && !summary.has_cut() {
        let why = summary.untouched_lines(1);
        let why = why.first().map(|w| format!(": {w}")).unwrap_or_default();
        return Err(Failure::new(REFUSED, format!("nothing can be cut, so nothing was written (--strict){why}")));
    }
    Ok(())
}

/// The summary for people.
fn words(told: &Told, width: Option<u16>) -> String {
    let summary = told.summary;
    let mut out = format!("{} -> {}\n", told.input, told.output);
    let (idle, busy): (Vec<_>, Vec<_>) = summary.passes.iter().partition(|p| p.changes == 0 && p.remarks.is_empty());
    for pass in busy {
        let remarks = match pass.remarks.len() {
            0 => String::new(),
            1 => " (1 remark)".to_owned(),
            n => format!(" ({n} remarks)"),
        };
        out += &format!("  {}: {}{remarks}\n", pass.pass, pass.summary);
    }
    if !idle.is_empty() {
        let names: Vec<&str> = idle.iter().map(|p| &p.pass[..]).collect();
        out += &format!("  nothing to do: {}\n", names.join(", "));
    }
    let laid_out = |table: crate::report::Table| format!("\n{}\n", super::console::layout(&table, width));
    if summary.has_cut() {
        out += &laid_out(summary.layer_table());
    }
    if let Some(repair) = &summary.repair {
        out += &laid_out(repair.table(FITTED));
        for line in repair.lines(FITTED, TOLD) {
            out += &format!("  {line}\n");
        }
    }
    out += &laid_out(summary.cost_table());
    if !summary.layers.is_empty() && !summary.has_cut() {
        out += "\nNothing was cut: every group of layers is pinned or kept.\n";
    }
    if !summary.untouched.is_empty() {
        out += "\nLeft as they are, the most costly first:\n";
        for line in summary.untouched_lines(TOLD) {
            out += &format!("  {line}\n");
        }
    }
    if let Some(accuracy) = &summary.accuracy {
        out.push('\n');
        for line in accuracy.lines() {
            out += &format!("{line}\n");
        }
    }
    if let Some(line) = summary.inexact_line(NAMED) {
        out += &format!("\n{line}\n");
    }
    if let Some(line) = summary.verification_line() {
        out += &format!("\n{line}\n");
    }
    out
}
