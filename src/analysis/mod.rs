//! What belongs together: shapes, channel labels, coupled classes and the reason for each.
//!
//! Guarantees: every class of channels that is not pinned can be removed as a whole, with the meaning that
//! CORRECTNESS.md gives to a removal; every join and every pin is remembered with its node and rule.
//! Refuses: nothing. What is not understood pins what it touches.
//! How: [`infer_all`] makes all shapes concrete under two assignments of sizes; [`Coupling`] lets labels flow from
//! constants through every node and joins what has to go together; [`groups`] collects classes by the layers whose
//! filters they are; [`explain()`] walks the joins.

mod balance;
mod cost;
mod coupling;
mod explain;
mod field;
mod fixed;
mod flow;
mod group;
mod infer;
mod label;
mod nested;
mod open;
mod reach;
mod size;
mod validate;
mod weight;

pub use balance::{Cell, Cells};
pub use cost::{Cost, batch, cost, node_costs};
pub use coupling::{Coupling, Inexact, Kept, Read, Source, World};
pub use explain::{Explanation, Link, explain};
pub use field::{Field, matching_axes};
pub use fixed::Fixed;
pub use group::{Class, Group, Member, Verdict, groups};
pub use infer::{Shapes, contraction, infer, infer_all, stored};
pub use label::{Atom, Atoms, Join, Origin, PINNED, Reason};
pub use open::{Opened, open};
pub use reach::{Reach, pinned_by, reach, reached};
pub use size::{Sizes, fed_inputs, is_symbolic};
pub use validate::{Invalid, validate};
pub use weight::{evaluate_constant, filters};
