//! Pipelines: passes in an order, written as text or built.
//!
//! Guarantees: passes run in the order given, none is added or left out; between two of them the invariants of the
//! model are checked (always in builds with debug assertions, elsewhere where [`Context::verify_each`] says so), and a
//! violation names the pass that ran last.
//! Refuses: unknown passes and arguments, and values that are none, with the place in the text.

mod arguments;
mod nearest;
mod parse;

pub use arguments::{ArgumentError, Arguments};
pub use nearest::{distance, nearest};

use super::{Context, Outcome, Pass, PassError};
use crate::ir::Model;

/// The passes of the command `prune`.
///
/// - `prune` comes first, on the model as it was published: its plan names tensors of the file, which reviewers look
///   up and `apply` replays there; its criterion sees the filters as they were trained, batch normalisation apart; and
///   extents that the graph derives from shapes follow a cut by themselves, while folded ones would have to be patched.
/// - `repair` comes right after `prune`: it compares the model value by value with what it was before the cut.
/// - `eliminate-identity` comes before `fold-constants`: exporters give one constant several names by `Identity`, and
///   folding these would store it as often.
/// - `fold-constants` comes after `prune`, whose cuts turn shapes into constants, and before `fold-batch-norm`, which
///   wants weights and statistics to be stored.
/// - `fold-batch-norm` comes after `prune`, whose criterion and plan are about the filters as they were trained.
/// - `eliminate-dead` comes last: all of the above leave constants that nothing reads any more.
///
/// `prune --lossless` has `prune-lossless` in the place of `prune`, for the same reasons.
///
/// The command verifies the model that `prune` left, before anything else is rewritten.
pub const DEFAULT_PIPELINE: &[&str] =
    &["prune", "repair", "eliminate-identity", "fold-constants", "fold-batch-norm", "eliminate-dead"];

/// Passes in the order in which they run.
#[derive(Default)]
pub struct Pipeline {
    passes: Vec<Box<dyn Pass>>,
}

/// A text that is no pipeline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text} (column {} of the passes)", at + 1)]
pub struct PipelineError {
    /// Byte offset in the text.
    pub at: usize,
    pub text: String,
}

/// What [`Pipeline::run`] tells while it runs.
pub enum Event<'a> {
    /// A pass is about to run on `model`.
    Started { step: usize, steps: usize, name: &'static str, model: &'a Model },
    /// It has run, and left `model`.
    Finished { step: usize, steps: usize, name: &'static str, model: &'a Model, outcome: &'a Outcome },
}

impl Pipeline {
    /// Reads `name(argument=value, flag, ...), name, ...`. A value is a word or a quoted string (a backslash before a
    /// quote or a backslash within); a key may be repeated where the pass takes several.
    pub fn parse(text: &str) -> Result<Self, PipelineError> {
        parse::pipeline(text)
    }

    pub fn new(passes: Vec<Box<dyn Pass>>) -> Self {
        Self { passes }
    }

    /// [`DEFAULT_PIPELINE`] around a configured prune, with or without its repair.
    pub fn standard(prune: Box<dyn Pass>, repair: bool) -> Self {
        let mut prune = Some(prune);
        let make = |name: &&str| match super::find(name) {
            _ if *name == "prune" => prune.take().expect("the pipeline prunes once"),
            Some(r) => (r.make)(&mut Arguments::default()).expect("every option has a default"),
            None => unreachable!("the default pipeline names registered passes"),
        };
        Self { passes: DEFAULT_PIPELINE.iter().filter(|n| repair || **n != "repair").map(make).collect() }
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.passes.iter().map(|p| p.name())
    }

    /// Runs all passes. The outcomes come in the order of the passes.
    pub fn run(
        &self,
        model: &mut Model,
        context: &Context,
        observe: &mut dyn FnMut(Event),
    ) -> Result<Vec<(&'static str, Outcome)>, PassError> {
        let steps = self.passes.len();
        let mut context = context.clone();
        let mut outcomes = Vec::with_capacity(steps);
        for (step, pass) in self.passes.iter().enumerate() {
            let name = pass.name();
            observe(Event::Started { step, steps, name, model });
            let outcome = pass.run(model, &context)?;
            context.removal = outcome.removal.clone().or(context.removal);
            if context.verify_each || cfg!(debug_assertions) {
                model.check().map_err(|v| PassError::new(name, format!("left a broken model: {v}")))?;
            }
            observe(Event::Finished { step, steps, name, model, outcome: &outcome });
            outcomes.push((name, outcome));
        }
        Ok(outcomes)
    }
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_pipeline_names_registered_passes() {
        for name in DEFAULT_PIPELINE.iter().filter(|n| **n != "prune") {
            assert!(super::super::find(name).is_some(), "{name}");
        }
    }

    #[test]
    fn reads_passes_and_arguments() {
        let names = |text: &str| Pipeline::parse(text).unwrap().names().collect::<Vec<_>>();
        assert_eq!(names("fold-constants, eliminate-dead"), ["fold-constants", "eliminate-dead"]);
        assert_eq!(
            names("fold-constants( max-growth = \"64\" ,dequantize),eliminate-dead()"),
            ["fold-constants", "eliminate-dead"]
        );
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let cases = [
            ("", 0, "a pass is expected"),
            ("fold-constants,", 15, "a pass is expected"),
            ("fold-constant", 0, "there is no pass 'fold-constant'; did you mean 'fold-constants'?"),
            ("zap", 0, "there is no pass 'zap'"),
            ("fold-constants(max-grwth=3)", 15, "'max-grwth'; did you mean 'max-growth'?"),
            ("fold-constants(max-growth=lots)", 26, "max-growth needs a number of bytes, not 'lots'"),
            ("fold-constants(max-growth)", 15, "max-growth needs a number of bytes"),
            ("fold-constants(max-growth=1,max-growth=2)", 39, "max-growth is given twice"),
            ("fold-constants(dequantize=maybe)", 26, "dequantize is true or false, not 'maybe'"),
            ("fold-constants(max-growth=\"3)", 26, "the quoted text has no end"),
            ("fold-constants(max-growth=3", 27, "',' or ')' is expected"),
            ("fold-constants eliminate-dead", 15, "',' is expected between passes"),
            ("fold-constants(=3)", 15, "the name of an argument is expected"),
            ("eliminate-dead(x)", 15, "eliminate-dead takes no arguments, so no 'x'"),
        ];
        let mut failures = String::new();
        for (text, at, message) in cases {
            let e = Pipeline::parse(text).unwrap_err();
            if e.at != at || !e.text.contains(message) {
                failures += &format!("{text}\n  wanted {at} {message}\n  found {} {}\n", e.at, e.text);
            }
        }
        assert!(failures.is_empty(), "{failures}");
    }
}
