//! Sums of products: where channels begin and end.

use super::super::coupling::{Read, Source};
use super::super::field::Field;
use super::super::label::Origin;
use super::Flow;
use super::elementwise::Aligned;
use super::stored::ZeroLost;
use crate::ir::{NodeId, ValueId};
use crate::onnx::tensor::Tensor;
use crate::ops::step::{Step, shape_after};
use crate::ops::{Contraction, Effect, View};

impl Flow<'_> {
    pub(super) fn contract(&mut self, n: NodeId, effect: &Effect, c: &Contraction) {
        let op = self.model.node(n).op_type();
        let folded =
            self.coupling.atoms.reason(Some(n), "groups", format!("{op} needs equally many channels in every group"));
        let mixed = self.coupling.atoms.reason(Some(n), "window", format!("{op} reads these positions as a window"));
        let bare = self.coupling.atoms.reason(
            Some(n),
            "fixed-operand",
            format!("{op} sums over channels that cannot be removed on the other side"),
        );
        let summed = self.coupling.atoms.reason(Some(n), "contraction", format!("{op} sums over these channels"));
        let mut seen: Vec<Vec<Field>> = Vec::new();
        for view in &c.operands {
            let Some(v) = self.model.node(n).input(view.input) else { return self.opaque(n, "an operand is left out") };
            let Some(own) = self.world.shapes.shape(v).map(<[usize]>::to_vec) else { return };
            self.note_weight(n, c, view, v, &own);
            let mut fields = Vec::new();
            for field in self.fields(v) {
                let f = self.steps(n, field, &[Step::Reshape(view.shape.clone())], &own);
                let lost: Vec<usize> = (0..view.letters.len()).filter(|&a| self.is_window(c, view, a)).collect();
                let Some(f) = self.fold(f, &lost, &view.shape, mixed) else { continue };
                let fold: Vec<usize> = (0..view.letters.len()).filter(|&a| c.fold.contains(&view.letters[a])).collect();
                let f = if f.axes.len() > 1 { self.fold_keeping_one(f, &fold, &view.shape, folded) } else { f };
                fields.push(f);
            }
            for f in fields.iter().filter(|f| f.axes.len() > 1) {
                self.world.views.push((view.shape.clone(), f.clone(), n));
            }
            seen.push(fields);
        }
        // A letter that another operand shares without labels cannot be cut.
        for (k, view) in c.operands.iter().enumerate() {
            let lost: Vec<usize> = (0..view.letters.len())
                .filter(|&a| {
                    c.operands.iter().zip(&seen).any(|(other, fields)| {
                        let at = other.letters.iter().position(|l| *l == view.letters[a]);
                        at.is_some_and(|at| other.shape[at] > 1 && !fields.iter().any(|f| f.varies(at)))
                    })
                })
                .collect();
            let fields = std::mem::take(&mut seen[k]);
            seen[k] = fields.into_iter().filter_map(|f| self.fold(f, &lost, &view.shape, bare)).collect();
        }
        self.join_letters(c, &seen, summed);
        self.mask_products(n, c, &seen);

        let mut out: Vec<Field> = Vec::new();
        for (view, fields) in c.operands.iter().zip(&seen) {
            for f in fields {
                let axes: Option<Vec<usize>> =
                    f.axes.iter().map(|&a| c.output.letters.iter().position(|l| *l == view.letters[a])).collect();
                let Some(axes) = axes else { continue };
                if axes.is_sorted() && !out.iter().any(|g| g.axes.iter().any(|a| axes.contains(a))) {
                    out.push(Field { axes, atoms: f.atoms.clone() });
                }
            }
        }
        for f in out.iter().filter(|f| f.axes.len() > 1) {
            self.world.views.push((c.output.shape.clone(), f.clone(), n));
        }
        let shape = effect.outputs[0].shape.clone().unwrap_or_default();
        let back = [Step::Reshape(shape.clone())];
        debug_assert_eq!(shape_after(&back, &c.output.shape), shape);
        let mut fields: Vec<Field> = out.into_iter().map(|f| self.steps(n, f, &back, &c.output.shape)).collect();
        for operand in &c.also {
            let Some(v) = self.model.node(n).input(operand.input) else { continue };
            let own = self.world.shapes.shape(v).unwrap_or(&[]).to_vec();
            let spans = shape.iter().map(|&d| d > 1).collect();
            let mut own_spans = vec![false; shape.len()];
            for (a, to) in operand.axes.iter().enumerate() {
                to.iter().for_each(|&to| own_spans[to] = own[a] > 1);
            }
            let added = self.elementwise(n, &shape, std::slice::from_ref(operand));
            let both = vec![Aligned { fields, spans }, Aligned { fields: added, spans: own_spans }];
            fields = self.combine(n, &shape, both);
        }
        self.set(self.model.node(n).output(0), fields);
    }

    /// Whether an axis is read as a window: its letter is in no other operand and not in the output.
    pub(super) fn is_window(&self, c: &Contraction, view: &View, axis: usize) -> bool {
        let letter = view.letters[axis];
        let holders = c.operands.iter().filter(|o| o.letters.contains(&letter)).count();
        holders == 1 && !c.output.letters.contains(&letter)
    }

    pub(super) fn fold_keeping_one(&mut self, mut f: Field, fold: &[usize], shape: &[usize], reason: u32) -> Field {
        for &axis in fold {
            if f.axes.len() > 1 && f.varies(axis) {
                f = self.fold(f, &[axis], shape, reason).expect("it varies along another axis");
            }
        }
        f
    }

    /// Joins the labels that different operands have along the same letter.
    pub(super) fn join_letters(&mut self, c: &Contraction, seen: &[Vec<Field>], reason: u32) {
        // A common numbering of letters: fields of two operands lie over the same axes then.
        let mut letters: Vec<(char, usize)> = Vec::new();
        for view in &c.operands {
            for (&l, &d) in view.letters.iter().zip(&view.shape) {
                if !letters.iter().any(|(k, _)| *k == l) {
                    letters.push((l, d));
                }
            }
        }
        let shape: Vec<usize> = letters.iter().map(|l| l.1).collect();
        let place = |view: &View, f: &Field| -> Field {
            let at = |a: usize| letters.iter().position(|(k, _)| *k == view.letters[a]).expect("numbered above");
            let mut order: Vec<usize> = (0..f.axes.len()).collect();
            order.sort_by_key(|&i| at(f.axes[i]));
            let atoms = crate::ops::array::permute(&f.atoms, &f.extents(&view.shape), &order);
            Field { axes: order.iter().map(|&i| at(f.axes[i])).collect(), atoms }
        };
        for i in 0..seen.len() {
            for j in i + 1..seen.len() {
                for f in &seen[i] {
                    for g in &seen[j] {
                        let (a, b) = (place(&c.operands[i], f), place(&c.operands[j], g));
                        if a.axes.iter().any(|x| b.varies(*x)) {
                            self.join(&a, &b, &shape, reason);
                        }
                    }
                }
            }
        }
    }

    /// Records what a constant operand is to a contraction: filters, and positions that are read.
    pub(super) fn note_weight(&mut self, n: NodeId, c: &Contraction, view: &View, v: ValueId, own: &[usize]) {
        if !self.coupling.constant[v.index()]
            || c.operands
                .iter()
                .all(|o| self.model.node(n).input(o.input).is_none_or(|v| self.coupling.constant[v.index()]))
        {
            return;
        }
        for field in self.fields(v) {
            let axes = field.axes.clone();
            let f = self.steps(n, field, &[Step::Reshape(view.shape.clone())], own);
            let Some((Origin::Constant { value, axis }, _)) =
                f.atoms.first().and_then(|&a| self.coupling.atoms.origin(a))
            else {
                continue;
            };
            let shared = |l: char| c.operands.iter().filter(|o| o.letters.contains(&l)).count() > 1;
            let free = f.axes.iter().any(|&a| !shared(view.letters[a]) && c.output.letters.contains(&view.letters[a]));
            let summed =
                f.axes.iter().any(|&a| shared(view.letters[a]) && !c.output.letters.contains(&view.letters[a]));
            if summed {
                self.note_reads(n, v, &axes, &f);
            } else if free && c.kind != crate::ops::Kind::Recurrent {
                // A depthwise convolution passes its input's channels on; its filters are not a choice of their own.
                let passes_on = view.letters.iter().zip(&view.shape).any(|(&l, &d)| l == 'c' && d == 1)
                    && view.letters.iter().zip(&view.shape).any(|(&l, &d)| l == 'g' && d > 1);
                if !passes_on {
                    let axes: Vec<usize> = (0..view.letters.len())
                        .filter(|&a| {
                            c.output.letters.contains(&view.letters[a]) && (f.varies(a) || view.letters[a] == 'g')
                        })
                        .collect();
                    let source = || {
                        let atoms = f.spread(&axes, &view.shape);
                        Source { node: n, input: view.input, kind: c.kind, value, axis, atoms }
                    };
                    self.coupling.add_source(n, view.input, source);
                }
            }
        }
    }

    /// Records which stored positions become zero so that a contraction stops reading channels of its weight `v`,
    /// whose labels along `axes` are `f`; without such positions they stay.
    fn note_reads(&mut self, n: NodeId, v: ValueId, axes: &[usize], f: &Field) {
        let reason = match self.stored_along(v, axes) {
            Ok(stored) if stored.iter().all(|&(value, _)| self.zero_is_zero(value)) => {
                for (value, axis) in stored {
                    self.coupling.add_read(Read { node: n, value, axis });
                }
                return;
            }
            Ok(_) | Err(ZeroLost::ZeroPoint) => {
                let text = "the zero point of the weight is not 0, so zeroed weights would not be zero";
                self.coupling.atoms.reason(Some(n), "zero-point", text)
            }
            Err(ZeroLost::At(at)) => {
                let op = at.map_or("nothing", |at| self.model.node(at).op_type());
                let text = format!("the weight is computed by {op}, through which zeros are not kept");
                self.coupling.atoms.reason(at.or(Some(n)), "zero-lost", text)
            }
        };
        self.pin(f, reason);
    }

    /// Whether a stored zero stands for the number zero: not so for integers with another zero point.
    fn zero_is_zero(&self, weight: ValueId) -> bool {
        self.uses.readers(weight).iter().all(|&(n, i)| {
            let node = self.model.node(n);
            let zero_point = match (node.op_type(), i) {
                ("DequantizeLinear", 0) => node.input(2),
                ("QLinearConv" | "QGemm", 3) => node.input(5),
                _ => None,
            };
            let known = |v| self.model.constant(v).and_then(|t| Tensor::from_proto(t).ok()?.to_f64());
            zero_point.is_none_or(|v| known(v).is_some_and(|z| z.iter().all(|&z| z == 0.0)))
        })
    }
}
