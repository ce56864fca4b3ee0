//! secateur makes convolutional networks smaller: ONNX in, smaller ONNX out.
//!
//! It measures which filters of each layer are *common* (others can stand in for them), removes those filters and
//! everything downstream that belonged to them, and proves the rewrite against the original whose weights for the
//! removed channels are zero.
//!
//! ```no_run
//! use secateur::ir::Model;
//! use secateur::passes::{Context, Pass, prune::Prune};
//! use std::path::Path;
//!
//! let loaded = secateur::onnx::read(Path::new("in.onnx"))?;
//! let original = Model::import(loaded.model)?;
//! let mut model = original.clone();
//! let outcome = Prune::default().run(&mut model, &Context::default())?;
//! let plan = outcome.plan.expect("a prune makes a plan");
//! println!("{}: {} -> {} parameters", outcome.summary, plan.cost.params[0], plan.cost.params[1]);
//! println!("{:?}", secateur::verify::verify(&original, &model, &plan, &Default::default())?);
//! secateur::onnx::write(&model.export(), Path::new("out.onnx"))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The modules stand in the order of the data's path:
//! [`onnx`] (files) -> [`ir`] (generic nodes) -> [`ops`] and [`analysis`] (what belongs together) -> [`importance`]
//! (what may go) -> [`cut`] and [`passes`] (rewrites) -> [`onnx`]; beside it [`plan`] and [`report`] (what was done),
//! [`verify`] and [`run`] (the proof), [`sweep`] (what each size is worth), [`data`] and [`cli`].

pub mod analysis;
pub mod budget;
pub mod cli;
pub mod cut;
pub mod data;
pub mod importance;
pub mod ir;
pub mod onnx;
pub mod ops;
#[path = "../passes/mod.rs"]
pub mod passes;
pub mod plan;
pub mod repair;
pub mod report;
pub mod run;
pub mod sweep;
pub mod synthetic;
pub mod verify;
