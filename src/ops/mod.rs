//! The operator table: what every known operator does to shapes, values and channels.
//!
//! Guarantees: an operator without a row, of another domain, or of a version that the table does not cover is never
//! guessed at: it is opaque, which costs coverage, never correctness. Everything that the rest of the program knows
//! of an operator stands in its row.
//! Refuses: with a [`Refusal`], attributes and operands that a rule does not cover.
//! How: a row names one rule ([`Effect`] of one node, shapes and channels together), how small constants are
//! evaluated, what has to be narrowed after a cut, and what becomes of an all-zero operand.

mod addend;
pub(crate) mod array;
mod call;
mod contract;
mod layout;
mod map;
pub mod step;
mod table;
mod values;

pub use addend::Addend;
pub use call::{Action, Call, Contraction, Effect, Fact, Kind, Operand, Refusal, View};
pub(crate) use layout::{pad_amounts, slice_bounds, split_sizes};

use crate::ir::{Model, Node};
use crate::onnx::tensor::Tensor;

/// The newest version of the standard operator set that the table was written against.
pub const NEWEST_OPSET: i64 = 28;

/// One operator.
pub struct Row {
    pub domain: &'static str,
    pub name: &'static str,
    /// The first version of the operator set whose semantics the rule knows.
    pub since: i64,
    pub rule: fn(&Call) -> Result<Effect, Refusal>,
    pub eval: Eval,
    pub narrow: Narrow,
    pub zero: Zero,
    /// Pairs of inputs `(a, b)`: where `a` is zero the result does not depend on `b`, as long as that is finite.
    pub ignores: &'static [(usize, usize)],
    /// What a linear operator adds; `None` for what is not linear, or not on plain numbers.
    pub addend: fn(&Call) -> Option<Addend>,
}

/// Computes a node's outputs from its constant inputs.
pub type Kernel = fn(&Call, &[Option<&Tensor>]) -> Option<Vec<Tensor>>;

/// How constants are evaluated. Layout operators need nothing here: their steps run on tensors as they are.
#[derive(Clone, Copy)]
pub enum Eval {
    None,
    Unary(fn(f64) -> f64),
    Binary(fn(i64, i64) -> Option<i64>, fn(f64, f64) -> f64),
    Compare(fn(f64, f64) -> bool),
    Custom(Kernel),
}

/// What of a node states a number of channels, and so has to follow a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Narrow {
    /// Nothing: all extents follow from the operands.
    Nothing,
    /// `group`: as many as there are blocks left.
    Group,
    /// The target shape in an input, or in an attribute of older versions.
    Target { input: usize, attribute: &'static str },
    /// Sizes of the parts.
    SplitSizes,
    /// Starts and ends.
    SliceBounds,
    /// Positions that are gathered.
    Indices,
    /// Amounts of padding.
    PadAmounts,
}

/// What becomes of channels whose operand is all zero: needed where two activations are multiplied and the masked
/// original has to be stated on weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zero {
    /// Unknown, or not zero.
    Lost,
    /// Zero stays zero, whatever the other operands.
    Kept,
    /// Zero if all operands are (sums).
    AllOperands,
}

/// The row of a node's operator, or why there is none.
pub fn lookup(model: &Model, node: &Node) -> Result<(&'static Row, i64), Refusal> {
    let domain = if node.is_standard() { "" } else { node.domain() };
    let written = || match domain {
        "" => node.op_type().to_owned(),
        _ => format!("{domain}.{}", node.op_type()),
    };
    if model.is_local_function(node) {
        return Err(Refusal::Unknown(format!("{} is a function of the model", written())));
    }
    let version =
        model.opset(domain).ok_or_else(|| Refusal::Unknown(format!("{}: the domain is not imported", written())))?;
    let row = table::ROWS.iter().find(|r| r.name == node.op_type() && r.domain == domain);
    let row = row.ok_or_else(|| Refusal::Unknown(format!("{} is not in the operator table", written())))?;
    if version < row.since {
        return Err(Refusal::Unknown(format!(
            "{} is known from version {} on, the model uses {version}",
            written(),
            row.since
        )));
    }
    Ok((row, version))
}

/// Evaluates a node on constant inputs. `None` where the table cannot.
pub fn evaluate(row: &Row, call: &Call, effect: &Effect, inputs: &[Option<&Tensor>]) -> Option<Vec<Tensor>> {
    match (&effect.action, row.eval) {
        (Action::Layout { input, outputs }, _) => {
            let tensor = inputs.get(*input).copied().flatten()?;
            outputs.iter().map(|steps| step::apply(steps, tensor)).collect()
        }
        (Action::Concat { axis }, _) => {
            let parts = inputs.iter().copied().collect::<Option<Vec<_>>>()?;
            Some(vec![step::concat(&parts, *axis)?])
        }
        (_, Eval::None) => None,
        (_, Eval::Unary(f)) => values::unary(inputs, f),
        (_, Eval::Binary(ints, reals)) => values::binary(inputs, ints, reals),
        (_, Eval::Compare(holds)) => values::compare(inputs, holds),
        (_, Eval::Custom(f)) => f(call, inputs),
    }
}

/// Whether two runs of the operator on the same operands may differ.
pub fn is_random(op_type: &str) -> bool {
    matches!(op_type, "Bernoulli" | "Multinomial") || op_type.starts_with("Random")
}

/// All rows, in the order of the table.
pub fn rows() -> &'static [Row] {
    table::ROWS
}
