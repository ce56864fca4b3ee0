//! Operators that work place by place.

use super::super::field::Field;
use super::average::averaged_field;
use super::{Flow, MOST_LABELS, positions};
use crate::ir::NodeId;
use crate::ops::{Effect, Operand, Places};

/// The fields of one operand as they lie in the output.
pub(super) struct Aligned {
    pub fields: Vec<Field>,
    /// Axes of the output along which the operand has more than one position.
    pub spans: Vec<bool>,
}

impl Flow<'_> {
    pub(super) fn map(&mut self, n: NodeId, effect: &Effect, operands: &[Operand]) {
        let shape = effect.outputs[0].shape.clone().unwrap_or_default();
        let fields = self.elementwise(n, &shape, operands);
        let all = self.places(n) == Places::All;
        for (i, &v) in self.model.node(n).outputs().iter().enumerate() {
            // Statistics beside the result have no positions along the axes that they are over.
            let own = effect.outputs.get(i).and_then(|o| o.shape.as_deref()).unwrap_or(&shape);
            let lies = |f: &&Field| f.axes.iter().all(|&a| own.get(a) == shape.get(a));
            self.set(v, if i == 0 || all { fields.iter().filter(lies).cloned().collect() } else { vec![] });
        }
    }

    pub(super) fn elementwise(&mut self, n: NodeId, shape: &[usize], operands: &[Operand]) -> Vec<Field> {
        let mut aligned = Vec::new();
        let averages = self.averages(n, operands);
        for operand in operands {
            let Some(v) = self.model.node(n).input(operand.input) else { continue };
            let Some(stored) = self.world.shapes.shape(v).map(<[usize]>::to_vec) else { continue };
            let own = operand.seen(&stored);
            let mixed: Vec<usize> = (0..own.len()).filter(|&a| operand.axes[a].is_none()).collect();
            let reason = self.coupling.atoms.reason(
                Some(n),
                "mixed-axis",
                format!("{} mixes the elements along axes {mixed:?}", self.model.node(n).op_type()),
            );
            let mut fields = Vec::new();
            for field in self.fields(v) {
                let field = self.steps(n, field, &operand.steps, &stored);
                if averages && self.passes_average(n, &field, operand, &own) {
                    fields.extend(averaged_field(field, operand));
                    continue;
                }
                if let Some(mut f) = self.fold(field, &mixed, &own, reason) {
                    f.axes = f.axes.iter().filter_map(|&a| operand.axes[a]).collect();
                    fields.push(f);
                }
            }
            let mut spans = vec![false; shape.len()];
            for (a, to) in operand.axes.iter().enumerate() {
                let averaged = operand.averaged.as_ref().filter(|_| averages).and_then(|averaged| averaged.axes[a]);
                if let Some(to) = to.or(averaged) {
                    spans[to] = own[a] > 1;
                }
            }
            aligned.push(Aligned { fields, spans });
        }
        self.combine(n, shape, aligned)
    }

    /// Takes away a field's freedom along some axes: where it varies along others too, the positions along these
    /// axes go together; where it does not, it is pinned and `None`.
    pub(super) fn fold(&mut self, mut field: Field, axes: &[usize], shape: &[usize], reason: u32) -> Option<Field> {
        for &axis in axes {
            if !field.varies(axis) {
                continue;
            }
            if field.axes.len() == 1 {
                self.pin(&field, reason);
                return None;
            }
            let slices = field.slices(axis, shape);
            for pair in slices.windows(2) {
                for (&x, &y) in pair[0].iter().zip(&pair[1]) {
                    self.coupling.atoms.join(x, y, reason);
                }
            }
            field.axes.retain(|&a| a != axis);
            field.atoms = slices.into_iter().next().unwrap_or_default();
        }
        Some(field)
    }

    /// The fields of an elementwise result: labels at the same place are joined; a field along an axis that another
    /// operand also has, but without labels, cannot be cut there.
    pub(super) fn combine(&mut self, n: NodeId, shape: &[usize], mut operands: Vec<Aligned>) -> Vec<Field> {
        let fixed = self.coupling.atoms.reason(
            Some(n),
            "fixed-operand",
            "another operand has positions along this axis that cannot be removed",
        );
        for k in 0..operands.len() {
            let bare: Vec<usize> = (0..shape.len())
                .filter(|&a| operands.iter().any(|o| o.spans[a] && !o.fields.iter().any(|f| f.varies(a))))
                .collect();
            let fields = std::mem::take(&mut operands[k].fields);
            let fold =
                |f| if self.keeps_rows(n, &f, &bare, shape) { Some(f) } else { self.fold(f, &bare, shape, fixed) };
            operands[k].fields = fields.into_iter().filter_map(fold).collect();
        }
        let together = self.coupling.atoms.reason(
            Some(n),
            "elementwise",
            format!("{} takes elements at the same place", self.model.node(n).op_type()),
        );
        let mut out: Vec<Field> = Vec::new();
        for field in operands.into_iter().flat_map(|o| o.fields) {
            let overlapping: Vec<Field> =
                out.iter().filter(|g| g.axes.iter().any(|&a| field.varies(a))).cloned().collect();
            for other in &overlapping {
                self.relate(other, &field, shape, together);
            }
            // Of labels of whole rows and labels within them, those within tell more.
            out.retain(|g| !self.chooses_within(&field, g, shape));
            if overlapping.is_empty() || overlapping.iter().all(|g| self.chooses_within(&field, g, shape)) {
                out.push(field);
            }
        }
        out
    }

    /// Whether the rows along the last axis of a field keep positions of their own.
    pub(super) fn is_ragged(&self, f: &Field, shape: &[usize]) -> bool {
        self.coupling.rows_choose && f.is_ragged(shape)
    }

    /// Whether `fine` has labels within rows, each of which keeps some, and `coarse` has labels of whole rows only.
    fn chooses_within(&self, fine: &Field, coarse: &Field, shape: &[usize]) -> bool {
        self.is_ragged(fine, shape)
            && coarse.axes.len() < fine.axes.len()
            && coarse.axes.iter().all(|&a| fine.varies(a) && fine.axes.last() != Some(&a))
    }

    /// What two fields over the same axes are to each other: labels at the same place go together. Labels of whole rows
    /// stay where those within the rows have the choice.
    pub(super) fn relate(&mut self, a: &Field, b: &Field, shape: &[usize], reason: u32) {
        for (fine, coarse) in [(a, b), (b, a)] {
            if self.chooses_within(fine, coarse, shape) {
                let node = self.coupling.atoms.reason_at(reason).node;
                let text = "its partner keeps some channels of every row, so no row can go";
                let rows = self.coupling.atoms.reason(node, "fixed-operand", text);
                return self.pin(coarse, rows);
            }
        }
        if a.axes.iter().any(|&x| b.varies(x)) {
            self.join(a, b, shape, reason);
        }
    }

    /// Joins two fields place by place, each repeated along the axes that only the other has.
    pub(super) fn join(&mut self, a: &Field, b: &Field, shape: &[usize], reason: u32) {
        let mut axes: Vec<usize> = a.axes.iter().chain(&b.axes).copied().collect();
        axes.sort_unstable();
        axes.dedup();
        if positions(&axes, shape) > MOST_LABELS {
            self.pin(a, reason);
            return self.pin(b, reason);
        }
        for (x, y) in a.spread(&axes, shape).into_iter().zip(b.spread(&axes, shape)) {
            self.coupling.atoms.join(x, y, reason);
        }
    }
}
