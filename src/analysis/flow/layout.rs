//! Operators that rearrange elements.

use super::super::field::Field;
use super::super::label::{Atom, Origin, PINNED};
use super::elementwise::Aligned;
use super::{Flow, MOST_LABELS, positions};
use crate::ir::{NodeId, ValueId};
use crate::ops::Effect;
use crate::ops::step::Step;

impl Flow<'_> {
    pub(super) fn layout(&mut self, n: NodeId, input: usize, outputs: &[Vec<Step>]) {
        let Some(v) = self.model.node(n).input(input) else { return };
        let Some(shape) = self.world.shapes.shape(v).map(<[usize]>::to_vec) else { return };
        let fields = self.fields(v);
        for (k, steps) in outputs.iter().enumerate() {
            let moved: Vec<Field> = fields.iter().map(|f| self.steps(n, f.clone(), steps, &shape)).collect();
            for single in moved.iter().filter(|f| f.axes.is_empty()) {
                let text = "a position is picked by itself: nothing would be left without it";
                let reason = self.coupling.atoms.reason(Some(n), "single-position", text);
                self.pin(single, reason);
            }
            let out = self.model.node(n).output(k);
            let moved = self.separate(n, out, moved);
            self.set(out, moved);
        }
    }

    pub(super) fn steps(&mut self, n: NodeId, mut field: Field, steps: &[Step], shape: &[usize]) -> Field {
        let mut shape = shape.to_vec();
        for step in steps {
            if field.size_after(step, &shape) > MOST_LABELS {
                return self.give_up(n, &field);
            }
            let atoms = &mut self.coupling.atoms;
            let mut padding = |axis: usize, before: usize, after: usize| {
                atoms.of(Origin::Padding { node: n, axis, before, after }, before + after).collect::<Vec<Atom>>()
            };
            field = field.step(step, &shape, &mut padding);
            shape = step.shape(&shape);
        }
        field
    }

    /// Pins a field whose labels would be too many to follow; what is left of it is fixed.
    fn give_up(&mut self, n: NodeId, field: &Field) -> Field {
        let text = "the channels are spread over too many positions to be followed";
        let reason = self.coupling.atoms.reason(Some(n), "too-large", text);
        self.pin(field, reason);
        Field { axes: Vec::new(), atoms: vec![PINNED] }
    }

    pub(super) fn concat(&mut self, n: NodeId, effect: &Effect, axis: usize, inputs: &[usize]) {
        let inputs: Vec<ValueId> = inputs.iter().filter_map(|&i| self.model.node(n).input(i)).collect();
        let shape = effect.outputs[0].shape.clone().unwrap_or_default();
        let mut extents = Vec::new();
        let mut parts: Vec<Vec<Field>> = Vec::new();
        for &v in &inputs {
            let Some(own) = self.world.shapes.shape(v).map(<[usize]>::to_vec) else { return };
            extents.push(own);
            parts.push(self.fields(v));
        }
        // Along the other axes the parts lie side by side as if they were one elementwise operand each.
        let mut along: Vec<Option<Field>> = Vec::new();
        let mut side = Vec::new();
        for (fields, own) in parts.into_iter().zip(&extents) {
            let (mut with, without): (Vec<Field>, Vec<Field>) = fields.into_iter().partition(|f| f.varies(axis));
            along.push(with.pop());
            let spans = (0..shape.len())
                .map(|a| {
                    a != axis && own[a] > 1 && !along.last().is_some_and(|f| f.as_ref().is_some_and(|f| f.varies(a)))
                })
                .collect();
            side.push(Aligned { fields: without, spans });
        }
        let mut out = self.combine(n, &shape, side);
        let mut axes: Vec<usize> = along.iter().flatten().flat_map(|f| f.axes.clone()).collect();
        axes.sort_unstable();
        axes.dedup();
        if positions(&axes, &shape) > MOST_LABELS {
            for field in along.iter().flatten() {
                self.give_up(n, field);
            }
        } else if !axes.is_empty() {
            let spread: Vec<(Vec<Atom>, usize)> = along
                .iter()
                .zip(&extents)
                .map(|(f, own)| match f {
                    Some(f) => (f.spread(&axes, own), own[axis]),
                    None => (vec![PINNED; axes.iter().map(|&a| own[a]).product()], own[axis]),
                })
                .collect();
            let at = axes.iter().position(|&a| a == axis).expect("it varies along the axis");
            let outer = axes[..at].iter().map(|&a| shape[a]).product();
            let run = axes[at + 1..].iter().map(|&a| shape[a]).product();
            let blocks: Vec<(&[Atom], usize)> = spread.iter().map(|(atoms, extent)| (&atoms[..], *extent)).collect();
            out.retain(|f| !f.axes.iter().any(|a| axes.contains(a)));
            out.push(Field { atoms: crate::ops::array::concat(&blocks, outer, run), axes });
        }
        self.set(self.model.node(n).output(0), out);
    }
}
