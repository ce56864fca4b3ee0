//! Bytes to a model, without losing any and without copying the weights.
//!
//! Guarantees: every field of the file is in the model that comes back, so that writing it gives the same content;
//! payloads borrow the mapped file; external tensors hold their bytes (see [`super::external`]).
//! Refuses: what is not a model (with a hint at what it seems to be), truncated files, fields that this build does not
//! know, text that is not UTF-8, and models that no runtime would load: without a graph, without `ir_version`, or
//! without an operator set since IR version 3.
//! How: [`super::wire`] walks the file against the schema, then prost decodes from the map.

use super::external::{self, ExternalError};
use super::proto::ModelProto;
use super::source::SourceMap;
use super::wire::{self, WireError};
use bytes::{Buf, Bytes};
use prost::Message;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A model and the files that its payloads are borrowed from.
#[derive(Debug)]
pub struct Loaded {
    pub model: ModelProto,
    pub map: SourceMap,
}

/// Why no model could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("there is no file '{}'", path.display())]
    NotFound { path: PathBuf },
    #[error("'{}' is a directory, not a model; name the .onnx file in it", path.display())]
    Directory { path: PathBuf },
    #[error("'{}' cannot be read: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the file is empty, not an ONNX model")]
    Empty,
    /// The bytes are of some other kind that can be told by their beginning.
    #[error("this is {kind}, not an ONNX model{advice}")]
    Other { kind: &'static str, advice: &'static str },
    #[error("not an ONNX model that can be kept whole: {0}")]
    Wire(#[from] WireError),
    /// The walk let pass what the decoder does not take, such as a packed list that ends within a number.
    #[error("not an ONNX model: {0}")]
    Decode(prost::DecodeError),
    #[error("the model has no graph; it is truncated or not an ONNX model")]
    NoGraph,
    #[error("the model has no ir_version; it is damaged or not an ONNX model")]
    NoIrVersion,
    #[error("the model imports no operator set, so its operators have no meaning; add an opset_import")]
    NoOpset,
    #[error(transparent)]
    External(#[from] ExternalError),
}

/// Reads and maps the model at `path`, and the external files that it names.
pub fn read(path: &Path) -> Result<Loaded, ReadError> {
    let named = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ReadError::NotFound { path: path.to_owned() },
        io::ErrorKind::IsADirectory => ReadError::Directory { path: path.to_owned() },
        _ => ReadError::Io { path: path.to_owned(), source },
    };
    if std::fs::metadata(path).map_err(named)?.is_dir() {
        return Err(ReadError::Directory { path: path.to_owned() });
    }
    let mut map = SourceMap::default();
    let bytes = map.add(File::open(path).map_err(named)?).map_err(named)?;
    let model = decode(bytes, path.parent(), &mut map)?;
    Ok(Loaded { model, map })
}

/// Reads a model from memory. `base` is the folder that external files are looked for in; without one, a model that
/// has external tensors is refused.
pub fn read_bytes(bytes: Bytes, base: Option<&Path>) -> Result<ModelProto, ReadError> {
    decode(bytes, base, &mut SourceMap::default())
}

fn decode(bytes: Bytes, base: Option<&Path>, map: &mut SourceMap) -> Result<ModelProto, ReadError> {
    if bytes.is_empty() {
        return Err(ReadError::Empty);
    }
    if let Err(error) = wire::check(&bytes, &mut |passed| map.release_bytes(passed)) {
        return Err(recognise(&bytes).unwrap_or(ReadError::Wire(error)));
    }
    let behind = bytes.clone();
    let mut model = ModelProto::decode(Frugal { rest: bytes, behind, map }).map_err(ReadError::Decode)?;
    if model.graph.is_none() {
        return Err(ReadError::NoGraph);
    }
    let Some(version) = model.ir_version else { return Err(ReadError::NoIrVersion) };
    if version >= 3 && model.opset_import.is_empty() {
        return Err(ReadError::NoOpset);
    }
    external::resolve(&mut model, base, map)?;
    Ok(model)
}

/// The bytes to decode. Lets go of the pages behind, each time that a large payload comes: where the file lies in the
/// page cache in huge pages, the few bytes before each payload would otherwise keep 2 MiB resident.
struct Frugal<'a> {
    rest: Bytes,
    /// What has been decoded since the last time, and the rest.
    behind: Bytes,
    map: &'a SourceMap,
}

impl Buf for Frugal<'_> {
    fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.rest
    }

    fn advance(&mut self, count: usize) {
        self.rest.advance(count);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        if length >= wire::LARGE {
            let passed = self.behind.len() - self.rest.len();
            self.map.release_bytes(&self.behind[..passed]);
            self.behind = self.rest.clone();
        }
        self.rest.split_to(length)
    }
}

/// Files that people take for models, by their first bytes.
const KINDS: [(&[u8], &str, &str); 7] = [
    (b"version https://git-lfs", "a Git LFS pointer", "; run 'git lfs pull' to fetch the file itself"),
    (b"PK\x03\x04", "a zip archive (perhaps a PyTorch checkpoint)", "; export the network to ONNX, or unpack it"),
    (b"\x89HDF", "an HDF5 file (perhaps a Keras model)", "; convert it with tf2onnx"),
    (b"\x1f\x8b", "a gzip file", "; unpack it first"),
    (b"<!", "a web page", "; the download failed"),
    (b"<html", "a web page", "; the download failed"),
    (b"<", "text (perhaps ONNX's textual syntax)", "; convert it with onnx.parser"),
];

fn recognise(bytes: &[u8]) -> Option<ReadError> {
    let (_, kind, advice) = KINDS.iter().find(|(start, ..)| bytes.starts_with(start))?;
    Some(ReadError::Other { kind, advice })
}
