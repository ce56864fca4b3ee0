//! What belongs together: shapes, channel labels, coupled classes and the reason for each.

mod cost;
mod coupling;
mod explain;
mod field;
mod fixed;
mod flow;
mod group;
mod infer;
mod label;
mod size;
mod validate;
mod weight;

pub use cost::{Cost, cost, node_costs};
pub use coupling::{Coupling, Kept, Read, Source};
pub use explain::{Explanation, Link, explain};
pub use field::Field;
pub use fixed::Fixed;
pub use group::{Class, Group, Member, Verdict, groups};
pub use infer::{Shapes, contraction, infer, infer_all, stored};
pub use label::{Atom, Atoms, Join, Origin, PINNED, Reason};
pub use size::{Sizes, fed_inputs, is_symbolic};
pub use validate::{Invalid, validate};
pub use weight::{evaluate_constant, filters};
