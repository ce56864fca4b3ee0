//! Centralities of the nodes of a complete, undirected, weighted graph given by its similarity matrix.
//!
//! Guarantees: the definitions and the scaling are networkx's (3.6), with which they agree to 1e-5 and better; the
//! diagonal is never an edge; graphs of no, one or two nodes have scores too. Results do not depend on the number of
//! threads.
//! How: dense kernels, for the graphs are complete: no heap and no adjacency list, only rows of a matrix. All but
//! degree want absolute similarities, because a negative path length or weight leaves them ill-defined.

mod betweenness;
mod closeness;
mod degree;
mod eigenvector;
mod shortest_paths;

pub use betweenness::betweenness;
pub use closeness::closeness;
pub use degree::degree;
pub use eigenvector::eigenvector;
