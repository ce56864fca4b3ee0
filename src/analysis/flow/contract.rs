//! Sums of products: where channels begin and end.

use super::super::balance::Balance;
use super::super::coupling::{Blocked, Source};
use super::super::field::Field;
use super::super::label::Origin;
use super::Flow;
use super::elementwise::Aligned;
use crate::ir::{NodeId, ValueId};
use crate::ops::step::{Step, shape_after};
use crate::ops::{Contraction, Effect, Groups, View};

impl Flow<'_> {
    pub(super) fn contract(&mut self, n: NodeId, effect: &Effect, c: &Contraction) {
        self.decide(n, c);
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
        let groups = self.own_groups(n, c);
        let mut seen: Vec<Vec<Field>> = Vec::new();
        for (k, view) in c.operands.iter().enumerate() {
            let Some(v) = self.model.node(n).input(view.input) else { return self.opaque(n, "an operand is left out") };
            let Some(own) = self.world.shapes.shape(v).map(<[usize]>::to_vec) else { return };
            let viewed = self.grouped_view(n, view, v, &own, groups.filter(|g| g.weight == k));
            self.note_weight(n, c, view, &viewed);
            let lost: Vec<usize> = (0..view.letters.len()).filter(|&a| self.is_window(c, view, a)).collect();
            let fold: Vec<usize> = (0..view.letters.len()).filter(|&a| c.fold.contains(&view.letters[a])).collect();
            let mut fields = Vec::new();
            for f in viewed {
                let Some(f) = self.fold(f, &lost, &view.shape, mixed) else { continue };
                let f = match f.axes.len() > 1 && groups.is_none() && !self.rows_choose(&f, view, &fold) {
                    true => self.fold_keeping_one(f, &fold, &view.shape, folded),
                    false => f,
                };
                fields.push(f);
            }
            for f in fields.iter().filter(|f| f.axes.len() > 1) {
                match groups {
                    Some(_) => self.balance(n, f, &view.shape),
                    None => self.world.views.push((view.shape.clone(), f.clone(), n)),
                }
            }
            seen.push(fields);
        }
        // A letter that another operand shares without labels cannot be cut. Where rows along it choose for themselves
        // nothing of it is: each of them keeps some.
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
            for f in fields {
                let chooses = groups.is_some() && f.axes.len() > 1 || self.is_ragged(&f, &view.shape);
                let keeps_rows = chooses && f.axes.last().is_some_and(|last| !lost.contains(last));
                // Should what follows tie a row together, the whole of it would go, and with it what cannot be cut.
                if keeps_rows && groups.is_none() && f.axes.iter().any(|a| lost.contains(a)) {
                    self.balance(n, &f, &view.shape);
                }
                let f = if keeps_rows { Some(f) } else { self.fold(f, &lost, &view.shape, bare) };
                seen[k].extend(f);
            }
        }
        self.join_letters(c, &seen, groups.is_some(), summed);
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
            match groups {
                Some(_) => self.balance(n, f, &c.output.shape),
                None => self.world.views.push((c.output.shape.clone(), f.clone(), n)),
            }
        }
        let shape = effect.outputs[0].shape.clone().unwrap_or_default();
        let back = [Step::Reshape(shape.clone())];
        debug_assert_eq!(shape_after(&back, &c.output.shape), shape);
        let mut fields: Vec<Field> = out.into_iter().map(|f| self.steps(n, f, &back, &c.output.shape)).collect();
        for operand in &c.also {
            let Some(v) = self.model.node(n).input(operand.input) else { continue };
            let own = operand.seen(self.world.shapes.shape(v).unwrap_or(&[]));
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

    /// The groups of a grouped convolution, if they can choose channels of their own: its weight is stored as it is
    /// read, and nothing else reads it; and what is known of the input's channels does not tie those of a group.
    fn own_groups(&mut self, n: NodeId, c: &Contraction) -> Option<Groups> {
        let groups = c.groups.filter(|_| self.coupling.rows_choose)?;
        let weight = self.model.node(n).input(c.operands.get(groups.weight)?.input)?;
        let alone = self.model.constant(weight).is_some() && self.uses.readers(weight).len() == 1;
        let rank = |view: &View, l: char| view.letters.iter().position(|k| *k == l);
        let free = c.operands.iter().enumerate().filter(|(k, _)| *k != groups.weight).all(|(_, view)| {
            let Some(v) = self.model.node(n).input(view.input) else { return false };
            let Some(own) = self.world.shapes.shape(v).map(<[usize]>::to_vec) else { return false };
            let (Some(g), Some(within)) = (rank(view, groups.group), rank(view, 'c')) else { return false };
            let fields = self.grouped_view(n, view, v, &own, None);
            fields.iter().all(|f| f.varies(g) == f.varies(within))
        });
        (alone && free).then_some(groups)
    }

    /// The labels of an operand under the shape in which the contraction sees it. Of a weight whose groups choose for
    /// themselves the shared axis has labels for each block of rows.
    fn grouped_view(
        &mut self,
        n: NodeId,
        view: &View,
        v: ValueId,
        own: &[usize],
        groups: Option<Groups>,
    ) -> Vec<Field> {
        let mut out: Vec<Field> = Vec::new();
        for field in self.fields(v) {
            if groups.is_some_and(|g| field.axes == [g.axis]) {
                continue;
            }
            out.push(self.steps(n, field, &[Step::Reshape(view.shape.clone())], own));
        }
        if let Some(Groups { count: blocks, axis, letter, group, .. }) = groups {
            let at =
                |l: char| view.letters.iter().position(|k| *k == l).expect("the view has the letters of its groups");
            let atoms = self.coupling.atoms.of(Origin::Constant { value: v, axis, blocks }, blocks * own[axis]);
            out.push(Field { axes: vec![at(group), at(letter)], atoms: atoms.collect() });
            self.coupling.blocked.insert(v, Blocked { axis, blocks });
        }
        out
    }

    /// Whether the rows along a summed axis keep positions of their own: heads of an attention, each of its width.
    fn rows_choose(&self, f: &Field, view: &View, summed: &[usize]) -> bool {
        self.is_ragged(f, &view.shape) && f.axes.last().is_some_and(|last| summed.contains(last))
    }

    /// Demands that as many positions stay in each row of a field along its last axis.
    pub(super) fn balance(&mut self, n: NodeId, f: &Field, shape: &[usize]) {
        let text = format!("{} needs equally many channels in every group", self.model.node(n).op_type());
        self.coupling.balances.push(Balance { node: Some(n), text, rows: f.rows(shape) });
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
    pub(super) fn join_letters(&mut self, c: &Contraction, seen: &[Vec<Field>], own_groups: bool, reason: u32) {
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
                        // Channels in and out of the same groups are no partners where each group chooses.
                        if !own_groups || a.axes == b.axes {
                            self.relate(&a, &b, &shape, reason);
                        }
                    }
                }
            }
        }
    }

    /// Records what a constant operand is to a contraction: filters, and positions that are read.
    fn note_weight(&mut self, n: NodeId, c: &Contraction, view: &View, viewed: &[Field]) {
        let constant = |o: &View| self.model.node(n).input(o.input).is_none_or(|v| self.coupling.constant[v.index()]);
        if !constant(view) || c.operands.iter().all(constant) {
            return;
        }
        let shared = |l: char| c.operands.iter().filter(|o| o.letters.contains(&l)).count() > 1;
        let in_output = |a: usize| c.output.letters.contains(&view.letters[a]);
        for f in viewed {
            if self.pin_generated(n, f) {
                continue;
            }
            let Some((Origin::Constant { value, axis, .. }, _)) =
                f.atoms.first().and_then(|&a| self.coupling.atoms.origin(a))
            else {
                continue;
            };
            let free = f.axes.iter().any(|&a| !shared(view.letters[a]) && in_output(a));
            let summed = f.axes.iter().any(|&a| shared(view.letters[a]) && !in_output(a));
            if summed {
                self.note_read(n, view.input, f);
            } else if free && c.kind != crate::ops::Kind::Recurrent {
                // A depthwise convolution passes its input's channels on; its filters are not a choice of their own.
                let passes_on = view.letters.iter().zip(&view.shape).any(|(&l, &d)| l == 'c' && d == 1)
                    && view.letters.iter().zip(&view.shape).any(|(&l, &d)| l == 'g' && d > 1);
                if !passes_on {
                    let axes: Vec<usize> = (0..view.letters.len())
                        .filter(|&a| in_output(a) && (f.varies(a) || view.letters[a] == 'g'))
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
}
