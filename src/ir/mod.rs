//! The intermediate representation: generic ONNX nodes in arenas, lossless.
//!
//! Guarantees: `export(import(m)) == m` for every well-formed model `m` whose nodes are in topological order; what is
//! not understood (domains, attributes, functions, metadata, annotations) is carried along untouched. Ids stay valid
//! for the life of a [`Model`], also across edits and clones, so that facts about a model before and after a rewrite
//! can be compared value by value.
//! Refuses: values that nothing defines, names defined twice, cycles.
//! How: nodes and values of the main graph and of every subgraph share one arena each; nested graphs refer to outer
//! values directly. Nodes keep the `NodeProto` they came from, except that names became ids. Edges are changed in
//! [`edit`](self) only, and [`Model::check`] lists the invariants.

mod attribute;
mod branch;
mod check;
mod edit;
mod export;
mod id;
mod import;
mod inline;
mod model;
mod order;
mod own;

pub use check::Violation;
pub use id::{GraphId, NodeId, ValueId};
pub use import::ImportError;
pub use inline::{InlineError, Inlined};
pub use model::{Body, Def, Graph, Model, Node, Port, Unnamed, Uses, Value};
