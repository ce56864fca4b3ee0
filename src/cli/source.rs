//! Models that come in.

use super::console::Console;
use super::failure::{Failure, io};
use super::sizes::SizeArg;
use crate::analysis::{Shapes, infer_all, validate};
use crate::ir::Model;
use crate::onnx::{self, SourceMap};
use crate::passes::Context;
use crate::run::Batches;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a person calls standard input in a message.
pub const STDIN: &str = "standard input";

/// A model that was read, and found to be one that can be worked on.
pub struct Loaded {
    pub model: Model,
    /// Facts under the assignments of sizes that fit best.
    pub worlds: Vec<Shapes>,
    /// Sizes that the user gave to symbolic dimensions.
    pub sizes: BTreeMap<String, usize>,
    /// The file's name, for messages.
    pub name: String,
    pub map: SourceMap,
    origin: Origin,
}

enum Origin {
    File(PathBuf),
    Stream(Bytes),
}

/// Reads and checks the model at `path`, or on standard input where that is `-`.
pub fn load(path: &Path, sizes: &[SizeArg], console: &mut Console) -> Result<Loaded, Failure> {
    let (proto, map, origin, name) = if is_stream(path) {
        let mut bytes = Vec::new();
        console.stdin.read_to_end(&mut bytes).map_err(|e| Failure::failed(format!("{STDIN} cannot be read: {e}")))?;
        let bytes = Bytes::from(bytes);
        let read = onnx::read_bytes(bytes.clone(), None);
        let proto = read.map_err(|e| Failure::failed(e.to_string()).of(STDIN))?;
        (proto, SourceMap::default(), Origin::Stream(bytes), STDIN.to_owned())
    } else {
        let name = path.display().to_string();
        let read = onnx::read(path).map_err(|e| Failure::failed(e.to_string()).of(&name))?;
        (read.model, read.map, Origin::File(path.to_owned()), name)
    };
    let model = Model::import(proto).map_err(|e| Failure::from(e).of(&name))?;
    let sizes = super::sizes::resolve(&model, sizes).map_err(|f| f.of(&name))?;
    let worlds = infer_all(&model, &sizes);
    validate(&model, &worlds).map_err(|e| Failure::from(e).of(&name))?;
    Ok(Loaded { model, worlds, sizes, name, map, origin })
}

impl Loaded {
    /// What passes on this model share.
    pub fn context(&self, calibration: Option<Arc<Batches>>) -> Context {
        Context { sizes: self.sizes.clone(), source: self.map.clone(), calibration, ..Context::default() }
    }

    /// The file's name without its folder, which says nothing on another machine. `None` for a stream.
    pub fn file_name(&self) -> Option<String> {
        match &self.origin {
            Origin::File(path) => Some(path.file_name()?.to_string_lossy().into_owned()),
            Origin::Stream(_) => None,
        }
    }

    /// The SHA-256 of the bytes that were read, hexadecimal. Reads the whole file: takes time on large ones.
    pub fn sha256(&self) -> Result<String, Failure> {
        let mut hash = Sha256::new();
        match &self.origin {
            Origin::Stream(bytes) => hash.update(bytes),
            Origin::File(path) => {
                let mut file = File::open(path).map_err(|e| io(path, "read", &e))?;
                let mut block = vec![0; 1 << 18];
                loop {
                    match file.read(&mut block).map_err(|e| io(path, "read", &e))? {
                        0 => break,
                        n => hash.update(&block[..n]),
                    }
                }
            }
        }
        Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
    }
}

/// Reads a text file (a plan), or standard input where `path` is `-`.
pub fn read_text(path: &Path, console: &mut Console) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    if is_stream(path) {
        console.stdin.read_to_end(&mut bytes).map_err(|e| Failure::failed(format!("{STDIN} cannot be read: {e}")))?;
    } else {
        bytes = std::fs::read(path).map_err(|e| io(path, "read", &e))?;
    }
    let name = if is_stream(path) { STDIN.to_owned() } else { path.display().to_string() };
    String::from_utf8(bytes).map_err(|_| Failure::failed("this is not text, so it is no plan").of(name))
}

/// Whether a path stands for standard input or output.
pub fn is_stream(path: &Path) -> bool {
    path.as_os_str() == OsStr::new("-")
}

/// Only one argument can be standard input.
pub fn one_stream(paths: &[&Path]) -> Result<(), Failure> {
    match paths.iter().filter(|p| is_stream(p)).count() {
        0 | 1 => Ok(()),
        _ => Err(Failure::usage("'-' (standard input) is given more than once; it can be read only once")),
    }
}
