//! How much data a model is run on.
//!
//! A repair runs two models side by side and has the numbers of all rows between two layers in memory. Large maps have
//! many places each, so that fewer rows say as much.

use crate::analysis::{Shapes, node_costs};
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

impl Default for Limits {
    /// Some seconds on two cores, and half a gigabyte.
    fn default() -> Self {
        Self { macs: 5e10, bytes: f64::from(1u32 << 29) }
    }
}

impl Limits {
    /// At most `most` rows, and at least one. `shapes` are the model's under any number of rows.
    pub fn rows(self, model: &Model, shapes: &Shapes, most: usize) -> usize {
        let macs: f64 = node_costs(model, shapes).iter().map(|c| c.1.macs as f64).sum();
        let bytes = alive(model, shapes) / shapes.sizes.batch.max(1) as f64;
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
