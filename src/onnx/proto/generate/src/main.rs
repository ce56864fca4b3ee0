//! Compiles `onnx-ml.proto` to `onnx.rs` beside it, with every `bytes` field as `bytes::Bytes`, so that decoding
//! from a memory map borrows the weights instead of copying them. Sparse tensors are boxed: attributes are what a model
//! has most of, and a field that almost none of them uses would double their size.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let descriptors = protox::compile(["onnx-ml.proto"], [&folder])?;
    prost_build::Config::new()
        .bytes(["."])
        .boxed(".onnx.AttributeProto.sparse_tensor")
        .disable_comments(["."])
        .out_dir(&folder)
        .compile_fds(descriptors)?;
    Ok(())
}
