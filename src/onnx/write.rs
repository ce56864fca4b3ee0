//! A model to bytes, without ever holding the encoded model in memory.
//!
//! Guarantees: the bytes are those of prost's `encode_to_vec`; a file appears whole or not at all, with the
//! permissions of the one that it replaces or of any new file; a model can be written over the file that it was read
//! from, or over its external data. External tensors go to `<file name>.data` beside the output.
//! Refuses: directories, read-only files, folders that cannot be written to, and models of 2 GiB or more, which no
//! protobuf reader takes (mark tensors external to write those).
//! How: prost encodes into a buffer of fixed size that passes payloads through from where they lie. Files are written
//! under a temporary name and renamed, first the data, then the model; they are not forced to the disk. Between the
//! two renames an old model could meet new data; both are checked to be possible before the first.

use super::external::{self, ExternalError};
use super::proto::ModelProto;
use super::source::SourceMap;
use bytes::buf::UninitSlice;
use bytes::{Buf, BufMut};
use prost::Message;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Bytes that are gathered before they are handed on.
const BUFFER: usize = 64 << 10;
/// Slices from this length on bypass the buffer.
const DIRECT: usize = 4 << 10;
/// Bytes of a payload that are written before its pages are released.
const STRIDE: usize = 4 << 20;
/// What protobuf's own readers accept.
const LARGEST: usize = i32::MAX as usize;

/// Why a model was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("'{}' is a directory; name a file in it", path.display())]
    Directory { path: PathBuf },
    #[error("'{}' is read-only; change its permissions or write elsewhere", path.display())]
    ReadOnly { path: PathBuf },
    #[error("no file can be created in '{}': {source}", folder.display())]
    Create { folder: PathBuf, source: io::Error },
    #[error("'{}' cannot be written: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the model cannot be written: {0}")]
    Stream(io::Error),
    #[error(
        "the model takes {bytes} bytes, and protobuf ends at 2 GiB; mark its large tensors external (data_location) to put them into a file of their own"
    )]
    TooLarge { bytes: usize },
    #[error("'{}' is not UTF-8, and a model with external data must name its data file; choose another name", path.display())]
    Name { path: PathBuf },
    #[error(transparent)]
    External(#[from] ExternalError),
}

/// Writes `model` to `path` and returns how many bytes it took, external data included. Devices and pipes are written
/// to directly, as by [`write_to`].
pub fn write(model: &ModelProto, path: &Path) -> Result<u64, WriteError> {
    write_releasing(model, path, &SourceMap::default())
}

/// Like [`write()`]; hands the pages of `map` back to the system as they are written, so that copying a model that
/// is larger than the memory at hand stays small.
pub fn write_releasing(model: &ModelProto, path: &Path, map: &SourceMap) -> Result<u64, WriteError> {
    // A link is followed, so that what it points to is replaced and not the link.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let io = |source| WriteError::Io { path: path.clone(), source };
    if let Ok(meta) = fs::metadata(path)
        && !meta.is_file()
        && !meta.is_dir()
    {
        let mut out = OpenOptions::new().write(true).open(path).map_err(io)?;
        return stream(model, &mut out, map);
    }
    let Some(file_name) = path.file_name() else { return Err(WriteError::Directory { path: path.clone() }) };
    let mut data_path = file_name.to_owned();
    data_path.push(".data");
    let data_path = path.with_file_name(data_path);
    let location = data_path.file_name().and_then(|name| name.to_str());
    let split = external::split(model, location.unwrap_or_default())?;
    if split.is_some() && location.is_none() {
        return Err(WriteError::Name { path: path.clone() });
    }

    let mut out = begin(path)?;
    let Some(split) = split else {
        let written = encode(model, out.as_file_mut(), map)?.map_err(io)?;
        return finish(out, path).map(|()| written);
    };
    let mut data = begin(&data_path)?;
    let data_io = |source| WriteError::Io { path: data_path.clone(), source };
    let mut written = payloads(&split.payloads, data.as_file_mut(), map).map_err(data_io)?;
    written += encode(&split.model, out.as_file_mut(), map)?.map_err(io)?;
    let new = !data_path.exists();
    finish(data, &data_path)?;
    finish(out, path).inspect_err(|_| {
        if new {
            // Already failing; that the stray file stays too would hide why.
            let _ = fs::remove_file(&data_path);
        }
    })?;
    Ok(written)
}

/// Writes `model` as one stream and returns its length. External tensors are put into the model itself, since a
/// stream has no neighbour to hold them.
pub fn write_to(model: &ModelProto, out: &mut impl Write) -> Result<u64, WriteError> {
    stream(model, out, &SourceMap::default())
}

fn stream(model: &ModelProto, out: &mut impl Write, map: &SourceMap) -> Result<u64, WriteError> {
    let embedded = external::embed(model)?;
    encode(embedded.as_ref().unwrap_or(model), out, map)?.map_err(WriteError::Stream)
}

/// A temporary file that can take the place of `path`.
fn begin(path: &Path) -> Result<NamedTempFile, WriteError> {
    let old = fs::metadata(path).ok();
    if let Some(old) = &old {
        if old.is_dir() {
            return Err(WriteError::Directory { path: path.to_owned() });
        }
        if old.permissions().readonly() {
            return Err(WriteError::ReadOnly { path: path.to_owned() });
        }
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".secateur-");
    // What any new file gets, less the umask; a temporary one would be for its owner only.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let create = |source: io::Error| WriteError::Create {
        folder: folder.to_owned(),
        // The name of the temporary file, which tempfile adds, means nothing to the reader.
        source: source.raw_os_error().map_or(source, io::Error::from_raw_os_error),
    };
    let file = builder.tempfile_in(folder).map_err(create)?;
    if let Some(old) = old {
        let io = |source| WriteError::Io { path: path.to_owned(), source };
        file.as_file().set_permissions(old.permissions()).map_err(io)?;
    }
    Ok(file)
}

fn finish(file: NamedTempFile, path: &Path) -> Result<(), WriteError> {
    match file.persist(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(WriteError::Io { path: path.to_owned(), source: error.error }),
    }
}

fn payloads(payloads: &[(u64, bytes::Bytes)], out: &mut File, map: &SourceMap) -> io::Result<u64> {
    let mut sink = Sink::new(out, map);
    for (offset, payload) in payloads {
        while sink.written < *offset {
            let gap = (*offset - sink.written).min(4096) as usize;
            sink.put_slice(&[0; 4096][..gap]);
        }
        sink.put_slice(payload);
    }
    sink.finish()
}

fn encode(model: &ModelProto, out: &mut impl Write, map: &SourceMap) -> Result<io::Result<u64>, WriteError> {
    let bytes = model.encoded_len();
    if bytes > LARGEST {
        return Err(WriteError::TooLarge { bytes });
    }
    let mut sink = Sink::new(out, map);
    model.encode(&mut sink).expect("a sink has room for anything");
    Ok(sink.finish())
}

/// Where prost encodes to: a buffer of bounded size in front of `out`. Encoding cannot fail, so the first error of
/// `out` is kept, and what follows it is dropped.
struct Sink<'a, W: Write> {
    out: &'a mut W,
    map: &'a SourceMap,
    buffer: Vec<u8>,
    /// Bytes taken so far, whether they have left the buffer or not.
    written: u64,
    error: Option<io::Error>,
}

impl<'a, W: Write> Sink<'a, W> {
    fn new(out: &'a mut W, map: &'a SourceMap) -> Self {
        Self { out, map, buffer: Vec::with_capacity(2 * BUFFER), written: 0, error: None }
    }

    fn flush(&mut self) {
        if self.error.is_none() {
            self.error = self.out.write_all(&self.buffer).err();
        }
        self.buffer.clear();
    }

    fn finish(mut self) -> io::Result<u64> {
        self.flush();
        match self.error {
            Some(error) => Err(error),
            None => self.out.flush().map(|()| self.written),
        }
    }
}

// SAFETY: uninitialised memory and its length are those of the `Vec` within, which keeps the contract.
unsafe impl<W: Write> BufMut for Sink<'_, W> {
    fn remaining_mut(&self) -> usize {
        usize::MAX
    }

    unsafe fn advance_mut(&mut self, count: usize) {
        // SAFETY: forwarded from the caller, who has written to what `chunk_mut` returned.
        unsafe { self.buffer.advance_mut(count) };
        self.written += count as u64;
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        if self.buffer.len() >= BUFFER {
            self.flush();
        }
        self.buffer.chunk_mut()
    }

    fn put<T: Buf>(&mut self, mut source: T) {
        while source.has_remaining() {
            let chunk = source.chunk();
            let length = chunk.len();
            self.put_slice(chunk);
            source.advance(length);
        }
    }

    fn put_slice(&mut self, source: &[u8]) {
        self.written += source.len() as u64;
        if source.len() < DIRECT {
            self.buffer.extend_from_slice(source);
            if self.buffer.len() >= BUFFER {
                self.flush();
            }
            return;
        }
        self.flush();
        for piece in source.chunks(STRIDE) {
            if self.error.is_none() {
                self.error = self.out.write_all(piece).err();
            }
            self.map.release_bytes(piece);
        }
    }
}
