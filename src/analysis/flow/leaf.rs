//! Labels of constants, and what a plan can say of them.

use super::super::field::Field;
use super::super::label::{Atom, Origin, PINNED};
use super::{Flow, MOST_LABELS};
use crate::ir::{Model, NodeId, Unnamed, ValueId};
use crate::ops::Effect;
use std::collections::{BTreeMap, BTreeSet};

/// Constants that share their name with another one in another body: a name does not say which is meant.
pub(super) fn ambiguous(model: &Model) -> BTreeSet<ValueId> {
    let mut out = BTreeSet::new();
    if model.live_graphs().len() > 1 {
        let mut named: BTreeMap<&str, Vec<ValueId>> = BTreeMap::new();
        model.constants().for_each(|v| named.entry(model.value(v).name()).or_default().push(v));
        out.extend(named.into_values().filter(|same| same.len() > 1).flatten());
    }
    out
}

impl Flow<'_> {
    /// The fields of a value; those of a stored constant are made when it is first read as data.
    pub(super) fn fields(&mut self, v: ValueId) -> Vec<Field> {
        if self.world.fields[v.index()].is_empty()
            && self.model.constant(v).is_some()
            && let Some(shape) = self.world.shapes.shape(v).map(<[usize]>::to_vec)
        {
            self.world.fields[v.index()] = self.coupling.leaf_fields(v, &shape);
            if let Some(text) = self.cannot_be_named(v) {
                let reason = self.coupling.atoms.reason(self.maker(v), "unnamed-constant", text);
                for field in self.world.fields[v.index()].clone() {
                    self.pin(&field, reason);
                }
            }
        }
        self.world.fields[v.index()].clone()
    }

    /// A tensor of one number over and over, of a shape that is fixed, may have any extents: its channels are free, as
    /// those that padding adds are.
    pub(super) fn filled(&mut self, n: NodeId, effect: &Effect) {
        let node = self.model.node(n);
        let fixed = |v: ValueId| self.coupling.constant[v.index()] || self.coupling.fixed[v.index()];
        let (Some(shape), Some(out)) = (effect.outputs[0].shape.clone(), node.output(0)) else { return };
        let fills = node.is_standard() && node.op_type() == "ConstantOfShape" && node.input(0).is_some_and(fixed);
        if !fills {
            return;
        }
        let mut fields = Vec::new();
        for axis in (0..shape.len()).filter(|&a| shape[a] > 1 && shape[a] <= MOST_LABELS) {
            let origin = Origin::Padding { node: n, axis, before: 0, after: shape[axis] };
            fields.push(Field::along(axis, self.coupling.atoms.of(origin, shape[axis]).collect()));
        }
        self.set(Some(out), fields);
    }

    /// Pins channels of a weight that no stored constant holds, wholly or in part: zeros could not be stated.
    pub(super) fn pin_generated(&mut self, n: NodeId, field: &Field) -> bool {
        let stored =
            |&a: &Atom| a == PINNED || matches!(self.coupling.atoms.origin(a), Some((Origin::Constant { .. }, _)));
        if field.atoms.iter().all(stored) {
            return false;
        }
        let text = "the weight is computed by a node, so there is no stored tensor to cut";
        let reason = self.coupling.atoms.reason(Some(n), "weight-not-stored", text);
        self.pin(field, reason);
        true
    }

    fn cannot_be_named(&self, v: ValueId) -> Option<String> {
        let name = self.model.value(v).name();
        if self.ambiguous.contains(&v) {
            return Some(format!(
                "'{name}' is the name of several constants, in bodies beside each other; a plan could not say which is cut"
            ));
        }
        (self.model.unnamed(v) == Some(Unnamed::Function)).then(|| {
            format!("'{name}' stands in the body of a function of the model, so a plan has no name for it; the pass inline-functions gives it one")
        })
    }
}
