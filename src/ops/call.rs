//! What an operator's rule sees of one node, and what it answers.

use super::step::Step;
use crate::ir::Node;
use crate::onnx::tensor::{DataType, Tensor};

/// What is known of one value under one assignment of sizes to the symbolic dimensions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fact {
    pub dtype: Option<DataType>,
    /// Concrete extents; `None` where the shape depends on data, or could not be inferred.
    pub shape: Option<Vec<usize>>,
    /// The content, for small tensors that depend on constants and shapes only.
    pub value: Option<Tensor>,
}

impl Fact {
    pub fn new(dtype: Option<DataType>, shape: Vec<usize>) -> Self {
        Self { dtype, shape: Some(shape), value: None }
    }
}

/// Why a rule does not hold for a node. The analysis then treats the node as opaque.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The operator, this version of it, or these attributes are not in the table: nothing is known, nothing guessed.
    #[error("{0}")]
    Unknown(String),
    /// Something that the rule needs (a shape, the content of an input) is not known statically.
    #[error("{0}")]
    Dynamic(String),
    /// The node contradicts itself or its operands: no runtime could run it.
    #[error("{0}")]
    Invalid(String),
}

/// One node with the facts of its inputs.
pub struct Call<'a> {
    pub node: &'a Node,
    /// Version of the node's operator set.
    pub version: i64,
    /// Facts of the inputs, `None` where one is left out.
    pub inputs: &'a [Option<&'a Fact>],
}

/// What a node does: facts of its outputs, and how channels pass through it.
#[derive(Debug, Clone)]
pub struct Effect {
    pub outputs: Vec<Fact>,
    pub action: Action,
}

/// How the channels of a node's inputs reach its outputs. Inputs that an action does not mention are pinned by the
/// analysis, unless they are parameters (shapes, axes, indices) that the rule read as values.
#[derive(Debug, Clone)]
pub enum Action {
    /// The outputs depend on the shapes of the inputs only (or on nothing).
    ShapeOnly,
    /// Each element of the output is computed from the elements at the same place of the operands.
    Map(Vec<Operand>),
    /// Each output is a rearrangement of one input.
    Layout { input: usize, outputs: Vec<Vec<Step>> },
    /// Some inputs end to end along an axis.
    Concat { axis: usize, inputs: Vec<usize> },
    /// A sum of products over shared axes: the only place where channels begin and end.
    Contract(Contraction),
    /// Nothing is known of how channels pass: all are pinned. With the reason.
    Opaque(String),
}

/// An operand of an elementwise computation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operand {
    pub input: usize,
    /// Layout steps by which the operand is seen: a scale for each block of positions is repeated, say.
    pub steps: Vec<Step>,
    /// For each axis of the operand, so seen, the axis of the output that it runs along. `None`: elements along this axis are
    /// mixed (pooled, normalised, reduced), which pins channels on it.
    pub axes: Vec<Option<usize>>,
    /// Where the mixed axes run along if the operator's statistics may be taken of the positions that are left; `None`
    /// where they may not, whatever the caller allows.
    pub averaged: Option<Averaged>,
}

/// An operand of which an operator takes statistics (or a parameter that goes with it).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Averaged {
    /// For each axis of the operand the axis of the output that it runs along; `None` where it is reduced away.
    pub axes: Vec<Option<usize>>,
    /// Equal blocks along the first of the mixed axes, each of which has statistics of its own.
    pub blocks: usize,
}

/// Einstein summation over views of the operands. Axes named by a letter that is not in the output and in one
/// operand only (window positions) are mixed.
#[derive(Debug, Clone)]
pub struct Contraction {
    pub operands: Vec<View>,
    pub output: View,
    /// Operands that act on the output place by place: a bias, the scales of quantised filters.
    pub also: Vec<Operand>,
    /// Axes that lose their freedom where channels are spread over one of them and another axis: all positions
    /// along it then go or stay together.
    pub fold: Vec<char>,
    /// What each group of a grouped convolution may choose for itself.
    pub groups: Option<Groups>,
    /// Which position along each window axis of the input a tap reads, in the order of those axes; empty for products
    /// without windows. `None` where that depends on data, or the sum of products is not the output itself.
    pub windows: Option<Vec<Window>>,
    /// Multiply-accumulate operations of one execution.
    pub macs: u64,
    /// Layer kind for reports and defaults.
    pub kind: Kind,
}

/// The windows along one axis: which input position tap `t` of the window at output position `p` reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub stride: i64,
    pub dilation: i64,
    /// Padding before the first position.
    pub before: i64,
    /// Whether strides spread the input, as in a transposed convolution, instead of skipping some of it.
    pub transposed: bool,
}

impl Window {
    /// `None` where the tap reads padding, or nothing.
    pub fn input_at(&self, position: usize, tap: usize, extent: usize) -> Option<usize> {
        let (p, reach) = (i64::try_from(position).ok()?, i64::try_from(tap).ok()?.checked_mul(self.dilation)?);
        let at = match self.transposed {
            false => p.checked_mul(self.stride)?.checked_add(reach)?.checked_sub(self.before)?,
            true => {
                let spread = p.checked_add(self.before)?.checked_sub(reach)?;
                if spread.checked_rem(self.stride)? != 0 {
                    return None;
                }
                spread / self.stride
            }
        };
        usize::try_from(at).ok().filter(|&at| at < extent)
    }
}

/// Groups that keep channels of their own: equally many in each. The weight states one axis for all groups, so that
/// every block of its rows has other channels there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups {
    pub count: usize,
    /// Which operand the weight is, and its axis that all groups share.
    pub weight: usize,
    pub axis: usize,
    /// The letter of that axis, and that of the groups.
    pub letter: char,
    pub group: char,
}

/// An operand or the output, seen under another shape, with a letter for each axis.
#[derive(Debug, Clone)]
pub struct View {
    /// Input number; unused for the output.
    pub input: usize,
    pub shape: Vec<usize>,
    pub letters: Vec<char>,
}

/// What a contraction is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Conv,
    Dense,
    Recurrent,
}

impl<'a> Call<'a> {
    pub fn fact(&self, i: usize) -> Option<&'a Fact> {
        self.inputs.get(i).copied().flatten()
    }

    pub fn has(&self, i: usize) -> bool {
        self.fact(i).is_some()
    }

    /// The shape of a required input.
    pub fn shape(&self, i: usize) -> Result<&'a [usize], Refusal> {
        let fact = self.fact(i).ok_or_else(|| Refusal::Invalid(format!("input {i} is missing")))?;
        fact.shape.as_deref().ok_or_else(|| Refusal::Dynamic(format!("the shape of input {i} is not known")))
    }

    /// The shape of a required input of at least `rank` axes.
    pub fn shape_of_rank(&self, i: usize, rank: usize) -> Result<&'a [usize], Refusal> {
        let shape = self.shape(i)?;
        if shape.len() < rank {
            return Err(Refusal::Invalid(format!("input {i} has shape {shape:?}, at least {rank} axes are needed")));
        }
        Ok(shape)
    }

    pub fn dtype(&self, i: usize) -> Option<DataType> {
        self.fact(i).and_then(|f| f.dtype)
    }

    /// The integers that an input holds.
    pub fn known(&self, i: usize) -> Result<Vec<i64>, Refusal> {
        let value = self.fact(i).and_then(|f| f.value.as_ref());
        value.and_then(Tensor::to_i64).ok_or_else(|| Refusal::Dynamic(format!("the content of input {i} is not known")))
    }

    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.node.int(name).unwrap_or(default)
    }

    /// A list attribute of a given length, filled with a default where it is absent.
    pub fn list(&self, name: &str, default: i64, len: usize) -> Result<Vec<i64>, Refusal> {
        let v = self.node.ints(name).map_or_else(|| vec![default; len], <[i64]>::to_vec);
        if v.len() == len {
            Ok(v)
        } else {
            Err(Refusal::Invalid(format!("{name} has {} entries, {len} are needed", v.len())))
        }
    }

    /// A list attribute, or where it is absent the integers of an input, or `None` where both are.
    pub fn ints_or_input(&self, name: &str, input: usize) -> Result<Option<Vec<i64>>, Refusal> {
        match self.node.ints(name) {
            Some(v) => Ok(Some(v.to_vec())),
            None if self.has(input) => self.known(input).map(Some),
            None => Ok(None),
        }
    }

    /// An axis attribute, negative counted from the end.
    pub fn axis(&self, name: &str, default: i64, rank: usize) -> Result<usize, Refusal> {
        axis_at(self.int(name, default), rank)
    }

    /// How many outputs the node names.
    pub fn output_count(&self) -> usize {
        self.node.outputs().len()
    }
}

/// An axis number, negative counted from the end.
pub fn axis_at(axis: i64, rank: usize) -> Result<usize, Refusal> {
    let at = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(at)
        .ok()
        .filter(|&a| a < rank)
        .ok_or_else(|| Refusal::Invalid(format!("axis {axis} is outside of a tensor with {rank} axes")))
}

impl Operand {
    /// An operand whose axes run along these of the output.
    pub fn over(input: usize, axes: Vec<Option<usize>>) -> Self {
        Self { input, axes, ..Self::default() }
    }

    /// The shape under which an operand of this shape is seen.
    pub fn seen(&self, shape: &[usize]) -> Vec<usize> {
        super::step::shape_after(&self.steps, shape)
    }

    /// An operand whose axes are those of the output.
    pub fn whole(input: usize, rank: usize) -> Self {
        Self::over(input, (0..rank).map(Some).collect())
    }

    /// An operand aligned with the last axes of the output, as numpy broadcasts.
    pub fn trailing(input: usize, rank: usize, output_rank: usize) -> Self {
        Self::over(input, (output_rank - rank..output_rank).map(Some).collect())
    }

    /// A vector along one axis of the output.
    pub fn along(input: usize, axis: usize) -> Self {
        Self::over(input, vec![Some(axis)])
    }

    /// The same operand with statistics over the given axes of the output.
    pub fn averaging(self, mixed: impl Fn(usize) -> bool) -> Self {
        let averaged = Some(Averaged { axes: self.axes.clone(), blocks: 1 });
        Self { averaged, ..self.mixing(mixed) }
    }

    /// The same operand with statistics for each of equal blocks along the first averaged axis.
    pub fn in_blocks(mut self, blocks: usize) -> Self {
        self.averaged.iter_mut().for_each(|a| a.blocks = blocks);
        self
    }

    /// The same operand with the given axes of the output mixed.
    pub fn mixing(mut self, mixed: impl Fn(usize) -> bool) -> Self {
        for a in &mut self.axes {
            *a = a.filter(|&x| !mixed(x));
        }
        self
    }
}

impl Effect {
    /// One output.
    pub fn one(fact: Fact, action: Action) -> Self {
        Self { outputs: vec![fact], action }
    }

    /// An elementwise effect of one output that has the type of input 0.
    pub fn map(call: &Call, shape: Vec<usize>, operands: Vec<Operand>) -> Self {
        Self::one(Fact::new(call.dtype(0), shape), Action::Map(operands))
    }

    /// One rearranged output of input 0.
    pub fn layout(call: &Call, steps: Vec<Step>) -> Result<Self, Refusal> {
        Self::layouts(call, vec![steps])
    }

    /// Several rearranged outputs of input 0.
    pub fn layouts(call: &Call, outputs: Vec<Vec<Step>>) -> Result<Self, Refusal> {
        let from = call.shape(0)?;
        let facts = outputs.iter().map(|s| Fact::new(call.dtype(0), super::step::shape_after(s, from))).collect();
        Ok(Self { outputs: facts, action: Action::Layout { input: 0, outputs } })
    }
}
