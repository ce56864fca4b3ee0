//! secateur makes convolutional networks smaller: ONNX in, smaller ONNX out.

pub mod analysis;
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
pub mod report;
pub mod run;
pub mod verify;
