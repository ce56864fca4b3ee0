//! Execution order of a graph.

use super::{Def, GraphId, Model, NodeId, ValueId};
use petgraph::graph::{DiGraph, NodeIndex};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Sorts the nodes of one graph so that every value is computed before it is read; leaves a sorted list as it is.
/// Fails with a node on a cycle.
pub(super) fn sort(model: &mut Model, graph: GraphId) -> Result<(), NodeId> {
    let nodes = model.graph(graph).nodes.clone();
    let position: HashMap<NodeId, usize> = nodes.iter().enumerate().map(|(i, &n)| (n, i)).collect();
    let mut edges = Vec::new();
    for (reader, &n) in nodes.iter().enumerate() {
        for v in reads(model, n) {
            if let Def::Node(producer, _) = model.value(v).def()
                && let Some(&at) = position.get(&producer)
            {
                edges.push((at as u32, reader as u32));
            }
        }
    }
    if edges.iter().all(|(a, b)| a < b) {
        return Ok(());
    }
    let dag: DiGraph<(), (), u32> = {
        let mut g = DiGraph::with_capacity(nodes.len(), edges.len());
        for _ in &nodes {
            g.add_node(());
        }
        g.extend_with_edges(&edges);
        g
    };
    if let Err(cycle) = petgraph::algo::toposort(&dag, None) {
        return Err(nodes[cycle.node_id().index()]);
    }
    // petgraph's order is any topological one; the file's order, as far as it can be kept, is the stated rule.
    let mut waiting: Vec<usize> =
        dag.node_indices().map(|i| dag.neighbors_directed(i, petgraph::Direction::Incoming).count()).collect();
    let mut ready: BinaryHeap<_> = (0..nodes.len()).filter(|&i| waiting[i] == 0).map(Reverse).collect();
    let mut sorted = Vec::with_capacity(nodes.len());
    while let Some(Reverse(i)) = ready.pop() {
        sorted.push(nodes[i]);
        for next in dag.neighbors(NodeIndex::new(i)) {
            waiting[next.index()] -= 1;
            if waiting[next.index()] == 0 {
                ready.push(Reverse(next.index()));
            }
        }
    }
    model.graphs[graph.index()].nodes = sorted;
    Ok(())
}

/// Values that a node reads, those captured by its bodies included.
pub(super) fn reads(model: &Model, node: NodeId) -> Vec<ValueId> {
    let mut out: Vec<ValueId> = model.node(node).inputs().iter().flatten().copied().collect();
    for body in model.node(node).bodies() {
        for &inner in model.graph(body.graph).nodes() {
            out.extend(reads(model, inner));
        }
        out.extend(model.graph(body.graph).outputs().iter().map(|p| p.value));
    }
    out
}
