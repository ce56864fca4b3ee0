//! `secateur explain`.

use super::console::Console;
use super::failure::Failure;
use super::near::did_you_mean;
use super::sizes::SizeArg;
use super::source::load;
use crate::analysis::{Coupling, Explanation, Link, explain, open};
use crate::ir::{Model, NodeId};
use serde::Serialize;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// A node with filters, by its name, the name of an output, or the end of either if only one ends so; with the
    /// number of a filter after a colon. Without one, the first that can be removed is explained
    #[arg(value_name = "NODE[:CHANNEL]")]
    node: String,
    /// Size of an input (NAME=1x3x224x224) or of a symbolic dimension (SYMBOL=N)
    #[arg(long, value_name = "NAME=SIZES")]
    input_shape: Vec<SizeArg>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is printed, for machines.
#[derive(Debug, Serialize)]
struct Explained {
    node: String,
    op: String,
    channels: usize,
    /// How many of the node's channels cannot be removed.
    pinned: usize,
    /// The channel that the chains are about.
    channel: usize,
    removable: bool,
    /// To what pins the channel; empty if it can be removed.
    pinned_by: Vec<Step>,
    /// All that goes with the channel.
    coupled: Vec<Coupled>,
}

#[derive(Debug, Serialize)]
struct Coupled {
    place: String,
    chain: Vec<Step>,
}

#[derive(Debug, Serialize)]
struct Step {
    from: String,
    to: String,
    node: Option<String>,
    rule: String,
    text: String,
}

pub fn run(args: Args, console: &mut Console) -> Result<(), Failure> {
    let loaded = load(&args.input, &args.input_shape, console)?;
    let opened = open(&loaded.model, loaded.worlds, &loaded.sizes);
    let model = &opened.model;
    let coupling = Coupling::new(model, opened.worlds, &Vec::new());
    let (node, channel) = find(model, &args.node).map_err(|f| f.of(&loaded.name))?;
    let (label, op) = (model.label(node), model.node(node).op_type().to_owned());
    let Some(source) = coupling.sources.iter().find(|s| s.node == node) else {
        return Err(Failure::usage(format!(
            "node '{label}' ({op}) has no filters of its own: it is no convolution or matrix product with a stored \
             weight, or it passes on the channels that it is given; `secateur inspect` lists the groups"
        ))
        .of(&loaded.name));
    };
    let pinned = |c: &usize| coupling.atoms.is_pinned(source.atoms[*c]);
    let channels = source.atoms.len();
    if let Some(c) = channel.filter(|&c| c >= channels) {
        return Err(Failure::usage(format!("node '{label}' has {channels} filters, numbered from 0: there is no {c}"))
            .of(&loaded.name));
    }
    let channel = channel.or_else(|| (0..channels).find(|c| !pinned(c))).unwrap_or(0);
    let Some(explanation) = explain(model, &coupling, node, channel) else {
        return Err(Failure::failed(format!("node '{label}' has no filters")).of(&loaded.name));
    };
    let explained = Explained {
        channels,
        pinned: (0..channels).filter(pinned).count(),
        channel,
        removable: !pinned(&channel),
        pinned_by: explanation.pinned_by.iter().map(|l| step(model, l)).collect(),
        coupled: coupled(model, &explanation),
        node: label,
        op,
    };
    if args.json {
        return Ok(console.json(&explained)?);
    }
    print(&explained, console).map_err(Failure::from)
}

fn print(e: &Explained, console: &mut Console) -> std::io::Result<()> {
    let which = match e.pinned {
        0 => "all can be removed".to_owned(),
        n if n == e.channels => "none can be removed".to_owned(),
        n => format!("{n} cannot be removed"),
    };
    console.line(&format!("{} ({}): {} filters, {which}", e.node, e.op, e.channels))?;
    if !e.removable {
        console.line(&format!("filter {} is pinned:", e.channel))?;
        return chain(&e.pinned_by, console);
    }
    if e.coupled.is_empty() {
        return console.line(&format!("filter {} can be removed by itself", e.channel));
    }
    console.line(&format!("with filter {} go:", e.channel))?;
    for other in &e.coupled {
        console.line(&format!("- {}", other.place))?;
        chain(&other.chain, console)?;
    }
    Ok(())
}

fn chain(steps: &[Step], console: &mut Console) -> std::io::Result<()> {
    for step in steps {
        let node = step.node.as_ref().map(|n| format!("'{n}': ")).unwrap_or_default();
        console.line(&format!("    {} -> {}  [{}] {node}{}", step.from, step.to, step.rule, step.text))?;
    }
    Ok(())
}

fn step(model: &Model, link: &Link) -> Step {
    Step {
        from: link.from.clone(),
        to: link.to.clone(),
        node: link.node.map(|n| model.label(n)),
        rule: link.rule.to_owned(),
        text: link.text.clone(),
    }
}

fn coupled(model: &Model, explanation: &Explanation) -> Vec<Coupled> {
    let one = |(place, chain): &(String, Vec<Link>)| Coupled {
        place: place.clone(),
        chain: chain.iter().map(|l| step(model, l)).collect(),
    };
    explanation.coupled.iter().map(one).collect()
}

/// The node that is meant, and the number of the filter. Names may hold colons themselves: the whole is tried first.
fn find(model: &Model, text: &str) -> Result<(NodeId, Option<usize>), Failure> {
    let split = text.rsplit_once(':').and_then(|(name, n)| Some((name, n.parse().ok()?)));
    match (lookup(model, text), split) {
        (Ok(node), _) => Ok((node, None)),
        (Err(_), Some((name, channel))) => lookup(model, name).map(|node| (node, Some(channel))),
        (Err(failure), None) => Err(failure),
    }
}

fn lookup(model: &Model, name: &str) -> Result<NodeId, Failure> {
    let nodes = model.walk();
    let names = |n: NodeId| {
        let outputs = model.node(n).outputs().iter().flatten().map(|&v| model.value(v).name());
        std::iter::once(model.node(n).name()).chain(outputs).filter(|s| !s.is_empty())
    };
    if let Some(&n) = nodes.iter().find(|&&n| names(n).any(|s| s == name)) {
        return Ok(n);
    }
    let ending: Vec<NodeId> = nodes.iter().copied().filter(|&n| names(n).any(|s| s.ends_with(name))).collect();
    match ending[..] {
        [one] if !name.is_empty() => Ok(one),
        [] | [_] => {
            let all: Vec<String> = nodes.iter().flat_map(|&n| names(n)).map(str::to_owned).collect();
            Err(Failure::usage(format!("no node is called '{name}'{}", did_you_mean(name, &all))))
        }
        _ => {
            let first: Vec<String> = ending.iter().take(3).map(|&n| format!("'{}'", model.label(n))).collect();
            let (n, first) = (ending.len(), first.join(", "));
            Err(Failure::usage(format!("{n} nodes have names that end in '{name}', such as {first}; write more of it")))
        }
    }
}
