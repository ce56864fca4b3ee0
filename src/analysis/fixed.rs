//! What holds for every size of the symbolic dimensions.
//!
//! Guarantees: an extent or an element that is called fixed follows from constants, attributes and extents that the
//! declarations of the inputs fix, and from nothing else, whatever sizes the symbols take.
//! Refuses: to take agreement under several assignments for a proof (`min(n, 1)` agrees under all), declarations of
//! inner values (they may be stale), and defaults of inputs that a caller may override. What is not covered is not
//! fixed, which costs a rewrite, never correctness.
//! How: shapes and contents come from one assignment; beside them goes a flag for each extent and each element, moved
//! by the same layout steps as the elements themselves.

use super::infer::{Shapes, infer_all};
use crate::ir::{Def, Model, Node, NodeId, ValueId};
use crate::onnx::proto::{tensor_shape_proto::dimension, type_proto};
use crate::onnx::tensor::{DataType, Tensor};
use crate::ops::{Action, Effect, Extents, Operand, step};
use std::collections::BTreeMap;

/// Facts of one assignment, with what of them holds under all.
#[derive(Debug, Clone)]
pub struct Fixed {
    shapes: Shapes,
    /// By [`ValueId::index`]: for each axis whether its extent is fixed. Empty where no shape is known.
    extents: Vec<Vec<bool>>,
    /// By [`ValueId::index`]: for each element whether it is fixed. Empty where the content is not known.
    content: Vec<Vec<bool>>,
}

impl Fixed {
    /// `sizes` are given sizes of symbols: they help to find an assignment under which the model makes sense, but are
    /// no part of the file, so nothing becomes fixed by them.
    pub fn of(model: &Model, sizes: &BTreeMap<String, usize>) -> Self {
        Self::within(model, infer_all(model, sizes).swap_remove(0))
    }

    /// The same, on facts that are known already.
    pub fn within(model: &Model, shapes: Shapes) -> Self {
        let count = model.value_count();
        let mut fixed = Self { shapes, extents: vec![Vec::new(); count], content: vec![Vec::new(); count] };
        fixed.inputs(model);
        for g in model.live_graphs() {
            for &v in model.graph(g).initializers().iter().filter(|&&v| !model.is_overridable(v)) {
                fixed.constant(v);
            }
        }
        for n in model.walk() {
            fixed.node(model, n);
        }
        fixed
    }

    /// The facts of the assignment under which this was found.
    pub fn shapes(&self) -> &Shapes {
        &self.shapes
    }

    /// The shape, if every extent is fixed.
    pub fn shape(&self, v: ValueId) -> Option<&[usize]> {
        self.shapes
            .shape(v)
            .filter(|_| self.extents[v.index()].iter().all(|&f| f))
            .filter(|s| s.len() == self.extents[v.index()].len())
    }

    /// The content, if it is known, small, and every element of it is fixed.
    pub fn value(&self, v: ValueId) -> Option<&Tensor> {
        let value = self.shapes.fact(v)?.value.as_ref()?;
        let flags = &self.content[v.index()];
        (self.shape(v).is_some() && flags.len() == value.elements() && flags.iter().all(|&f| f)).then_some(value)
    }

    fn inputs(&mut self, model: &Model) {
        for port in model.graph(model.main()).inputs().iter().filter(|p| model.value(p.value).def() == Def::Input) {
            let Some(type_proto::Value::TensorType(t)) = port.info.r#type.as_ref().and_then(|t| t.value.as_ref())
            else {
                continue;
            };
            let dims = t.shape.iter().flat_map(|s| &s.dim);
            self.extents[port.value.index()] =
                dims.map(|d| matches!(d.value, Some(dimension::Value::DimValue(n)) if n > 0)).collect();
        }
    }

    fn constant(&mut self, v: ValueId) {
        let Some(fact) = self.shapes.fact(v) else { return };
        self.extents[v.index()] = vec![true; fact.shape.as_ref().map_or(0, Vec::len)];
        self.content[v.index()] = vec![true; fact.value.as_ref().map_or(0, Tensor::elements)];
    }

    /// Whether all that a rule can see of an input is fixed.
    fn wholly(&self, v: Option<ValueId>) -> bool {
        let Some(v) = v else { return true };
        let known = self.shapes.fact(v).is_some_and(|f| f.value.is_some());
        self.shape(v).is_some() && (!known || self.value(v).is_some())
    }

    fn node(&mut self, model: &Model, n: NodeId) {
        let node = model.node(n);
        if node.is_standard() && node.op_type() == "Constant" {
            node.outputs().iter().flatten().for_each(|&v| self.constant(v));
            return;
        }
        // What a body captures is no input of the node.
        if !node.bodies().is_empty() {
            return;
        }
        // Without an effect the shapes are those of the declarations.
        let Some(Ok(effect)) = self.shapes.effect(n) else { return };
        let all = node.inputs().iter().all(|&i| self.wholly(i));
        let mut found = Vec::new();
        for (i, v) in node.outputs().iter().enumerate() {
            let (Some(v), Some(fact)) = (*v, effect.outputs.get(i)) else { continue };
            let rank = fact.shape.as_ref().map_or(0, Vec::len);
            let extents = if all { vec![true; rank] } else { self.output_extents(node, effect, i, rank) };
            let content = match &fact.value {
                Some(_) if all => vec![true; fact.value.as_ref().map_or(0, Tensor::elements)],
                Some(t) => self.output_content(node, effect, i).unwrap_or_else(|| vec![false; t.elements()]),
                None => Vec::new(),
            };
            found.push((v, extents, content));
        }
        for (v, extents, content) in found {
            self.extents[v.index()] = extents;
            self.content[v.index()] = content;
        }
    }

    /// Which extents of output `i` are fixed where not everything about the inputs is.
    fn output_extents(&self, node: &Node, effect: &Effect, i: usize, rank: usize) -> Vec<bool> {
        let (none, rule) = (vec![false; rank], extents(node));
        let flags = |input: usize| node.input(input).map_or(&[][..], |v| &self.extents[v.index()][..]);
        let parameters = |data: &dyn Fn(usize) -> bool| {
            (0..node.inputs().len()).filter(|&i| !data(i)).all(|i| self.wholly(node.input(i)))
        };
        let found = match &effect.action {
            // The shape of a shape is the rank.
            Action::ShapeOnly if matches!(rule, Extents::Shape | Extents::Size) => vec![true; rank],
            Action::ShapeOnly | Action::Opaque(_) => return none,
            Action::Map(operands) => {
                if !parameters(&|i| operands.iter().any(|o| o.input == i)) {
                    return none;
                }
                let axes = || operands.iter().flat_map(|o| o.axes.iter().zip(flags(o.input)));
                let mixed = axes().filter(|(to, _)| to.is_none()).all(|(_, &f)| f);
                let complete = operands.iter().all(|o| o.axes.len() == flags(o.input).len());
                // What is broadcast has the extent of any operand that has more than one position.
                let many = |o: &Operand, i: usize| {
                    let shape = node.input(o.input).and_then(|v| self.shapes.shape(v));
                    o.steps.is_empty() && shape.and_then(|s| s.get(i)).is_some_and(|&d| d > 1)
                };
                let decided = |a: usize| {
                    operands.iter().any(|o| {
                        let mut own = o.axes.iter().zip(flags(o.input)).enumerate();
                        own.any(|(i, (to, &f))| *to == Some(a) && f && many(o, i))
                    })
                };
                let extent = |a: usize| {
                    let mut own = axes().filter(|(to, _)| **to == Some(a)).map(|(_, &f)| f).peekable();
                    if own.peek().is_some() { decided(a) || own.all(|f| f) } else { mixed }
                };
                (0..rank).map(|a| complete && extent(a)).collect()
            }
            Action::Concat { axis, inputs } => {
                let parts: Vec<&[bool]> = inputs.iter().map(|&i| flags(i)).collect();
                let complete = parts.iter().all(|p| p.len() == rank);
                let extent =
                    |a: usize| if a == *axis { parts.iter().all(|p| p[a]) } else { parts.iter().any(|p| p[a]) };
                (0..rank).map(|a| complete && extent(a)).collect()
            }
            Action::Layout { input, outputs } => {
                // A target shape states each extent for itself.
                if rule != Extents::Target && !parameters(&|i| i == *input) {
                    return none;
                }
                self.layout_extents(node, rule, flags(*input), outputs.get(i).map_or(&[], Vec::as_slice))
                    .unwrap_or_default()
            }
            Action::Contract(_) => {
                let x = flags(0);
                if !parameters(&|i| i == 0) {
                    return none;
                }
                match rule {
                    Extents::Conv if x.len() == rank && rank > 2 => {
                        let spatial = x[2..].iter().all(|&f| f);
                        (0..rank).map(|a| [x[0], true].get(a).copied().unwrap_or(spatial)).collect()
                    }
                    Extents::Gemm if x.len() == 2 && node.int("transA").unwrap_or(0) == 0 => vec![x[0], true],
                    Extents::MatMul if x.len() == rank && flags(1).len() == 2 => [&x[..rank - 1], &[true]].concat(),
                    _ => return none,
                }
            }
        };
        if found.len() == rank { found } else { none }
    }

    fn layout_extents(&self, node: &Node, rule: Extents, from: &[bool], steps: &[step::Step]) -> Option<Vec<bool>> {
        match rule {
            Extents::Target => {
                let (target, stated) = match node.ints("shape") {
                    Some(t) => (t.to_vec(), vec![true; t.len()]),
                    None => {
                        let v = node.input(1)?;
                        let target = self.shapes.fact(v)?.value.as_ref()?.to_i64()?;
                        (target, self.content[v.index()].clone())
                    }
                };
                if stated.len() != target.len() {
                    return None;
                }
                let copies = |a: usize| target[a] == 0 && node.int("allowzero").unwrap_or(0) == 0;
                // What is left for -1 does not depend on extents that are copied.
                let rest =
                    stated.iter().all(|&f| f) && (0..from.len()).all(|a| from[a] || (a < target.len() && copies(a)));
                let extent = |a: usize| match target[a] {
                    _ if !stated[a] => Some(false),
                    -1 => Some(rest),
                    _ if copies(a) => from.get(a).copied(),
                    _ => Some(true),
                };
                (0..target.len()).map(extent).collect()
            }
            Extents::Flatten => {
                let axis = node.int("axis").unwrap_or(1);
                let axis = usize::try_from(if axis < 0 { axis + from.len() as i64 } else { axis }).ok()?;
                let (outer, inner) = from.split_at_checked(axis)?;
                Some(vec![outer.iter().all(|&f| f), inner.iter().all(|&f| f)])
            }
            // Axes of extent 1 come or go; the others keep their order.
            Extents::Squeeze | Extents::Unsqueeze => {
                let grown = rule == Extents::Unsqueeze;
                let named = match node.ints("axes") {
                    Some(axes) => axes.to_vec(),
                    None => self.value(node.input(1)?)?.to_i64()?,
                };
                let rank = from.len() + if grown { named.len() } else { 0 };
                let at = |a: i64| usize::try_from(if a < 0 { a + rank as i64 } else { a }).ok();
                let axes: Vec<usize> = named.into_iter().map(at).collect::<Option<_>>()?;
                let mut old = from.iter().copied();
                if grown {
                    return (0..rank).map(|a| if axes.contains(&a) { Some(true) } else { old.next() }).collect();
                }
                Some((0..rank).filter(|a| !axes.contains(a)).map(|a| from[a]).collect())
            }
            Extents::Gather => {
                let axis = node.int("axis").unwrap_or(0);
                let axis = usize::try_from(if axis < 0 { axis + from.len() as i64 } else { axis }).ok()?;
                let places = &self.extents[node.input(1)?.index()];
                Some([from.get(..axis)?, places, from.get(axis + 1..)?].concat())
            }
            _ => steps.iter().try_fold(from.to_vec(), |flags, step| match step {
                step::Step::Permute(perm) => perm.iter().map(|&p| flags.get(p).copied()).collect(),
                // Positions taken from an extent that is not fixed may be as many as that extent.
                step::Step::Take { .. } | step::Step::Pad { .. } => Some(flags),
                step::Step::Reshape(_) | step::Step::Expand(_) => None,
            }),
        }
    }

    /// Which elements of output `i` are fixed where not everything about the inputs is.
    fn output_content(&self, node: &Node, effect: &Effect, i: usize) -> Option<Vec<bool>> {
        let flags = |input: usize| -> Option<Tensor> {
            let v = node.input(input)?;
            let bytes: Vec<u8> = self.content[v.index()].iter().map(|&f| u8::from(f)).collect();
            Tensor::new(DataType::Bool, self.shape(v)?.to_vec(), bytes.into())
        };
        let read = |t: Tensor| t.data().iter().map(|&b| b != 0).collect::<Vec<bool>>();
        match &effect.action {
            Action::ShapeOnly if extents(node) == Extents::Shape => {
                let extents = &self.extents[node.input(0)?.index()];
                let n = extents.len() as i64;
                let clamp = |p: i64| (if p < 0 { p + n } else { p }).clamp(0, n) as usize;
                let (start, end) = (clamp(node.int("start").unwrap_or(0)), clamp(node.int("end").unwrap_or(n)));
                Some(extents[start..end.max(start)].to_vec())
            }
            Action::Layout { input, outputs } => {
                let parameters = (0..node.inputs().len()).filter(|i| i != input).all(|i| self.wholly(node.input(i)));
                parameters.then(|| step::apply(outputs.get(i)?, &flags(*input)?).map(read))?
            }
            Action::Concat { axis, inputs } => {
                let parts: Vec<Tensor> = inputs.iter().map(|&i| flags(i)).collect::<Option<_>>()?;
                step::concat(&parts.iter().collect::<Vec<_>>(), *axis).map(read)
            }
            _ => None,
        }
    }
}

fn extents(node: &Node) -> Extents {
    crate::ops::row_of(node).map_or(Extents::ByAction, |row| row.extents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::text::parse_fixture;

    fn fixed(text: &str) -> (Model, Fixed) {
        let model = Model::import(parse_fixture(text).unwrap()).unwrap();
        let fixed = Fixed::of(&model, &BTreeMap::new());
        (model, fixed)
    }

    fn named(model: &Model, name: &str) -> ValueId {
        let node = |n| model.node(n).outputs().iter().flatten().copied().collect::<Vec<_>>();
        model.walk().into_iter().flat_map(node).find(|&v| model.value(v).name() == name).unwrap()
    }

    #[test]
    fn a_symbol_taints_what_depends_on_it_and_nothing_else() {
        let (model, fixed) = fixed(
            r#"
            # secateur: seed=1
            <ir_version: 8, opset_import: ["" : 17]>
            g (float[N, 3, 32, 32] x, float[N, 4, H, 6] u) => (float[A, B] y)
            <float[8, 3, 3, 3] w, int64 two = {2}, int64 zero = {0}, int64[1] front = {0}, int64[1] minus = {-1},
             int64 one = {1}>
            {
                c = Conv <pads = [1, 1, 1, 1]> (x, w)
                s = Shape (c)
                h = Gather (s, two)
                n = Gather (s, zero)
                smaller = Min (n, one)
                nv = Unsqueeze (n, front)
                hv = Unsqueeze (h, front)
                target = Concat <axis = 0> (nv, hv, minus)
                r = Reshape (c, target)
                su = Shape (u)
                f = Flatten (c)
                y = Identity (f)
            }"#,
        );
        let value = |name| fixed.value(named(&model, name)).map(|t| t.to_i64().unwrap());
        assert_eq!(value("h"), Some(vec![32]));
        assert_eq!(value("hv"), Some(vec![32]));
        assert_eq!(value("n"), None);
        // Equal under all assignments, yet not for N = 0.
        assert_eq!(value("smaller"), None);
        assert_eq!(value("s"), None);
        assert_eq!(value("target"), None);
        let extents = |name| fixed.extents[named(&model, name).index()].clone();
        assert_eq!(extents("c"), [false, true, true, true]);
        assert_eq!(extents("r"), [false, true, false]);
        assert_eq!(extents("f"), [false, true]);
        assert_eq!(fixed.content[named(&model, "su").index()], [false, true, false, true]);
        assert_eq!(fixed.content[named(&model, "target").index()], [false, true, true]);
    }
}
