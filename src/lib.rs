//! secateur makes convolutional networks smaller: ONNX in, smaller ONNX out.

pub mod data;
pub mod onnx;
pub mod run;
