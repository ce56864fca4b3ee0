//! secateur makes convolutional networks smaller: ONNX in, smaller ONNX out.

pub mod analysis;
pub mod data;
pub mod ir;
pub mod onnx;
pub mod ops;
#[path = "../passes/mod.rs"]
pub mod passes;
pub mod plan;
pub mod run;
