//! Tensors whose bytes lie in another file.
//!
//! Guarantees: after reading, such a tensor holds its bytes as `raw_data`, borrowed from that file, and keeps
//! `data_location` and `external_data` as a mark of where it is to be written; so nothing later has to know of files.
//! Refuses: locations that are absolute or climb out of the model's folder, ranges beyond the file, a tensor that has
//! a payload of its own besides, and any external tensor of a model that came without a folder.
//! How: each file is mapped once. Written, all of them share one file, in the order of the model, at offsets that are
//! multiples of 4096 for tensors of at least 1 MiB, so that a reader can map them, and of 64 for smaller ones.

use super::proto::{ModelProto, StringStringEntryProto, TensorProto, tensor_proto::DataLocation};
use super::source::SourceMap;
use super::tensor::{DataType, bits_per_element};
use super::visit;
use bytes::Bytes;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Why the bytes of an external tensor cannot be had or placed. Names the tensor.
#[derive(Debug, thiserror::Error)]
pub enum ExternalError {
    #[error(
        "tensor '{tensor}' lies in the external file '{location}', but a model that is read from a stream has no folder to look in; give a path"
    )]
    NoFolder { tensor: String, location: String },
    #[error(
        "tensor '{tensor}': external file '{location}' must be a path within the model's folder, without '..' or a root"
    )]
    Outside { tensor: String, location: String },
    #[error("tensor '{tensor}': external file '{}' cannot be read: {source}", path.display())]
    Open { tensor: String, path: PathBuf, source: io::Error },
    #[error("tensor '{tensor}': external file '{}' is not a regular file", path.display())]
    NotFile { tensor: String, path: PathBuf },
    #[error(
        "tensor '{tensor}': {length} bytes from {offset} on are beyond the end of external file '{location}' of {size} bytes; it is truncated or belongs to another model"
    )]
    Range { tensor: String, location: String, offset: u64, length: u64, size: u64 },
    #[error("tensor '{tensor}': external {key} '{value}' is not a number of bytes")]
    Number { tensor: String, key: &'static str, value: String },
    #[error("tensor '{tensor}' is marked external but holds a payload too; which of them counts is not defined")]
    Both { tensor: String },
    #[error("tensor '{tensor}' is marked external but its bytes were not loaded, so it cannot be written")]
    NotLoaded { tensor: String },
}

pub(super) fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location() == DataLocation::External
}

/// Gives every external tensor its bytes.
pub(super) fn resolve(
    model: &mut ModelProto,
    base: Option<&Path>,
    sources: &mut SourceMap,
) -> Result<(), ExternalError> {
    let mut files: HashMap<String, Bytes> = HashMap::new();
    visit::tensors_mut(model, &mut |tensor, name| {
        if !is_external(tensor) {
            return Ok(());
        }
        let name = || name.to_owned();
        if tensor.raw_data.is_some() {
            return Err(ExternalError::Both { tensor: name() });
        }
        let entry = |key: &str| tensor.external_data.iter().find(|e| e.key() == key).map(|e| e.value());
        let number = |key: &'static str| {
            entry(key)
                .map(|value| {
                    let error = |_| ExternalError::Number { tensor: name(), key, value: value.to_owned() };
                    value.parse::<u64>().map_err(error)
                })
                .transpose()
        };
        let location = entry("location").unwrap_or_default().to_owned();
        let offset = number("offset")?.unwrap_or(0);
        let length = number("length")?;
        let Some(base) = base else { return Err(ExternalError::NoFolder { tensor: name(), location }) };
        let file = match files.get(&location) {
            Some(file) => file.clone(),
            None => {
                let file = open(base, &location, name, sources)?;
                files.insert(location.clone(), file.clone());
                file
            }
        };
        let size = file.len() as u64;
        // A length is optional; without one the tensor takes what its shape calls for, or else the rest of the file.
        let length = length.or_else(|| bytes_of(tensor)).unwrap_or(size.saturating_sub(offset));
        match offset.checked_add(length) {
            Some(end) if end <= size => tensor.raw_data = Some(file.slice(offset as usize..end as usize)),
            _ => return Err(ExternalError::Range { tensor: name(), location, offset, length, size }),
        }
        Ok(())
    })
}

fn open(
    base: &Path,
    location: &str,
    name: impl Fn() -> String,
    sources: &mut SourceMap,
) -> Result<Bytes, ExternalError> {
    let inside = Path::new(location).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if location.is_empty() || !inside {
        return Err(ExternalError::Outside { tensor: name(), location: location.to_owned() });
    }
    let path = base.join(location);
    // Asked before opening: to open a pipe would wait for its writer.
    match std::fs::metadata(&path) {
        Ok(meta) if !meta.is_file() => return Err(ExternalError::NotFile { tensor: name(), path }),
        Ok(_) => File::open(&path).and_then(|file| sources.add(file)),
        Err(error) => Err(error),
    }
    .map_err(|source| ExternalError::Open { tensor: name(), path, source })
}

fn bytes_of(tensor: &TensorProto) -> Option<u64> {
    let bits = bits_per_element(DataType::try_from(tensor.data_type?).ok()?)? as u64;
    let elements = tensor.dims.iter().try_fold(1u64, |n, &d| n.checked_mul(u64::try_from(d).ok()?))?;
    Some(elements.checked_mul(bits)?.div_ceil(8))
}

/// A model as it goes into two files.
pub(super) struct Split {
    /// The model with the payloads taken out and their new places noted.
    pub model: ModelProto,
    /// Where each payload begins in the second file, increasing.
    pub payloads: Vec<(u64, Bytes)>,
}

/// Plans the second file, called `location`; `None` if no tensor is external.
pub(super) fn split(model: &ModelProto, location: &str) -> Result<Option<Split>, ExternalError> {
    if !any(model) {
        return Ok(None);
    }
    let mut model = model.clone();
    let mut payloads = Vec::new();
    let mut end = 0u64;
    visit::tensors_mut(&mut model, &mut |tensor, name| {
        if !is_external(tensor) {
            return Ok(());
        }
        let Some(raw) = tensor.raw_data.take() else {
            return Err(ExternalError::NotLoaded { tensor: name.to_owned() });
        };
        let offset = end.next_multiple_of(if raw.len() >= 1 << 20 { 4096 } else { 64 });
        end = offset + raw.len() as u64;
        // A checksum of the old bytes would be wrong, and `basepath` would lead elsewhere.
        let ours = ["location", "offset", "length", "checksum", "basepath"];
        tensor.external_data.retain(|e| !ours.contains(&e.key()));
        let values = [location.to_owned(), offset.to_string(), raw.len().to_string()];
        let entries = ours.iter().zip(values);
        let entries = entries.map(|(&k, v)| StringStringEntryProto { key: Some(k.to_owned()), value: Some(v) });
        tensor.external_data.splice(0..0, entries);
        payloads.push((offset, raw));
        Ok(())
    })?;
    Ok(Some(Split { model, payloads }))
}

/// A copy of the model in which every external tensor holds its bytes itself; `None` if none is external.
pub(super) fn embed(model: &ModelProto) -> Result<Option<ModelProto>, ExternalError> {
    if !any(model) {
        return Ok(None);
    }
    let mut model = model.clone();
    visit::tensors_mut(&mut model, &mut |tensor, name| {
        if is_external(tensor) {
            if tensor.raw_data.is_none() {
                return Err(ExternalError::NotLoaded { tensor: name.to_owned() });
            }
            tensor.data_location = None;
            tensor.external_data.clear();
        }
        Ok(())
    })?;
    Ok(Some(model))
}

fn any(model: &ModelProto) -> bool {
    visit::tensors(model, &mut |tensor, _| if is_external(tensor) { Err(()) } else { Ok(()) }).is_err()
}
