//! The operator table: what every known operator does to shapes, values and channels.
//!
//! Guarantees: an operator without a row, of another domain, or of a version that the table does not cover is never
//! guessed at: it is opaque, which costs coverage, never correctness. Everything that the rest of the program knows
//! of an operator stands in its row.
//! Refuses: with a [`Refusal`], attributes and operands that a rule does not cover.
//! How: a row names one rule ([`Effect`] of one node, shapes and channels together), how small constants are
//! evaluated, what has to be narrowed after a cut, and what becomes of an all-zero operand.

pub mod absent;
mod addend;
pub mod affine;
pub(crate) mod array;
mod call;
mod contract;
mod gather;
mod layout;
mod map;
mod normalise;
mod pool;
mod quantised;
mod random;
mod reduction;
mod signal;
pub mod step;
mod table;
mod values;

pub use addend::Addend;
pub use call::{Action, Averaged, Call, Contraction, Effect, Fact, Groups, Kind, Operand, Refusal, View, Window};
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
    /// The layer that the operator makes, where it makes channels.
    pub layer: Option<Kind>,
    /// Which outputs lie place by place as the first one does.
    pub places: Places,
    /// How extents that hold for every size of the symbolic dimensions pass; see `analysis::fixed`.
    pub extents: Extents,
    /// Pairs of inputs: integers, and the integer among them that stands for zero.
    pub zero_points: &'static [(usize, usize)],
    /// What the operator makes of a statistic over positions, if a mean over fewer of them may stand for it.
    pub average: Average,
    /// Inputs that are running statistics, which the literature does not count as parameters.
    pub statistics: std::ops::Range<usize>,
    /// Whether it gives another result at every run.
    pub random: bool,
    /// Whether it makes probabilities of scores, so that scores say more of how far two results are apart.
    pub of_scores: bool,
    /// The version of ONNX's operator that one of another domain follows.
    pub like: Option<i64>,
    /// Pairs of inputs `(a, b)`: where `a` is zero the result does not depend on `b`, as long as that is finite.
    pub ignores: &'static [(usize, usize)],
    /// What a linear operator adds; `None` for what is not linear, or not on plain numbers.
    pub addend: fn(&Call) -> Option<Addend>,
    /// What becomes of the elements of one input, where that is affine place by place.
    pub affine: fn(&Call, usize, affine::Constants) -> Option<affine::Affine>,
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
    /// Zero if the first operand is, whatever the others.
    Kept,
    /// Zero if any operand is (products).
    AnyOperand,
    /// Each part is zero where its own operand is (concatenations).
    Parts,
    /// Zero if all operands are (sums); of a contraction, if weights and addends are.
    AllOperands,
}

/// A statistic over positions for which one over those that are left may stand, where the caller allows it: what hangs
/// on their number. Which axes it is over stands with the operands ([`Operand::averaged`]); the first is what it is of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Average {
    /// There is none, or it is no mean of anything: a maximum, a softmax.
    None,
    /// The result is a mean, which divides by the number of elements itself.
    Mean,
    /// The result grows with the number of elements to this power.
    Sum(f64),
    /// The result is the operand divided by its length, the p-norm of attribute `p`.
    Length,
    /// The result is the operand less its mean, divided by its standard deviation; then scale (input 1), shift (2).
    Deviation,
    /// The result is the operand divided by the root of its mean square; then scale (input 1).
    MeanSquare,
    /// As `Deviation`, of the sum of several operands.
    SumDeviation,
    /// As `MeanSquare`, of the sum of several operands.
    SumMeanSquare,
}

impl Average {
    /// By what the result has to be multiplied so that it stands for one of `before` elements when it is of `after`.
    /// `p` is the operator's attribute of that name.
    pub fn factor(self, p: i64, before: usize, after: usize) -> f64 {
        let ratio = before as f64 / after as f64;
        match self {
            Self::Sum(power) => ratio.powf(power),
            Self::Length => ratio.powf(-1.0 / p.max(1) as f64),
            _ => 1.0,
        }
    }
}

/// Which outputs of an operator that works place by place its channels reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Places {
    /// The first only: others tell of positions over all channels, and pin these where something reads them.
    First,
    /// All: each lies as the first one does.
    All,
}

/// How extents pass a node when not everything of its inputs is fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extents {
    /// As the action says.
    ByAction,
    /// The result is a shape: its extent is a rank, its elements are the extents.
    Shape,
    /// The result is a number of elements.
    Size,
    /// A target states each extent for itself.
    Target,
    /// All axes before one are joined, and all others.
    Flatten,
    /// Axes of extent 1 go.
    Squeeze,
    /// Axes of extent 1 come.
    Unsqueeze,
    /// One axis becomes those of the positions that are gathered.
    Gather,
    /// Batch, filters, windows.
    Conv,
    /// Rows, columns.
    Gemm,
    /// All axes but the last, columns.
    MatMul,
}

/// The row of an operator, whatever its version.
pub fn row_of(node: &Node) -> Option<&'static Row> {
    let domain = if node.is_standard() { "" } else { node.domain() };
    row_named(domain, node.op_type())
}

/// The row of an operator by its domain, empty for ONNX's own, and its name.
pub fn row_named(domain: &str, name: &str) -> Option<&'static Row> {
    table::ROWS.iter().find(|r| r.name == name && r.domain == domain)
}

/// The row of a node's operator, or why there is none.
pub fn lookup(model: &Model, node: &Node) -> Result<(&'static Row, i64), Refusal> {
    let domain = if node.is_standard() { "" } else { node.domain() };
    let written = || match domain {
        "" => node.op_type().to_owned(),
        _ => format!("{domain}.{}", node.op_type()),
    };
    if model.is_local_function(node) {
        return Err(Refusal::Unknown(format!(
            "{} is a function of the model that is not inlined (the pass inline-functions says why)",
            written()
        )));
    }
    let version =
        model.opset(domain).ok_or_else(|| Refusal::Unknown(format!("{}: the domain is not imported", written())))?;
    let row = row_of(node).ok_or_else(|| {
        let why = absent::why(domain, node.op_type()).map(|why| format!(": {why}"));
        Refusal::Unknown(format!("{} is not in the operator table{}", written(), why.unwrap_or_default()))
    })?;
    if version < row.since {
        return Err(Refusal::Unknown(format!(
            "{} is known from version {} on, the model uses {version}",
            written(),
            row.since
        )));
    }
    Ok((row, row.like.unwrap_or(version)))
}

/// Evaluates a node on constant inputs. `None` where the table cannot.
pub fn evaluate(row: &Row, call: &Call, effect: &Effect, inputs: &[Option<&Tensor>]) -> Option<Vec<Tensor>> {
    match (&effect.action, row.eval) {
        (Action::Layout { input, outputs }, _) => {
            let tensor = inputs.get(*input).copied().flatten()?;
            outputs.iter().map(|steps| step::apply(steps, tensor)).collect()
        }
        (Action::Concat { axis, inputs: parts }, _) => {
            // With further inputs it does more than that.
            (parts.len() == inputs.len()).then_some(())?;
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
