//! The stored constants whose zeros make a constant zero.
//!
//! A removal is stated on stored tensors: those positions become zero. A contraction's weight may be computed from
//! several of them (an update added to a weight, two halves end to end, a product of two factors). Each constant that
//! is found here, zeroed along the axis named beside it, makes the weight zero along the axes asked for.

use super::super::label::Origin;
use super::Flow;
use crate::ir::{NodeId, ValueId};
use crate::onnx::tensor::Tensor;
use crate::ops::step::Step;
use crate::ops::{Action, Zero};
use std::collections::BTreeSet;

/// Why zeros in what is stored would not be zeros of the weight.
pub(super) enum ZeroLost {
    /// Integers of which another than 0 stands for zero.
    ZeroPoint,
    /// A node does not give zero for zero, or `None` where nothing that is stored is found.
    At(Option<NodeId>),
}

impl Flow<'_> {
    /// Constants and their axes, in the order in which they are met going up from `v`.
    pub(super) fn stored_along(&self, v: ValueId, axes: &[usize]) -> Result<Vec<(ValueId, usize)>, ZeroLost> {
        let mut out = Vec::new();
        let mut seen = BTreeSet::new();
        // No recursion: a chain may be as long as the file.
        let mut stack = vec![(v, axes.to_vec())];
        while let Some((v, axes)) = stack.pop() {
            if !seen.insert((v, axes.clone())) {
                continue;
            }
            if self.model.constant(v).is_some() {
                for f in self.world.fields[v.index()].iter().filter(|f| f.axes.iter().any(|a| axes.contains(a))) {
                    let origin = f.atoms.first().and_then(|&a| self.coupling.atoms.origin(a));
                    let Some((Origin::Constant { value, axis }, _)) = origin else { return Err(ZeroLost::At(None)) };
                    if !out.contains(&(value, axis)) {
                        out.push((value, axis));
                    }
                }
                continue;
            }
            let n = self.maker(v).ok_or(ZeroLost::At(None))?;
            if !self.takes_0_for_zero(n) {
                return Err(ZeroLost::ZeroPoint);
            }
            stack.extend(self.zeros_come_from(n, v, &axes).ok_or(ZeroLost::At(Some(n)))?.into_iter().rev());
        }
        Ok(out)
    }

    /// Inputs of a node, and axes of them, whose zeros make its output `v` zero along `axes`.
    fn zeros_come_from(&self, n: NodeId, v: ValueId, axes: &[usize]) -> Option<Vec<(ValueId, Vec<usize>)>> {
        let node = self.model.node(n);
        let effect = self.world.shapes.effect(n)?.as_ref().ok()?;
        // The axes of an input whose labels reach one of the axes asked for.
        let reaching = |input: ValueId, to: &dyn Fn(usize) -> Option<usize>| -> Vec<usize> {
            let fields = self.world.fields[input.index()].iter();
            let reach = fields.filter(|f| f.axes.iter().any(|&a| to(a).is_some_and(|a| axes.contains(&a))));
            reach.flat_map(|f| f.axes.iter().copied()).collect()
        };
        match &effect.action {
            Action::Layout { input, outputs } => {
                let steps = outputs.get(node.outputs().iter().position(|o| *o == Some(v))?)?;
                if steps.iter().any(|s| matches!(s, Step::Pad { .. })) {
                    return None;
                }
                let input = node.input(*input)?;
                let mut from = Vec::new();
                for field in &self.world.fields[input.index()] {
                    let mut shape = self.world.shapes.shape(input)?.to_vec();
                    let mut moved = field.clone();
                    for step in steps {
                        moved = moved.step(step, &shape, &mut |_, _, _| Vec::new());
                        shape = step.shape(&shape);
                    }
                    if moved.axes.iter().any(|a| axes.contains(a)) {
                        from.extend(&field.axes);
                    }
                }
                Some(vec![(input, from)])
            }
            Action::Concat { .. } => {
                let parts = node.inputs().iter().flatten();
                let from: Vec<_> = parts.map(|&p| (p, reaching(p, &Some))).collect();
                from.iter().all(|(_, axes)| !axes.is_empty()).then_some(from)
            }
            Action::Map(operands) => {
                let from: Vec<(ValueId, Vec<usize>)> = operands
                    .iter()
                    .map(|o| node.input(o.input).map(|v| (v, reaching(v, &|a| o.axes.get(a).copied().flatten()))))
                    .collect::<Option<_>>()?;
                let varies = |(_, axes): &&(ValueId, Vec<usize>)| !axes.is_empty();
                let (row, _) = crate::ops::lookup(self.model, node).ok()?;
                match row.zero {
                    Zero::AllOperands => from.iter().all(|f| varies(&f)).then_some(from),
                    Zero::Kept if row.name == "Mul" => from.iter().find(varies).map(|f| vec![f.clone()]),
                    Zero::Kept => from.first().filter(varies).map(|f| vec![f.clone()]),
                    Zero::Lost if row.name == "DequantizeLinear" => {
                        from.first().filter(varies).map(|f| vec![f.clone()])
                    }
                    Zero::Lost => None,
                }
            }
            Action::Contract(c) if c.also.is_empty() && effect.outputs[0].shape.as_ref() == Some(&c.output.shape) => {
                let operand = c.operands.iter().find_map(|view| {
                    let input = node.input(view.input)?;
                    let to = |a: usize| c.output.letters.iter().position(|l| *l == view.letters[a]);
                    let own = self.world.shapes.shape(input)? == view.shape;
                    let from = if own { reaching(input, &to) } else { Vec::new() };
                    (!from.is_empty()).then_some((input, from))
                })?;
                Some(vec![operand])
            }
            Action::Contract(_) | Action::ShapeOnly | Action::Opaque(_) => None,
        }
    }

    /// Whether a node that makes numbers of integers takes 0 for zero; so does every other node.
    fn takes_0_for_zero(&self, n: NodeId) -> bool {
        let node = self.model.node(n);
        let known = |v| self.model.constant(v).and_then(|t| Tensor::from_proto(t).ok()?.to_f64());
        node.op_type() != "DequantizeLinear"
            || node.input(2).is_none_or(|v| known(v).is_some_and(|z| z.iter().all(|&z| z == 0.0)))
    }
}
