//! How much data a model is run on.
//!
//! A repair runs two models side by side and has the numbers of all rows between two layers in memory. Large maps have
//! many places each, so that fewer rows say as much.

use super::CannotRun;
use crate::analysis::{Shapes, batch, fed_inputs, node_costs};
use crate::ir::{Model, ValueId};
use std::collections::BTreeMap;

/// What may be spent on running one model over all rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Multiply-accumulates.
    pub macs: f64,
    /// Bytes of numbers that are alive at once.
    pub bytes: f64,
}

impl Limits {
    /// For rows that are made up: some seconds on two cores, and half a gigabyte.
    pub const MADE_UP: Self = Self { macs: 3e10, bytes: (1u64 << 29) as f64 };
    /// For rows that are given, which say more: some minutes, and a gigabyte.
    pub const GIVEN: Self = Self { macs: 1e12, bytes: (1u64 << 30) as f64 };

    /// At most `most` rows, and at least one. `shapes` are the model's under any number of rows.
    pub fn rows(self, model: &Model, shapes: &Shapes, most: usize) -> usize {
        let macs: f64 = node_costs(model, shapes).iter().map(|c| c.1.macs as f64).sum();
        let bytes = alive(model, shapes) / batch(model, shapes) as f64;
        let rows = (self.macs / macs.max(1.0)).min(self.bytes / bytes.max(1.0));
        (rows as usize).clamp(1, most.max(1))
    }
}

/// The most bytes that are alive at once in single precision, when nodes run in order and every value is dropped after
/// its last reader.
fn alive(model: &Model, shapes: &Shapes) -> f64 {
    let nodes = model.graph(model.main()).nodes();
    let mut last: BTreeMap<ValueId, usize> = BTreeMap::new();
    for (i, &n) in nodes.iter().enumerate() {
        last.extend(model.reads_of(n).into_iter().map(|v| (v, i)));
    }
    let size = |v: ValueId| shapes.shape(v).map_or(0.0, |s| s.iter().product::<usize>() as f64 * 4.0);
    let (mut now, mut most) = (0.0f64, 0.0f64);
    let mut leaving: BTreeMap<usize, f64> = BTreeMap::new();
    for (v, _) in fed_inputs(model) {
        now += size(v);
        *leaving.entry(last.get(&v).copied().unwrap_or(0)).or_default() += size(v);
    }
    for (i, &n) in nodes.iter().enumerate() {
        for &v in model.node(n).outputs().iter().flatten() {
            now += size(v);
            *leaving.entry(last.get(&v).copied().unwrap_or(i).max(i)).or_default() += size(v);
        }
        most = most.max(now);
        now -= leaving.remove(&i).unwrap_or(0.0);
    }
    most
}

/// Elements of one tensor, and of all of them, beyond which a model is not run: the memory of a machine and the patience
/// of its user end somewhere.
pub const MOST_ELEMENTS: usize = 1 << 28;
const MOST_IN_ALL: usize = 1 << 30;

/// Refuses a model of which one value is too large to be computed.
pub fn admit_size(model: &Model, shapes: &Shapes) -> Result<(), CannotRun> {
    let Some(v) = model.values().find(|&v| elements(shapes, v) > MOST_ELEMENTS) else { return Ok(()) };
    let shape = shapes.shape(v).unwrap_or_default();
    Err(CannotRun {
        node: None,
        reason: format!("'{}' of shape {shape:?} is too large to compute here", model.value(v).name()),
    })
}

/// [`admit_size`], and refuses a model whose values are too many for a run that does not stop between its nodes.
pub fn admit_whole(model: &Model, shapes: &Shapes) -> Result<(), CannotRun> {
    admit_size(model, shapes)?;
    let all = model.values().map(|v| elements(shapes, v)).fold(0, usize::saturating_add);
    match all > MOST_IN_ALL {
        true => {
            let reason = format!("its {all} intermediate numbers are too many to compute here");
            Err(CannotRun { node: None, reason })
        }
        false => Ok(()),
    }
}

fn elements(shapes: &Shapes, v: ValueId) -> usize {
    shapes.shape(v).map_or(0, |s| s.iter().product())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::infer_all;

    #[test]
    fn many_values_are_too_many_only_for_a_run_of_the_whole() {
        let model = |nodes: usize| {
            let chain: String = (1..nodes).map(|i| format!("v{i} = Relu (v{})\n", i - 1)).collect();
            let text = format!(
                "<ir_version: 8, opset_import: [\"\" : 17]>\n\
                 g (float[1, 64, 2048, 1024] v0) => (float[1, 64, 2048, 1024] v{}) {{ {chain} }}",
                nodes - 1
            );
            Model::import(crate::onnx::text::parse(&text).unwrap()).unwrap()
        };
        for (nodes, whole) in [(4, true), (12, false)] {
            let model = model(nodes);
            let shapes = &infer_all(&model, &BTreeMap::new())[0];
            assert!(admit_size(&model, shapes).is_ok());
            assert_eq!(admit_whole(&model, shapes).is_ok(), whole);
        }
    }
}
