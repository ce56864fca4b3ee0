//! # What it does
//!
//! Folds a `BatchNormalization` in inference into the layer before it. With scale γ, shift β, mean μ, variance σ² and
//! ε of the normalisation, and a layer that computes `W x + b`, for every channel `c`
//!
//! ```text
//! y = γ (W x + b - μ) / √(σ² + ε) + β  =  (s W) x + (s (b - μ) + β)      with s = γ / √(σ² + ε)
//! ```
//!
//! so that the filters of channel `c` are multiplied by `s[c]`, and the bias becomes `s (b - μ) + β`. The layer is a
//! `Conv` (filters along axis 0 of the weight), a `ConvTranspose` (axis 1, within each group of rows), a `Gemm` (the
//! axis that is not summed; α stays, the new `C` is divided by β of the `Gemm`), or a `MatMul` of two matrices, which
//! becomes a `Gemm`. A layer without bias gets one. The layer takes over the output of the normalisation, name and
//! all. Numbers are computed in 64 bits and stored in the type of the weight.
//!
//! # When it refuses
//!
//! - `training-mode`: the node computes statistics of its own, or its version normalises every position by itself.
//! - `producer`: the input does not come from one of the layers above, or from a node of another graph.
//! - `output-read`: the layer's output is read by others too, or is an output of the graph.
//! - `statistics`: γ, β, μ or σ² is not a constant of one number a channel, or may be overridden by a caller.
//! - `variance`: σ² + ε is not a positive finite number for every channel, or γ, β or μ is not finite.
//! - `weight-not-constant`: the weight or the bias is computed by a node (dequantised weights above all, which must
//!   keep their integers), or fed to the model.
//! - `weight-overridable`: the weight or the bias is the default of an input, which a caller may replace.
//! - `weight-shared`: the weight is read elsewhere too, or is an output of the graph.
//! - `weight-type`: the weight is not of a floating-point type of 16 bits or more.
//! - `overflow`: a folded weight is too large for its type.
//! - `shape`: weight, bias and statistics do not fit each other, or the `Gemm` has β = 0 or a `C` of several rows.
//!
//! # Options
//!
//! None.
//!
//! # Example
//!
//! ```text
//! c = Conv (x, w)                                   y = Conv (x, w, w_bias)
//! y = BatchNormalization (c, g, b, m, v)     ->
//! ```

use super::{ArgumentError, Arguments, Context, Outcome, Pass, PassError, Remark, counted};
use crate::analysis::{infer_all, stored};
use crate::ir::{Def, Model, NodeId, Uses, ValueId};
use crate::onnx::tensor::{DataType, Tensor};
use std::collections::BTreeSet;

/// Folds batch normalisation into weights.
#[derive(Debug, Clone, Default)]
pub struct FoldBatchNorm;

pub(super) fn make(_: &mut Arguments) -> Result<Box<dyn Pass>, ArgumentError> {
    Ok(Box::new(FoldBatchNorm))
}

/// A guard that spoke.
struct Refused {
    rule: &'static str,
    text: String,
}

fn refuse<T>(rule: &'static str, text: impl Into<String>) -> Result<T, Refused> {
    Err(Refused { rule, text: text.into() })
}

impl Pass for FoldBatchNorm {
    fn name(&self) -> &'static str {
        "fold-batch-norm"
    }

    fn run(&self, model: &mut Model, context: &Context) -> Result<Outcome, PassError> {
        let mut gone = BTreeSet::new();
        let mut remarks = Vec::new();
        // A fold changes who reads what only for values that it retires, and for statistics, whose readers are not
        // asked for; the snapshot stays good.
        let uses = model.uses();
        // Only products of unknown rank ask for shapes. Values keep their ids, so the answer stays good as well.
        let asked = model.walk().into_iter().any(|n| model.node(n).op_type() == "MatMul");
        let shapes = asked.then(|| infer_all(model, &context.sizes).swap_remove(0));
        let rank = |v: Option<ValueId>| shapes.as_ref()?.shape(v?).map(<[usize]>::len);
        for n in model.walk() {
            let node = model.node(n);
            if !node.is_standard() || node.op_type() != "BatchNormalization" || model.is_local_function(node) {
                continue;
            }
            match fold(model, &uses, &rank, n) {
                Ok(folded) => {
                    apply(model, n, folded);
                    gone.insert(n);
                }
                Err(Refused { rule, text }) => remarks.push(Remark::at(model, n, rule, text)),
            }
        }
        model.remove_nodes(&gone);
        let changes = gone.len();
        let summary = format!("folded {}", counted(changes, "batch normalisation"));
        Ok(Outcome { changes, summary, remarks, ..Outcome::default() })
    }
}

/// What a fold writes.
struct Folded {
    layer: NodeId,
    weight: ValueId,
    filters: Tensor,
    bias: Bias,
    numbers: Tensor,
}

enum Bias {
    /// The layer's own, read by nobody else.
    Replaced(ValueId),
    /// None so far, or one that others read too. With a name to derive the new one's from.
    Added(String),
}

fn apply(model: &mut Model, n: NodeId, folded: Folded) {
    let Folded { layer, weight, filters, bias, numbers } = folded;
    model.set_constant(weight, &filters);
    match bias {
        Bias::Replaced(b) => model.set_constant(b, &numbers),
        Bias::Added(hint) => {
            let graph = model.node(layer).graph();
            let b = model.add_initializer(graph, &hint, &numbers);
            model.set_input(layer, 2, Some(b));
        }
    }
    if model.node(layer).op_type() == "MatMul" {
        model.set_operator(layer, "Gemm");
    }
    model.take_over_output(n, 0, layer, 0);
}

fn fold(
    model: &Model,
    uses: &Uses,
    ranks: &dyn Fn(Option<ValueId>) -> Option<usize>,
    n: NodeId,
) -> Result<Folded, Refused> {
    let (scale, shift) = affine(model, uses, n)?;
    let layer = layer(model, uses, n)?;
    let node = model.node(layer);
    let Some(weight) = node.input(1) else { return refuse("shape", "the layer has no weight") };
    let tensor = constant(model, weight, "weight")?;
    if let Some((reader, _)) = uses.readers(weight).iter().find(|r| **r != (layer, 1)) {
        return refuse("weight-shared", format!("'{}' reads the weight too", model.label(*reader)));
    }
    if uses.is_output(weight) {
        return refuse("weight-shared", "the weight is an output of the graph");
    }
    if matches!(node.op_type(), "Gemm" | "MatMul") && model.opset("").unwrap_or(0) < 7 {
        return refuse("shape", "before version 7 a Gemm broadcasts by attributes");
    }
    // Channels are axis 1: the last axis of a matrix, but not of a batch of matrices.
    if node.op_type() == "MatMul" && ranks(node.input(0)) != Some(2) {
        return refuse("shape", "the product is not known to be a matrix");
    }
    let axis = Axis::of(model, layer, tensor.shape(), scale.len())?;
    let filters = axis
        .scaled(&tensor, &scale)
        .ok_or_else(|| Refused { rule: "weight-type", text: format!("the layer computes in {:?}", tensor.dtype()) })?;
    finite(&filters, "weight")?;

    let old = match node.input(2) {
        Some(b) => Some((b, constant(model, b, "bias")?)),
        None => None,
    };
    let (alone, rows) = match &old {
        None => (vec![0.0; scale.len()], 1),
        Some((_, t)) => (spread(&values(t)?, t.shape(), scale.len(), node.op_type())?, t.shape().len().max(1)),
    };
    // Conv adds its bias as it is, Gemm adds beta times C.
    let beta = if node.op_type() == "Gemm" { f64::from(node.float("beta").unwrap_or(1.0)) } else { 1.0 };
    if beta == 0.0 {
        return refuse("shape", "the layer leaves out its C (beta is 0)");
    }
    let numbers: Vec<f64> =
        alone.iter().zip(scale.iter().zip(&shift)).map(|(b, (s, t))| (s * b * beta + t) / beta).collect();
    let shape = if rows == 2 { vec![1, scale.len()] } else { vec![scale.len()] };
    let like = Tensor::from_f64(tensor.dtype(), &shape, &numbers);
    let numbers = like.ok_or_else(|| Refused { rule: "weight-type", text: "no reals".into() })?;
    finite(&numbers, "bias")?;
    let bias = match old {
        // Where the bias is a vector and nobody else's it keeps its name; one of another shape is a new constant.
        Some((b, t))
            if uses.readers(b) == [(layer, 2)]
                && !uses.is_output(b)
                && t.shape() == numbers.shape()
                && model.constant(b).is_some() =>
        {
            Bias::Replaced(b)
        }
        Some((b, _)) => Bias::Added(format!("{}_folded", model.value(b).name())),
        None => Bias::Added(format!("{}_bias", model.value(weight).name())),
    };
    Ok(Folded { layer, weight, filters, bias, numbers })
}

/// Scale and shift that the normalisation amounts to, for every channel.
fn affine(model: &Model, uses: &Uses, n: NodeId) -> Result<(Vec<f64>, Vec<f64>), Refused> {
    let node = model.node(n);
    let opset = model.opset("").unwrap_or(0);
    let read = node.outputs().iter().skip(1).flatten().any(|&v| !uses.is_unused(v));
    if node.int("training_mode").unwrap_or(0) != 0 || read || (opset < 7 && node.int("is_test").unwrap_or(0) == 0) {
        return refuse("training-mode", "the node computes statistics of its own");
    }
    if opset < 9 && node.int("spatial").unwrap_or(1) == 0 {
        return refuse("training-mode", "spatial is 0: every position has its own statistics");
    }
    let mut lists = Vec::with_capacity(4);
    for (i, what) in [(1, "scale"), (2, "shift"), (3, "mean"), (4, "variance")] {
        let v = node.input(i);
        if v.is_some_and(|v| model.is_overridable(v)) {
            return refuse("statistics", format!("a caller may override the {what}"));
        }
        let list = v.and_then(|v| stored(model, v)).filter(|t| t.shape().len() == 1).and_then(|t| t.to_f64());
        match list {
            Some(list) if list.len() == lists.first().map_or(list.len(), Vec::len) => lists.push(list),
            Some(list) => return refuse("statistics", format!("the {what} has {} entries", list.len())),
            None => return refuse("statistics", format!("the {what} is not a constant vector of numbers")),
        }
    }
    let epsilon = f64::from(node.float("epsilon").unwrap_or(1e-5));
    let [gamma, beta, mean, variance] = &lists[..] else { unreachable!("four lists were read") };
    let mut scale = Vec::with_capacity(gamma.len());
    let mut shift = Vec::with_capacity(gamma.len());
    for c in 0..gamma.len() {
        let spread = variance[c] + epsilon;
        if !(spread > 0.0 && spread.is_finite() && variance[c] >= 0.0) {
            return refuse("variance", format!("the variance of channel {c} is {}", variance[c]));
        }
        let s = gamma[c] / spread.sqrt();
        let t = beta[c] - s * mean[c];
        if !s.is_finite() || !t.is_finite() {
            return refuse("variance", format!("scale, shift or mean of channel {c} is not finite"));
        }
        scale.push(s);
        shift.push(t);
    }
    Ok((scale, shift))
}

/// The layer whose output the normalisation alone reads.
fn layer(model: &Model, uses: &Uses, n: NodeId) -> Result<NodeId, Refused> {
    let node = model.node(n);
    let Some(x) = node.input(0) else { return refuse("producer", "the node has no input") };
    let Def::Node(layer, 0) = model.value(x).def() else {
        return refuse("producer", format!("its input '{}' is computed by no layer", model.value(x).name()));
    };
    let producer = model.node(layer);
    let known = matches!(producer.op_type(), "Conv" | "ConvTranspose" | "Gemm" | "MatMul");
    if !known || !producer.is_standard() || model.is_local_function(producer) {
        let text = format!("its input comes from '{}' ({})", model.label(layer), producer.op_type());
        return refuse("producer", text);
    }
    if producer.graph() != node.graph() {
        return refuse("producer", format!("'{}' is in another graph", model.label(layer)));
    }
    if uses.is_output(x) {
        return refuse("output-read", format!("'{}' is an output of the graph", model.value(x).name()));
    }
    match uses.readers(x).iter().find(|r| r.0 != n) {
        Some((other, _)) => refuse("output-read", format!("'{}' reads the layer's output too", model.label(*other))),
        None => Ok(layer),
    }
}

fn constant(model: &Model, v: ValueId, what: &str) -> Result<Tensor, Refused> {
    if model.is_overridable(v) {
        return refuse("weight-overridable", format!("a caller may override the {what} '{}'", model.value(v).name()));
    }
    // Only what can be written back: the content of an initializer, or the `value` of a `Constant`.
    match model.constant(v).map(Tensor::from_proto) {
        Some(Ok(t)) => Ok(t),
        Some(Err(e)) => refuse("weight-not-constant", e.to_string()),
        None => {
            let by = match model.value(v).def() {
                Def::Node(p, _) => format!("computed by '{}' ({})", model.label(p), model.node(p).op_type()),
                _ => "fed to the model".to_owned(),
            };
            refuse("weight-not-constant", format!("the {what} '{}' is {by}", model.value(v).name()))
        }
    }
}

fn values(t: &Tensor) -> Result<Vec<f64>, Refused> {
    use DataType::{Bfloat16, Double, Float, Float16};
    let real = matches!(t.dtype(), Float | Double | Float16 | Bfloat16);
    let values = real.then(|| t.to_f64()).flatten();
    values.ok_or_else(|| Refused { rule: "weight-type", text: format!("the layer computes in {:?}", t.dtype()) })
}

fn finite(tensor: &Tensor, what: &str) -> Result<(), Refused> {
    if !tensor.is_finite() {
        return refuse("overflow", format!("the folded {what} does not fit {:?}", tensor.dtype()));
    }
    Ok(())
}

/// A bias as one number a channel.
fn spread(bias: &[f64], shape: &[usize], channels: usize, op: &str) -> Result<Vec<f64>, Refused> {
    match (op, shape) {
        (_, [n]) if *n == channels => Ok(bias.to_vec()),
        ("Gemm", [1, n]) if *n == channels => Ok(bias.to_vec()),
        ("Gemm", [] | [1] | [1, 1]) => Ok(vec![bias[0]; channels]),
        _ => refuse("shape", format!("a bias of shape {shape:?} for {channels} channels")),
    }
}

/// Where a weight keeps its output channels: element `i` belongs to channel
/// `(i / outer_run) / rows * per_group + (i / run) % per_group`, the first term counting groups.
struct Axis {
    run: usize,
    per_group: usize,
    /// Rows of one group, along axis 0; all of them where there are no groups.
    rows: usize,
    outer_run: usize,
}

impl Axis {
    fn of(model: &Model, layer: NodeId, w: &[usize], channels: usize) -> Result<Self, Refused> {
        let node = model.node(layer);
        let bad = || Refused { rule: "shape", text: format!("a weight of shape {w:?} for {channels} channels") };
        let group = usize::try_from(node.int("group").unwrap_or(1)).ok().filter(|&g| g > 0).ok_or_else(bad)?;
        let run = |axis: usize| w[axis + 1..].iter().product::<usize>();
        // An axis other than the first has no groups but those of ConvTranspose.
        let (axis, rows) = match (node.op_type(), w.len()) {
            ("Conv", 3..) => (0, w[0]),
            ("ConvTranspose", 3..) if w[0].is_multiple_of(group) => (1, w[0] / group),
            ("Gemm", 2) if node.int("transB").unwrap_or(0) != 0 => (0, w[0]),
            ("Gemm" | "MatMul", 2) => (1, w[0]),
            _ => return Err(bad()),
        };
        let per_group = w[axis];
        let groups = if node.op_type() == "ConvTranspose" { group } else { 1 };
        if per_group * groups != channels || w.contains(&0) {
            return Err(bad());
        }
        Ok(Self { run: run(axis), per_group, rows, outer_run: run(0) })
    }

    /// `None` where the weight holds no reals.
    fn scaled(&self, weight: &Tensor, scale: &[f64]) -> Option<Tensor> {
        // All elements of a run belong to one channel.
        let channel = |i: usize| (i * self.run / self.outer_run) / self.rows * self.per_group + i % self.per_group;
        weight.scaled(self.run, |i| scale[channel(i)])
    }
}
