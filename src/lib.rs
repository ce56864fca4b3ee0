//! secateur makes convolutional networks smaller: ONNX in, smaller ONNX out.

pub mod importance;
pub mod onnx;
