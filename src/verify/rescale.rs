//! The original whose statistics over channels are those of the channels that stay.
//!
//! Guarantees: each node that an [`InexactCut`] names takes its statistic of the input with the removed elements set to
//! zero, multiplied by what their number fell by, so that it is over those that are left; nothing else changes.
//! Refuses: with [`Unstated::Misfit`], entries that name no such node or do not fit its shapes; with
//! [`Unstated::Cannot`], operators whose parts cannot be run in this process anyway.
//! How: a reduction reads a masked input, and its result is scaled. A norm is written out in products, means over
//! everything and a factor: it shares nothing with the operator that the pruned model runs, of which it is the proof.

use super::{PlanMisfit, Unstated};
use crate::analysis::{Shapes, infer_all, open};
use crate::ir::{Model, NodeId, ValueId};
use crate::onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, attribute_proto::AttributeType};
use crate::onnx::tensor::{DataType, Tensor};
use crate::ops::{self, Action, Average, Operand};
use crate::plan::InexactCut;
use crate::run::CannotRun;
use std::collections::BTreeMap;

/// From this version on a mean takes its axes as an input.
const AXES_AS_INPUT: i64 = 18;

/// States `model` (masked, where reads are) with the statistics that the entries speak of. `sizes` are those of its
/// symbolic dimensions: the masks have the shapes that it gives.
pub fn rescale(model: &Model, entries: &[InexactCut], sizes: &BTreeMap<String, usize>) -> Result<Model, Unstated> {
    if entries.is_empty() {
        return Ok(model.clone());
    }
    let mut worlds = infer_all(model, sizes);
    let mut model = model.clone();
    // Entries name values of the model with its functions inlined.
    if !model.header().functions.is_empty() {
        let opened = open(&model, worlds, sizes);
        (model, worlds) = (opened.model, opened.worlds);
    }
    let shapes = worlds.first().ok_or_else(|| misfit("the shapes of its inputs are not known"))?;
    let mut proto = model.export();
    let version = model.opset("").unwrap_or(0);
    for entry in entries {
        let node = Stated::find(&model, shapes, entry)?;
        let written = node.written(entry, version)?;
        replace(&mut proto, &entry.output, written)?;
    }
    Ok(Model::import(proto).map_err(|e| misfit(&format!("stated anew it is no model: {e}")))?)
}

fn misfit(text: &str) -> PlanMisfit {
    PlanMisfit(text.to_owned())
}

/// The nodes that stand for one, and their constants.
struct Written {
    nodes: Vec<NodeProto>,
    constants: Vec<(String, Tensor)>,
}

/// Puts what is written in the place of the node with this first output.
fn replace(proto: &mut ModelProto, output: &str, written: Written) -> Result<(), PlanMisfit> {
    let graph: &mut GraphProto = proto.graph.as_mut().ok_or_else(|| misfit("it has no graph"))?;
    let at = graph.node.iter().position(|n| n.output.first().is_some_and(|o| o == output));
    let at = at.ok_or_else(|| misfit(&format!("it has no node that computes '{output}'")))?;
    graph.node.splice(at..=at, written.nodes);
    graph.initializer.extend(written.constants.iter().map(|(name, tensor)| tensor.to_proto(name)));
    Ok(())
}

/// A node that takes a statistic, and what is known of it.
struct Stated<'a> {
    model: &'a Model,
    shapes: &'a Shapes,
    node: NodeId,
    average: Average,
    operands: &'a [Operand],
    blocks: usize,
    /// The shape and element type of what the statistic is of.
    shape: &'a [usize],
    dtype: DataType,
}

impl<'a> Stated<'a> {
    fn find(model: &'a Model, shapes: &'a Shapes, entry: &InexactCut) -> Result<Self, PlanMisfit> {
        let InexactCut { output, op, input, .. } = entry;
        let computes = |n: &NodeId| model.node(*n).output(0).is_some_and(|v| model.value(v).name() == output);
        let node = model.graph(model.main()).nodes().iter().copied().find(computes);
        let node = node.filter(|&n| model.node(n).op_type() == op);
        let node = node.ok_or_else(|| misfit(&format!("it has no {op} that computes '{output}'")))?;
        let unfit = || misfit(&format!("input {input} of the {op} that computes '{output}' is no statistic's"));
        let (row, _) = ops::lookup(model, model.node(node)).map_err(|_| unfit())?;
        let effect = shapes.effect(node).and_then(|e| e.as_ref().ok()).ok_or_else(unfit)?;
        let Action::Map(operands) = &effect.action else { return Err(unfit()) };
        let first = operands.first().filter(|o| o.input == *input).ok_or_else(unfit)?;
        let blocks = first.averaged.as_ref().ok_or_else(unfit)?.blocks;
        let fact = model.node(node).input(*input).and_then(|v| shapes.fact(v)).ok_or_else(unfit)?;
        let (shape, dtype) = fact.shape.as_deref().zip(fact.dtype).ok_or_else(unfit)?;
        Ok(Self { model, shapes, node, average: row.average, operands, blocks, shape, dtype })
    }

    fn written(&self, entry: &InexactCut, version: i64) -> Result<Written, Unstated> {
        let share = entry.count[0] as f64 / entry.count[1].max(1) as f64;
        let mut to = Writing::new(self, &entry.output, version);
        let mask = self.mask(entry)?;
        let mask = to.constant(mask.shape(), mask.to_f64().unwrap_or_default());
        let x = self.name(entry.input);
        match self.average {
            Average::None => return Err(misfit(&format!("{} takes no mean", entry.op)).into()),
            Average::Mean | Average::Sum(_) | Average::Length => {
                let power = match self.average {
                    Average::Mean => 1.0,
                    Average::Sum(power) => power,
                    _ => -1.0 / self.model.node(self.node).int("p").unwrap_or(2).max(1) as f64,
                };
                let masked = to.node("Mul", &[&x, &mask]);
                let result = to.itself(entry.input, &masked);
                let factor = to.constant(&[], vec![share.powf(power)]);
                to.last("Mul", &[&result, &factor], &entry.output);
            }
            Average::Deviation | Average::MeanSquare => self.norm(&mut to, &x, &mask, share, &entry.output),
            Average::SumDeviation | Average::SumMeanSquare => {
                let reason = format!("{} is an operator that the interpreter does not know", entry.op);
                return Err(CannotRun { node: Some(self.model.label(self.node)), reason }.into());
            }
        }
        Ok(to.written)
    }

    fn name(&self, input: usize) -> String {
        self.value(input).map_or_else(String::new, |v| self.model.value(v).name().to_owned())
    }

    fn value(&self, input: usize) -> Option<ValueId> {
        self.model.node(self.node).input(input)
    }

    /// Zero for what is removed, one for what stays, of extent 1 along the axes where that makes no difference.
    fn mask(&self, entry: &InexactCut) -> Result<Tensor, PlanMisfit> {
        let unfit =
            || misfit(&format!("the removed parts of '{}' do not fit its shape {:?}", entry.output, self.shape));
        let (&last, others) = entry.axes.split_last().ok_or_else(unfit)?;
        let extent = |a: usize| self.shape.get(a).copied().ok_or_else(unfit);
        let rows = others.iter().try_fold(1, |n, &a| Ok::<_, PlanMisfit>(n * extent(a)?))?;
        let along = extent(last)?;
        let fits = entry.parts > 0 && along.is_multiple_of(entry.parts) && entry.axes.is_sorted();
        if !fits || !(entry.removed.len() == 1 || entry.removed.len() == rows) {
            return Err(unfit());
        }
        let each = along / entry.parts;
        let mut values = Vec::with_capacity(rows * along);
        for row in 0..rows {
            let removed = &entry.removed[if entry.removed.len() == 1 { 0 } else { row }];
            values.extend((0..along).map(|p| f64::from(u8::from(!removed.contains(&(p / each))))));
        }
        let shape: Vec<usize> =
            (0..self.shape.len()).map(|a| if entry.axes.contains(&a) { self.shape[a] } else { 1 }).collect();
        Tensor::from_f64(DataType::Float, &shape, &values).ok_or_else(unfit)
    }

    /// A norm in its parts: what it is of, less its mean or as it is, over the root of its mean square.
    fn norm(&self, to: &mut Writing, x: &str, mask: &str, share: f64, output: &str) {
        let mixed: Vec<usize> = (0..self.shape.len()).filter(|&a| self.operands[0].axes[a].is_none()).collect();
        let first = mixed.first().copied().unwrap_or(0);
        // Each block along the first averaged axis stands on an axis of its own.
        let apart = |shape: &[usize]| -> Vec<usize> {
            let d = shape[first];
            let split = if d == 1 { [1, 1] } else { [self.blocks, d / self.blocks] };
            [&shape[..first], &split, &shape[first + 1..]].concat()
        };
        let parameters = [(1, "Mul"), (2, "Add")].into_iter().filter(|&(i, _)| self.value(i).is_some());
        let (of_blocks, of_places): (Vec<_>, Vec<_>) =
            parameters.partition(|&(i, _)| !self.operands.iter().any(|o| o.input == i));
        let (axes, viewed): (Vec<usize>, _) = match self.blocks == 1 && of_blocks.is_empty() {
            true => (mixed, None),
            false => (mixed.iter().map(|a| a + 1).collect(), Some(apart(self.shape))),
        };
        let (mut x, mut mask) = (x.to_owned(), mask.to_owned());
        if let Some(viewed) = &viewed {
            let extents = (0..self.shape.len()).map(|a| if a == first { self.shape[a] } else { 1 });
            let of_mask = apart(&extents.collect::<Vec<_>>());
            (x, mask) = (to.reshape(&x, viewed), to.reshape(&mask, &of_mask));
        }
        let factor = to.constant(&[], vec![share]);
        let centred = match self.average {
            Average::MeanSquare => to.node("Mul", &[&x, &mask]),
            _ => {
                let masked = to.node("Mul", &[&x, &mask]);
                let mean = to.mean(&masked, &axes);
                let mean = to.node("Mul", &[&mean, &factor]);
                let less = to.node("Sub", &[&x, &mean]);
                to.node("Mul", &[&less, &mask])
            }
        };
        let square = to.node("Mul", &[&centred, &centred]);
        let mean = to.mean(&square, &axes);
        let mean = to.node("Mul", &[&mean, &factor]);
        let epsilon = self.model.node(self.node).float("epsilon").map_or(1e-5, f64::from);
        let epsilon = to.constant(&[], vec![epsilon]);
        let above = to.node("Add", &[&mean, &epsilon]);
        let root = to.node("Sqrt", &[&above]);
        let mut y = to.node("Div", &[&centred, &root]);
        for (i, op) in of_blocks {
            let mut shape = vec![1; self.shape.len() + 1];
            shape[first] = self.blocks;
            let parameter = to.reshape(&self.name(i), &shape);
            y = to.node(op, &[&y, &parameter]);
        }
        if viewed.is_some() {
            y = to.reshape(&y, self.shape);
        }
        for (i, op) in of_places {
            let parameter = to.reshape(&self.name(i), &self.aligned(i));
            y = to.node(op, &[&y, &parameter]);
        }
        to.last("Identity", &[&y], output);
    }

    /// The shape of a parameter under the axes of the result.
    fn aligned(&self, input: usize) -> Vec<usize> {
        let mut shape = vec![1; self.shape.len()];
        let own = self.value(input).and_then(|v| self.shapes.shape(v)).unwrap_or(&[]);
        for operand in self.operands.iter().filter(|o| o.input == input) {
            for (a, &to) in operand.axes.iter().enumerate() {
                let to = to.or(operand.averaged.as_ref().and_then(|averaged| averaged.axes[a]));
                if let (Some(to), Some(&extent)) = (to, own.get(a)) {
                    shape[to] = extent;
                }
            }
        }
        shape
    }
}

/// Nodes being written, with names that begin like the value that they compute.
struct Writing<'a> {
    of: &'a Stated<'a>,
    prefix: String,
    version: i64,
    written: Written,
}

impl<'a> Writing<'a> {
    fn new(of: &'a Stated, output: &str, version: i64) -> Self {
        let mut prefix = format!("{output}.rescaled");
        while of.model.values().any(|v| of.model.value(v).name().starts_with(&prefix)) {
            prefix.push('.');
        }
        Self { of, prefix, version, written: Written { nodes: Vec::new(), constants: Vec::new() } }
    }

    fn fresh(&self) -> String {
        format!("{}.{}", self.prefix, self.written.nodes.len() + self.written.constants.len())
    }

    /// A constant of the type that the node computes in.
    fn constant(&mut self, shape: &[usize], values: Vec<f64>) -> String {
        let tensor = Tensor::from_f64(self.of.dtype, shape, &values).unwrap_or_else(|| {
            Tensor::from_f64(DataType::Float, shape, &values).expect("as many values as the shape has places")
        });
        self.held(tensor)
    }

    fn held(&mut self, tensor: Tensor) -> String {
        let name = self.fresh();
        self.written.constants.push((name.clone(), tensor));
        name
    }

    fn node(&mut self, op: &str, inputs: &[&str]) -> String {
        let output = self.fresh();
        self.last(op, inputs, &output);
        output
    }

    fn last(&mut self, op: &str, inputs: &[&str], output: &str) {
        self.written.nodes.push(NodeProto {
            op_type: Some(op.to_owned()),
            input: inputs.iter().map(|&i| i.to_owned()).collect(),
            output: vec![output.to_owned()],
            ..Default::default()
        });
    }

    /// The node as it is, of another operand, under another output.
    fn itself(&mut self, input: usize, operand: &str) -> String {
        let output = self.fresh();
        let node = self.of.model.node(self.of.node);
        let mut inputs: Vec<String> = (0..node.inputs().len()).map(|i| self.of.name(i)).collect();
        inputs[input] = operand.to_owned();
        let attribute = node.attributes().to_vec();
        let op_type = Some(node.op_type().to_owned());
        self.written.nodes.push(NodeProto {
            op_type,
            input: inputs,
            output: vec![output.clone()],
            attribute,
            ..Default::default()
        });
        output
    }

    fn reshape(&mut self, x: &str, shape: &[usize]) -> String {
        let extents: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        let shape = self.held(Tensor::from_i64(&[extents.len()], &extents));
        self.node("Reshape", &[x, &shape])
    }

    fn mean(&mut self, x: &str, axes: &[usize]) -> String {
        let axes: Vec<i64> = axes.iter().map(|&a| a as i64).collect();
        if self.version >= AXES_AS_INPUT {
            let axes = self.held(Tensor::from_i64(&[axes.len()], &axes));
            return self.node("ReduceMean", &[x, &axes]);
        }
        let output = self.node("ReduceMean", &[x]);
        let ints = AttributeProto {
            name: Some("axes".to_owned()),
            r#type: Some(AttributeType::Ints as i32),
            ints: axes,
            ..Default::default()
        };
        self.written.nodes.last_mut().expect("just written").attribute.push(ints);
        output
    }
}
