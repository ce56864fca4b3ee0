//! # What it does
//!
//! Removes what no output of the model depends on: nodes, initializers, and declarations of values that are gone.
//! Bodies of `If`, `Loop` and `Scan` are treated alike, and what they read from the graphs around them counts as read.
//! Optional outputs that nothing reads are left out (the mask of `Dropout`, the statistics of `BatchNormalization` and
//! `LayerNormalization`, the indices of `MaxPool`, the states of `LSTM`, `GRU` and `RNN`).
//!
//! # When it refuses
//!
//! Never. Inputs and outputs of the model stay, also inputs that nothing reads and initializers that are the default
//! of an input: callers know them by name. Bodies keep their inputs and outputs, whose number is part of the operator.
//!
//! # Options
//!
//! None.
//!
//! # Example
//!
//! ```text
//! a = Relu (x)                      a = Relu (x)
//! b, mask = Dropout (a)       ->    b = Dropout (a)
//! c = Sigmoid (a)
//! ```

use super::{ArgumentError, Arguments, Context, Outcome, Pass, PassError, counted};
use crate::ir::Model;

/// Removes what nothing reads.
#[derive(Debug, Clone, Default)]
pub struct EliminateDead;

pub(super) fn make(_: &mut Arguments) -> Result<Box<dyn Pass>, ArgumentError> {
    Ok(Box::new(EliminateDead))
}

/// Operators with outputs that may be left out, and the first of these.
const OPTIONAL_OUTPUTS: [(&str, usize); 7] = [
    ("BatchNormalization", 1),
    ("Dropout", 1),
    ("GRU", 0),
    ("LayerNormalization", 1),
    ("LSTM", 0),
    ("MaxPool", 1),
    ("RNN", 0),
];

impl Pass for EliminateDead {
    fn name(&self) -> &'static str {
        "eliminate-dead"
    }

    fn run(&self, model: &mut Model, _: &Context) -> Result<Outcome, PassError> {
        let mut nodes = 0;
        let mut constants = 0;
        let mut outputs = 0;
        // A node that is gone may have been the last reader of an optional output, never the other way round; the
        // sweep before the trim therefore finds all nodes, the one after it what only a trimmed output had declared.
        let swept = model.sweep();
        (nodes, constants) = (nodes + swept.0, constants + swept.1);
        let uses = model.uses();
        for n in model.walk() {
            let node = model.node(n);
            let Some((_, first)) = OPTIONAL_OUTPUTS.iter().find(|(op, _)| node.is_standard() && *op == node.op_type())
            else {
                continue;
            };
            let unused: Vec<usize> =
                (*first..node.outputs().len()).filter(|&i| node.output(i).is_some_and(|v| uses.is_unused(v))).collect();
            for i in unused {
                model.drop_output(n, i);
                outputs += 1;
            }
        }
        if outputs > 0 {
            model.sweep();
        }
        let summary = format!(
            "removed {}, {}, {}",
            counted(nodes, "node"),
            counted(constants, "constant"),
            counted(outputs, "optional output")
        );
        Ok(Outcome { changes: nodes + constants + outputs, summary, ..Outcome::default() })
    }
}
