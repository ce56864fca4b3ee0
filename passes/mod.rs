//! The passes: rewrites of a [`Model`], each a step of a pipeline.
//!
//! Guarantees: after every pass the model's invariants hold ([`Model::check`]); a pass that refuses something says
//! so by node, rule and reason in its [`Outcome`].
//! How: one pass is one file, whose name is its name on the command line, and one line in [`REGISTRY`].

use crate::ir::Model;
use std::borrow::Cow;
use std::collections::BTreeMap;

pub mod prune;

/// Everything that passes of one pipeline share.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Sizes given by the user for symbolic dimensions, by symbol or `input.axis`.
    pub sizes: BTreeMap<String, usize>,
}

/// Something that a pass left alone, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    pub node: Option<String>,
    pub rule: Cow<'static, str>,
    pub text: String,
}

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
}

/// A pass that could not run. The model may be half changed and must not be written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("pass {pass}: {text}")]
pub struct PassError {
    pub pass: &'static str,
    pub text: String,
}

/// One configured pass.
pub trait Pass {
    fn name(&self) -> &'static str;
    fn run(&self, model: &mut Model, context: &Context) -> Result<Outcome, PassError>;
}
