//! # What it does
//!
//! Replaces every call of a function that the model defines by the function's body, also calls within bodies and
//! within the graphs of control flow. Attributes of the function become those of the call, or their defaults; optional
//! operands that the call leaves out are left out. Nodes and values of the body are named after the call. Functions
//! that nothing calls any more are dropped.
//!
//! `prune` inlines by itself what its channels pass through. What it cannot do is cut a constant that stands in the
//! body of a function: its plan names tensors of the file. After this pass it can.
//!
//! # When it refuses
//!
//! - `opset`: the function was written for another version of an operator set than the model imports.
//! - `recursion`: the function calls itself.
//! - `size`: there would be more nodes than can be handled.
//! - `call`: the call does not fit the function: operands that it does not have, attributes of the wrong type, a body
//!   that is not in order; or there is no such function.
//!
//! # Options
//!
//! None.
//!
//! # Example
//!
//! ```text
//! y = local.Swish <beta = 1.5> (x)      ->      b = Constant <value_float = 1.5> ()
//!                                               m = Mul (x, b)
//! Swish <beta> (x) => (y) { ... }               s = Sigmoid (m)
//!                                               y = Mul (x, s)
//! ```

use super::{ArgumentError, Arguments, Context, Outcome, Pass, PassError, Remark, counted};
use crate::ir::{InlineError, Model};

/// Inlines every call.
#[derive(Debug, Clone, Default)]
pub struct InlineFunctions;

pub(super) fn make(_: &mut Arguments) -> Result<Box<dyn Pass>, ArgumentError> {
    Ok(Box::new(InlineFunctions))
}

impl Pass for InlineFunctions {
    fn name(&self) -> &'static str {
        "inline-functions"
    }

    fn run(&self, model: &mut Model, _: &Context) -> Result<Outcome, PassError> {
        let done = model.inline_all();
        let remarks = done.refused.iter().map(|(n, why)| Remark::at(model, *n, rule(why), why.to_string())).collect();
        let summary = format!("inlined {}", counted(done.calls, "call"));
        Ok(Outcome { changes: done.calls, summary, remarks, ..Outcome::default() })
    }
}

fn rule(why: &InlineError) -> &'static str {
    match why {
        InlineError::Opset { .. } => "opset",
        InlineError::Recursive(_) => "recursion",
        InlineError::TooLarge(_) => "size",
        InlineError::Undefined(_) | InlineError::Misfit { .. } => "call",
    }
}
