//! Label fields from inputs to outputs, node by node, under one assignment of sizes.

use super::coupling::{Coupling, World};
use super::field::Field;
use super::infer::Shapes;
use super::label::{Atom, Origin, PINNED};
use crate::ir::{Def, Model, NodeId, Uses, ValueId};
use crate::onnx::tensor::DataType;
use crate::ops::step::{Step, shape_after};
use crate::ops::{Action, Contraction, Effect, Operand, View};

pub(super) struct Flow<'a> {
    pub(super) model: &'a Model,
    uses: &'a Uses,
    pub(super) coupling: &'a mut Coupling,
    pub(super) world: World,
}

/// The fields of one operand as they lie in the output.
struct Aligned {
    fields: Vec<Field>,
    /// Axes of the output along which the operand has more than one position.
    spans: Vec<bool>,
}

impl<'a> Flow<'a> {
    pub fn run(model: &'a Model, uses: &'a Uses, shapes: Shapes, coupling: &'a mut Coupling) -> World {
        let world = World { shapes, fields: vec![Vec::new(); model.value_count()], views: Vec::new() };
        let mut flow = Flow { model, uses, coupling, world };
        for n in model.walk() {
            flow.node(n);
        }
        for g in model.live_graphs() {
            let text = if g == model.main() { "an output of the model" } else { "an output of a nested graph" };
            for port in model.graph(g).outputs() {
                let name = model.value(port.value).name();
                let maker = flow.maker(port.value);
                let reason = flow.coupling.atoms.reason(maker, "graph-output", format!("'{name}' is {text}"));
                flow.pin_value(port.value, reason);
            }
        }
        flow.world
    }

    pub(super) fn maker(&self, value: ValueId) -> Option<NodeId> {
        match self.model.value(value).def() {
            Def::Node(n, _) => Some(n),
            _ => None,
        }
    }

    fn node(&mut self, n: NodeId) {
        // Taken out for the time of the visit: the rules borrow it while the fields change.
        let Some(effect) = self.world.shapes.effects[n.index()].take() else { return };
        match &effect {
            Ok(e) => self.effect(n, e),
            Err(refusal) => self.opaque(n, &refusal.to_string()),
        }
        self.world.shapes.effects[n.index()] = Some(effect);
    }

    fn effect(&mut self, n: NodeId, effect: &Effect) {
        let node = self.model.node(n);
        let rank_known = effect.outputs.iter().all(|f| f.shape.as_ref().is_some_and(|s| !s.contains(&0)));
        if !rank_known {
            return self.opaque(n, "a shape is not known, or a tensor is empty");
        }
        let second_output = node.outputs().iter().skip(1).flatten().any(|&v| !self.uses.is_unused(v));
        match &effect.action {
            Action::ShapeOnly => return,
            Action::Opaque(why) => self.opaque(n, why),
            Action::Map(_) if second_output && node.op_type() != "Dropout" => {
                self.opaque(n, "its second output is used, which tells of positions over all channels");
            }
            Action::Map(operands) => self.map(n, effect, operands),
            Action::Layout { input, outputs } => self.layout(n, *input, outputs),
            Action::Concat { axis } => self.concat(n, effect, *axis),
            Action::Contract(c) => self.contract(n, effect, c),
        }
        let mentioned: Vec<usize> = match &effect.action {
            Action::Map(operands) => operands.iter().map(|o| o.input).collect(),
            Action::Layout { input, .. } => vec![*input],
            Action::Concat { .. } => (0..node.inputs().len()).collect(),
            Action::Contract(c) => c.operands.iter().map(|v| v.input).chain(c.bias.iter().map(|b| b.input)).collect(),
            Action::ShapeOnly | Action::Opaque(_) => return,
        };
        for (i, input) in node.inputs().iter().enumerate().filter(|(i, _)| !mentioned.contains(i)) {
            let Some(v) = *input else { continue };
            let reason =
                self.coupling.atoms.reason(Some(n), "parameter", format!("input {i} is a parameter of the operator"));
            self.pin_value(v, reason);
        }
    }

    fn opaque(&mut self, n: NodeId, why: &str) {
        let op = self.model.node(n).op_type().to_owned();
        let reason =
            self.coupling.atoms.reason(Some(n), "opaque", format!("nothing is known of how channels pass {op}: {why}"));
        for v in self.model.node(n).inputs().iter().flatten() {
            self.pin_value(*v, reason);
        }
    }

    fn pin_value(&mut self, v: ValueId, reason: u32) {
        // Integers are positions, sizes and the like: they carry no channels unless someone has given them labels.
        let number = self
            .world
            .shapes
            .fact(v)
            .and_then(|f| f.dtype)
            .is_some_and(|t| !matches!(t, DataType::Int64 | DataType::Int32 | DataType::Bool | DataType::String));
        let fields = if number { self.fields(v) } else { self.world.fields[v.index()].clone() };
        for field in &fields {
            self.pin(field, reason);
        }
    }

    pub(super) fn pin(&mut self, field: &Field, reason: u32) {
        for &a in &field.atoms {
            self.coupling.atoms.pin(a, reason);
        }
    }

    /// The fields of a value; those of a stored constant are made when it is first read as data.
    pub(super) fn fields(&mut self, v: ValueId) -> Vec<Field> {
        if self.world.fields[v.index()].is_empty()
            && self.model.constant(v).is_some()
            && let Some(shape) = self.world.shapes.shape(v).map(<[usize]>::to_vec)
        {
            self.world.fields[v.index()] = self.coupling.leaf_fields(v, &shape);
        }
        self.world.fields[v.index()].clone()
    }

    fn set(&mut self, v: Option<ValueId>, fields: Vec<Field>) {
        if let Some(v) = v {
            self.world.fields[v.index()] = fields.into_iter().filter(|f| !f.axes.is_empty()).collect();
        }
    }

    // ---- elementwise ----

    fn map(&mut self, n: NodeId, effect: &Effect, operands: &[Operand]) {
        let shape = effect.outputs[0].shape.clone().unwrap_or_default();
        let fields = self.elementwise(n, &shape, operands);
        for (i, &v) in self.model.node(n).outputs().iter().enumerate() {
            // A second output is used only where it is of the same places as the first (a dropout's mask).
            self.set(v, if i == 0 || self.model.node(n).op_type() == "Dropout" { fields.clone() } else { vec![] });
        }
    }

    fn elementwise(&mut self, n: NodeId, shape: &[usize], operands: &[Operand]) -> Vec<Field> {
        let mut aligned = Vec::new();
        for operand in operands {
            let Some(v) = self.model.node(n).input(operand.input) else { continue };
            let Some(own) = self.world.shapes.shape(v).map(<[usize]>::to_vec) else { continue };
            let mixed: Vec<usize> = (0..own.len()).filter(|&a| operand.axes[a].is_none()).collect();
            let reason = self.coupling.atoms.reason(
                Some(n),
                "mixed-axis",
                format!("{} mixes the elements along axes {mixed:?}", self.model.node(n).op_type()),
            );
            let mut fields = Vec::new();
            for field in self.fields(v) {
                if let Some(mut f) = self.fold(field, &mixed, &own, reason) {
                    f.axes = f.axes.iter().filter_map(|&a| operand.axes[a]).collect();
                    fields.push(f);
                }
            }
            let mut spans = vec![false; shape.len()];
            for (a, to) in operand.axes.iter().enumerate() {
                if let Some(to) = *to {
                    spans[to] = own[a] > 1;
                }
            }
            aligned.push(Aligned { fields, spans });
        }
        self.combine(n, shape, aligned)
    }

    /// Takes away a field's freedom along some axes: where it varies along others too, the positions along these
    /// axes go together; where it does not, it is pinned and `None`.
    fn fold(&mut self, mut field: Field, axes: &[usize], shape: &[usize], reason: u32) -> Option<Field> {
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
    fn combine(&mut self, n: NodeId, shape: &[usize], mut operands: Vec<Aligned>) -> Vec<Field> {
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
            operands[k].fields = fields.into_iter().filter_map(|f| self.fold(f, &bare, shape, fixed)).collect();
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
                self.join(other, &field, shape, together);
            }
            if overlapping.is_empty() {
                out.push(field);
            }
        }
        out
    }

    /// Joins two fields place by place, each repeated along the axes that only the other has.
    fn join(&mut self, a: &Field, b: &Field, shape: &[usize], reason: u32) {
        let mut axes: Vec<usize> = a.axes.iter().chain(&b.axes).copied().collect();
        axes.sort_unstable();
        axes.dedup();
        for (x, y) in a.spread(&axes, shape).into_iter().zip(b.spread(&axes, shape)) {
            self.coupling.atoms.join(x, y, reason);
        }
    }

    // ---- layout ----

    fn layout(&mut self, n: NodeId, input: usize, outputs: &[Vec<Step>]) {
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
            self.set(self.model.node(n).output(k), moved);
        }
    }

    pub(super) fn steps(&mut self, n: NodeId, mut field: Field, steps: &[Step], shape: &[usize]) -> Field {
        let atoms = &mut self.coupling.atoms;
        let mut padding = |axis: usize, before: usize, after: usize| {
            atoms.of(Origin::Padding { node: n, axis, before, after }, before + after).collect::<Vec<Atom>>()
        };
        let mut shape = shape.to_vec();
        for step in steps {
            field = field.step(step, &shape, &mut padding);
            shape = step.shape(&shape);
        }
        field
    }

    fn concat(&mut self, n: NodeId, effect: &Effect, axis: usize) {
        let inputs: Vec<ValueId> = self.model.node(n).inputs().iter().flatten().copied().collect();
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
        if !axes.is_empty() {
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

    // ---- contraction ----

    fn contract(&mut self, n: NodeId, effect: &Effect, c: &Contraction) {
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
        if let Some(bias) = &c.bias {
            let spans = shape.iter().map(|&d| d > 1).collect();
            let own = self.elementwise(n, &shape, std::slice::from_ref(bias));
            let v =
                self.model.node(n).input(bias.input).and_then(|v| self.world.shapes.shape(v)).unwrap_or(&[]).to_vec();
            let mut bias_spans = vec![false; shape.len()];
            for (a, to) in bias.axes.iter().enumerate() {
                to.iter().for_each(|&to| bias_spans[to] = v[a] > 1);
            }
            fields =
                self.combine(n, &shape, vec![Aligned { fields, spans }, Aligned { fields: own, spans: bias_spans }]);
        }
        self.set(self.model.node(n).output(0), fields);
    }

    /// Whether an axis is read as a window: its letter is in no other operand and not in the output.
    fn is_window(&self, c: &Contraction, view: &View, axis: usize) -> bool {
        let letter = view.letters[axis];
        let holders = c.operands.iter().filter(|o| o.letters.contains(&letter)).count();
        holders == 1 && !c.output.letters.contains(&letter)
    }

    fn fold_keeping_one(&mut self, mut f: Field, fold: &[usize], shape: &[usize], reason: u32) -> Field {
        for &axis in fold {
            if f.axes.len() > 1 && f.varies(axis) {
                f = self.fold(f, &[axis], shape, reason).expect("it varies along another axis");
            }
        }
        f
    }

    /// Joins the labels that different operands have along the same letter.
    fn join_letters(&mut self, c: &Contraction, seen: &[Vec<Field>], reason: u32) {
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
}
