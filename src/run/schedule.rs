//! The order in which a model is run where what is computed early is at hand later.

use crate::ir::{Model, NodeId, ValueId};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// The nodes of the main graph, each after those that it reads from, and otherwise those of little `work` first; ties in
/// the order of the graph.
///
/// So everything that can be told before a contraction is told before it, and of two branches that meet the one with
/// the larger contractions comes last.
pub fn lightest_first(model: &Model, work: &dyn Fn(NodeId) -> u64) -> Vec<NodeId> {
    let nodes = model.graph(model.main()).nodes();
    let mut maker: BTreeMap<ValueId, usize> = BTreeMap::new();
    for (i, &n) in nodes.iter().enumerate() {
        maker.extend(model.node(n).outputs().iter().flatten().map(|&v| (v, i)));
    }
    let mut readers = vec![Vec::new(); nodes.len()];
    let mut missing = vec![0usize; nodes.len()];
    for (i, &n) in nodes.iter().enumerate() {
        for v in model.reads_of(n) {
            // What a later node makes is not read, whatever the graph says; nor does a node wait for itself.
            if let Some(&from) = maker.get(&v).filter(|&&from| from < i) {
                readers[from].push(i);
                missing[i] += 1;
            }
        }
    }
    let entry = |i: usize| Reverse((work(nodes[i]), i));
    let mut ready: BinaryHeap<_> = (0..nodes.len()).filter(|&i| missing[i] == 0).map(entry).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse((_, i))) = ready.pop() {
        order.push(nodes[i]);
        for &reader in &readers[i] {
            missing[reader] -= 1;
            if missing[reader] == 0 {
                ready.push(entry(reader));
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn light_nodes_run_before_heavy_ones_that_wait_for_nothing_more() {
        let text = "<ir_version: 8, opset_import: [\"\" : 17]>
            g (float[4] x) => (float[4] z) { a = Abs (x) b = Exp (a) c = Neg (x) d = Abs (c) z = Add (b, d) }";
        let model = Model::import(crate::onnx::text::parse(text).unwrap()).unwrap();
        let heavy = |n: NodeId| u64::from(model.node(n).op_type() == "Abs");
        let order: Vec<&str> = lightest_first(&model, &heavy).iter().map(|&n| model.node(n).op_type()).collect();
        assert_eq!(order, ["Neg", "Abs", "Exp", "Abs", "Add"]);
    }
}
