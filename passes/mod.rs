//! The passes: rewrites of a [`Model`], each a step of a pipeline.
//!
//! Guarantees: after every pass the model's invariants hold ([`Model::check`]); a pass that refuses something says
//! so by node, rule and reason in its [`Outcome`]; names and order of the model's inputs and outputs never change.
//! How: one pass is one file, whose name is its name on the command line, and one line in [`REGISTRY`]. What a pass
//! does, when it refuses and which options it has is told once, in the documentation at the top of its file, which
//! [`documentation`] gives to `secateur passes NAME` as it is.

pub mod eliminate_dead;
pub mod eliminate_identity;
pub mod fold_batch_norm;
pub mod fold_constants;
pub mod inline_functions;
pub mod pipeline;
pub mod prune;
pub mod prune_lossless;
pub mod repair;

pub use pipeline::{ArgumentError, Arguments, DEFAULT_PIPELINE, Event, Pipeline, PipelineError};

use crate::ir::{Model, NodeId};
use crate::onnx::SourceMap;
use crate::repair::{self as repairing, Removal};
use crate::run::{Batches, CannotRun};
use crate::synthetic;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything that passes of one pipeline share.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Sizes given by the user for symbolic dimensions, by symbol or `input.axis`.
    pub sizes: BTreeMap<String, usize>,
    /// Check the model's invariants after every pass, also where debug assertions are off.
    pub verify_each: bool,
    /// The mapped files that payloads are borrowed from: pages are handed back once a pass has read them, so that a
    /// model needs less memory than its file. Empty where nothing is mapped.
    pub source: SourceMap,
    /// Inputs to run the model on, for passes that go by what it computes; where there are none, they are made up.
    pub calibration: Option<Arc<Batches>>,
    /// What an earlier pass of the pipeline has removed; the pipeline fills it in.
    pub removal: Option<Arc<Removal>>,
}

impl Context {
    /// The inputs to run a model on: the calibration data, or made-up ones.
    pub fn inputs(&self, model: &Model) -> Result<Arc<Batches>, CannotRun> {
        match &self.calibration {
            Some(batches) => Ok(batches.clone()),
            None => synthetic::batches(model, &self.sizes, 0).map(Arc::new),
        }
    }
}

/// Something that a pass left alone, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    pub node: Option<String>,
    /// The guard that spoke, in kebab-case; listed in the pass's documentation.
    pub rule: Cow<'static, str>,
    pub text: String,
}

impl Remark {
    /// A remark on a node.
    pub fn at(model: &Model, node: NodeId, rule: &'static str, text: impl Into<String>) -> Self {
        Self { node: Some(model.label(node)), rule: rule.into(), text: text.into() }
    }
}

impl std::fmt::Display for Remark {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match &self.node {
            Some(node) => write!(f, "{node}: {}: {}", self.rule, self.text),
            None => write!(f, "{}: {}", self.rule, self.text),
        }
    }
}

/// The rule of remarks on models that cannot be run in this process, though a pass would have gone by what they compute.
pub const CANNOT_RUN: &str = "cannot-run";

/// What a pass did.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Number of changes; 0 means that the model is as it was.
    pub changes: usize,
    /// One line for people: what was changed.
    pub summary: String,
    pub remarks: Vec<Remark>,
    /// The plan, of passes that cut.
    pub plan: Option<crate::plan::Plan>,
    /// What it removed, for passes that make it good.
    pub removal: Option<Arc<Removal>>,
    /// What was made good.
    pub repair: Option<repairing::Report>,
}

/// A pass that could not run. The model may be half changed and must not be written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("pass {pass}: {text}")]
pub struct PassError {
    pub pass: &'static str,
    pub text: String,
    /// Where a budget was asked for that cannot be met: the closest that can, in the budget's own measure (of a size, the
    /// share of what there was).
    pub closest: Option<f64>,
}

impl PassError {
    pub fn new(pass: &'static str, text: impl Into<String>) -> Self {
        Self { pass, text: text.into(), closest: None }
    }
}

/// One configured pass.
pub trait Pass {
    fn name(&self) -> &'static str;
    fn run(&self, model: &mut Model, context: &Context) -> Result<Outcome, PassError>;
}

/// How a pass is found and made.
pub struct Registration {
    /// Its name on the command line: that of its file, in kebab-case.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Reads the pass's options; what it does not ask for is an unknown argument.
    pub make: fn(&mut Arguments) -> Result<Box<dyn Pass>, ArgumentError>,
    /// The file, whose head is the documentation.
    source: &'static str,
}

#[rustfmt::skip]
pub static REGISTRY: &[Registration] = &[
    Registration { name: "eliminate-dead", summary: "Removes nodes, optional outputs and constants that nothing reads.", make: eliminate_dead::make, source: include_str!("eliminate_dead.rs") },
    Registration { name: "eliminate-identity", summary: "Removes nodes that hand on their input as it is.", make: eliminate_identity::make, source: include_str!("eliminate_identity.rs") },
    Registration { name: "fold-batch-norm", summary: "Folds batch normalisation into the weights of the layer before it.", make: fold_batch_norm::make, source: include_str!("fold_batch_norm.rs") },
    Registration { name: "fold-constants", summary: "Computes what depends on constants only, unless the result is much larger.", make: fold_constants::make, source: include_str!("fold_constants.rs") },
    Registration { name: "inline-functions", summary: "Replaces calls of the model's own functions by their bodies.", make: inline_functions::make, source: include_str!("inline_functions.rs") },
    Registration { name: "prune", summary: "Removes filters, and everything downstream that belonged to them.", make: prune::make, source: include_str!("prune.rs") },
    Registration { name: "prune-lossless", summary: "Removes channels that are constant, duplicate or unread, without a change of the outputs.", make: prune_lossless::make, source: include_str!("prune_lossless.rs") },
    Registration { name: "repair", summary: "Fits the layers behind a cut to what they computed before.", make: repair::make, source: include_str!("repair.rs") },
];

/// `1 node`, `2 nodes`, `no nodes`.
fn counted(n: usize, what: &str) -> String {
    match n {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{n} {what}s"),
    }
}

/// The registration of a pass.
pub fn find(name: &str) -> Option<&'static Registration> {
    REGISTRY.iter().find(|r| r.name == name)
}

/// What a pass does, when it refuses, its options and an example, as Markdown.
pub fn documentation(name: &str) -> Option<String> {
    let head = find(name)?.source.lines().map_while(|line| line.strip_prefix("//!"));
    Some(head.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pass_is_documented_under_the_fixed_headings() {
        assert!(REGISTRY.is_sorted_by_key(|r| r.name));
        for r in REGISTRY {
            let text = documentation(r.name).unwrap();
            let headings: Vec<&str> = text.lines().filter(|l| l.starts_with('#')).collect();
            assert_eq!(
                headings,
                ["# What it does", "# When it refuses", "# Options", "# Example"],
                "documentation of {}",
                r.name
            );
            assert!(r.summary.ends_with('.'));
            let pass = (r.make)(&mut Arguments::default()).unwrap_or_else(|e| panic!("{}: {e}", r.name));
            assert_eq!(pass.name(), r.name);
        }
    }
}
