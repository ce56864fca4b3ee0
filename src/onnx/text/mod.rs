//! ONNX's textual syntax, as `onnx.parser` reads it.
//!
//! Guarantees: what [`print()`] gives is accepted by `onnx.parser` and by [`parse`], and means the same model, as far
//! as the syntax has words for it. Payloads come back as typed fields, with the same values.
//! Cannot be said in the syntax, and is left out by [`print()`]: doc strings (but for those of the model and of
//! functions), metadata (but for the model's), denotations, sparse tensors, quantization annotations, training graphs,
//! device configurations, and the bits of a NaN. Where a name or an attribute has to be changed or dropped, a comment
//! `# lost: ...` ends the line.
//! Beyond `onnx.parser`, [`parse`] keeps lists of tensors, graphs and types, which that one reads and then drops.
//! How: a scanner without a token stream, since the grammar has none; one recursive descent; one printer.
//!
//! Fixtures add directives to the leading comments, see [`parse_fixture`].

mod names;
mod parse;
mod print;
mod scan;
mod seed;
mod types;

pub use parse::parse;
pub use print::{PrintOptions, print};
pub use scan::ParseError;
pub use seed::{directives, parse_fixture};
