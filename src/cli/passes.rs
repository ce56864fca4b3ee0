//! `secateur passes`.

use super::console::Console;
use super::failure::Failure;
use super::near::did_you_mean;
use crate::passes::{DEFAULT_PIPELINE, REGISTRY, documentation};
use crate::report::Table;
use serde::Serialize;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pass to describe; all are listed without one
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Described {
    name: &'static str,
    summary: &'static str,
    /// Its place in the pipeline of `secateur prune`, from 1.
    default: Option<usize>,
    documentation: Option<String>,
}

pub fn run(args: Args, console: &mut Console) -> Result<(), Failure> {
    let mut found = Vec::new();
    for pass in REGISTRY.iter().filter(|r| args.name.as_deref().is_none_or(|n| n == r.name)) {
        let default = DEFAULT_PIPELINE.iter().position(|n| *n == pass.name).map(|i| i + 1);
        let documentation = args.name.as_ref().and_then(|n| documentation(n));
        found.push(Described { name: pass.name, summary: pass.summary, default, documentation });
    }
    if let (Some(name), []) = (&args.name, &found[..]) {
        let all: Vec<String> = REGISTRY.iter().map(|r| r.name.to_owned()).collect();
        let text = format!("there is no pass '{name}'{}; `secateur passes` lists them", did_you_mean(name, &all));
        return Err(Failure::usage(text));
    }
    if args.json {
        return Ok(console.json(&found)?);
    }
    if let Some(text) = found.first().and_then(|d| d.documentation.as_deref()) {
        return Ok(console.text(text)?);
    }
    let mut table = Table::new(&["pass", ">in prune", "what it does"]);
    for pass in found {
        let place = pass.default.map_or(String::new(), |i| i.to_string());
        table.row([pass.name.to_owned(), place, pass.summary.to_owned()]);
    }
    Ok(console.table(&table)?)
}
