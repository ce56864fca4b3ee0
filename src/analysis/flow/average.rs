//! Statistics over channels, where they may become those of the channels that stay.
//!
//! By default a mean over channels pins them: without some of them it is another number. Where the caller allows it
//! ([`Inexact::Norm`]), labels pass an operand that is only averaged (the row's `average`, the operand's `averaged`), and
//! the result is compared with an original whose statistic is of the remaining channels too. Guarantees: every statistic
//! of one node is of equally many positions, before and after. Refuses, that is pins as ever: statistics inside of
//! bodies, of constants, and of labels along several axes that rows do not choose from.

use super::super::balance::Balance;
use super::super::coupling::Inexact;
use super::super::field::Field;
use super::Flow;
use crate::ir::{NodeId, ValueId};
use crate::ops::{Average, Operand};

/// From this version of the operator set on, operands broadcast as numpy's do: what states the original anew counts on it.
const BROADCASTING: i64 = 7;

impl Flow<'_> {
    /// Whether labels may pass the statistics that a node takes of its first operand.
    pub(super) fn averages(&mut self, n: NodeId, operands: &[Operand]) -> bool {
        let node = self.model.node(n);
        if self.coupling.allowed != Inexact::Norm || node.graph() != self.model.main() {
            return false;
        }
        let average = crate::ops::lookup(self.model, node).map_or(Average::None, |(row, _)| row.average);
        let broadcasts = self.model.opset("").is_some_and(|version| version >= BROADCASTING);
        let Some(first) = operands.first().filter(|_| average != Average::None && broadcasts) else { return false };
        let Some(v) = node.input(first.input).filter(|v| !self.coupling.constant[v.index()]) else { return false };
        // Of damaged shapes nothing can be said.
        let out = node.output(0).and_then(|v| self.world.shapes.shape(v)).unwrap_or(&[]);
        if !operands.iter().all(|o| node.input(o.input).is_none_or(|v| self.lies_in(o, v, out))) {
            return false;
        }
        // A statistic that is itself an output, beside the result, has readers of its own.
        let shape = |v| self.world.shapes.shape(v);
        let mut others = node.outputs().iter().skip(1).flatten().filter(|&&o| !self.uses.is_unused(o));
        if others.any(|&o| shape(o) != node.output(0).and_then(shape)) {
            return false;
        }
        let mixes = |f: &&Field| f.axes.iter().any(|&a| first.axes.get(a) == Some(&None));
        first.steps.is_empty() && self.fields(v).iter().filter(mixes).count() <= 1
    }

    /// Whether an operand, its averaged axes included, has the extents of the result or none along the axes of that.
    fn lies_in(&self, operand: &Operand, v: ValueId, out: &[usize]) -> bool {
        let Some(own) = self.world.shapes.shape(v).map(|s| operand.seen(s)) else { return false };
        let along = |a: usize| operand.axes[a].or(operand.averaged.as_ref().and_then(|averaged| averaged.axes[a]));
        let fits = |a: usize| along(a).is_none_or(|to| own[a] == 1 || out.get(to) == Some(&own[a]));
        own.len() == operand.axes.len() && (0..own.len()).all(fits)
    }

    /// Whether a field of an operand passes its averaged axes as it is. `shape` is the operand's.
    pub(super) fn passes_average(&mut self, n: NodeId, f: &Field, operand: &Operand, shape: &[usize]) -> bool {
        let Some(averaged) = &operand.averaged else { return false };
        let mixed = |a: usize| operand.axes[a].is_none();
        let last = f.axes.last().copied().filter(|&a| mixed(a));
        match (&f.axes[..], averaged.blocks) {
            ([_], 1) => last.is_some(),
            // Each block has its statistics, which have to be of equally many.
            ([axis], blocks) => {
                let first = (0..shape.len()).find(|&a| mixed(a));
                if last.is_none() || first != Some(*axis) || !shape[*axis].is_multiple_of(blocks) {
                    return false;
                }
                let node = self.model.node(n).op_type();
                let rows = f.atoms.chunks(shape[*axis] / blocks).map(<[_]>::to_vec).collect();
                let text = format!("{node} needs equally many channels in every group");
                self.coupling.balances.push(Balance { node: Some(n), text, rows });
                true
            }
            (_, 1) if last.is_some() && self.is_ragged(f, shape) => {
                self.balance(n, f, shape);
                true
            }
            _ => false,
        }
    }

    /// Whether each row of a field keeps some of its positions beside an operand that has something for every row: what
    /// is averaged within rows. Nothing of the kind comes about by default.
    pub(super) fn keeps_rows(&mut self, n: NodeId, f: &Field, bare: &[usize], shape: &[usize]) -> bool {
        let rows = self.coupling.allowed == Inexact::Norm
            && self.is_ragged(f, shape)
            && f.axes.iter().any(|a| bare.contains(a))
            && f.axes.last().is_some_and(|last| !bare.contains(last));
        if rows {
            self.balance(n, f, shape);
        }
        rows
    }
}

/// A field as it lies in the result; `None` where the axis that tells its positions apart is averaged away.
pub(super) fn averaged_field(mut f: Field, operand: &Operand) -> Option<Field> {
    let averaged = operand.averaged.as_ref()?;
    f.axes = f.axes.iter().map(|&a| operand.axes[a].or(averaged.axes[a])).collect::<Option<_>>()?;
    Some(f)
}
