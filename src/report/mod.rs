//! What people and machines are told about a model, and about what was done to it.
//!
//! Guarantees: every report is plain data that serialises to JSON with its fields in a fixed order, and is the same for
//! the same model. Tables hold text only: width, colour and where they go are the caller's business.
//! Refuses: nothing; what is not known is shown as `?` or left out.
//! How: [`Inspection`] says what a model is and what can be cut, [`Difference`] compares two models, [`Summary`] says
//! what a pipeline of passes did, [`Curve`] what models of several sizes are worth, as a table and as a [`Chart`].

mod chart;
mod curve;
mod difference;
mod inspection;
mod layers;
mod number;
mod repair;
mod summary;
mod table;

pub use chart::{Chart, Mark};
pub use curve::{AccuracyChange, Calibration, Curve, CurvePoint, MeasuredLine, StepLine};
pub use difference::{Change, Difference, NodeChange, NodeName};
pub use inspection::{GroupLine, Inspection, Layer, Pin, PinLine, Share};
pub use number::{Change as CostChange, bytes, count, percent};
pub use summary::{LayerChange, PassLine, Summary, Untouched, verification_text};
pub use table::{Column, Table};
