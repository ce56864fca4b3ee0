//! NumPy archives: `.npz` (stored or deflated) and single `.npy` files, as tensors by name.
//!
//! Guarantees: memory stays in proportion to the bytes in the file, whatever sizes it declares; a damaged file is an
//! error that names the file and the array, never a panic or a shortened array.
//! Refuses: see [`read_named`] for arrays that are not numbers; any other file than these two, by its first bytes.
//! How: the `zip` crate unpacks and checks the checksums, entry by entry; the array format is read here.

use super::npy::{self, Refusal};
use crate::onnx::tensor::Tensor;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};

/// Why data could not be read. Names the file and the array.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file cannot be opened or read.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// The file is something else than .npz or .npy, or its directory is damaged.
    #[error("{}: not a NumPy file: {reason}", path.display())]
    Format { path: PathBuf, reason: String },
    /// The file holds no array of the name asked for.
    #[error("{}: no array '{name}' in it; there {}", path.display(), listed(found))]
    Missing { path: PathBuf, name: String, found: Vec<String> },
    /// An array is damaged, or of a type that is not read.
    #[error("{}: array '{name}' {reason}", path.display())]
    Array { path: PathBuf, name: String, reason: String },
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "is none".to_owned(),
        [one] => format!("is only '{one}'"),
        many => format!("are '{}'", many.join("', '")),
    }
}

/// Every array of numbers in the file, in the file's order. The array of a `.npy` file has the file's name without
/// its ending. Arrays of other types (labels as text, say) are left out; [`read_named`] tells why.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<(String, Tensor)>, DataError> {
    let path = path.as_ref();
    let mut found = Vec::new();
    visit(
        path,
        |_| true,
        |name, tensor| {
            match tensor {
                Ok(tensor) => found.push((name, tensor)),
                Err(Refusal::Type(_)) => {}
                Err(Refusal::Damaged(reason)) => return Err(DataError::Array { path: path.into(), name, reason }),
            }
            Ok(())
        },
    )?;
    Ok(found)
}

/// The array called `name`, without unpacking the others. Errors if there is none, or if its elements are not floats
/// (of 2, 4 or 8 bytes), integers or booleans in little-endian order.
pub fn read_named(path: impl AsRef<Path>, name: &str) -> Result<Tensor, DataError> {
    let path = path.as_ref();
    let (mut found, mut names) = (None, Vec::new());
    let wanted = |entry: &str| {
        names.push(entry.to_owned());
        entry == name
    };
    visit(path, wanted, |name, tensor| {
        let tensor = tensor.map_err(|refusal| {
            let (Refusal::Type(reason) | Refusal::Damaged(reason)) = refusal;
            DataError::Array { path: path.into(), name, reason }
        })?;
        found = Some(tensor);
        Ok(())
    })?;
    found.ok_or_else(|| DataError::Missing { path: path.into(), name: name.to_owned(), found: names })
}

/// Calls `each` with every array that is `wanted`.
fn visit(
    path: &Path,
    mut wanted: impl FnMut(&str) -> bool,
    mut each: impl FnMut(String, Result<Tensor, Refusal>) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let io = |source| DataError::Io { path: path.into(), source };
    let format = |reason: String| DataError::Format { path: path.into(), reason };
    let mut file = BufReader::new(File::open(path).map_err(io)?);
    let mut start = Vec::new();
    file.by_ref().take(npy::MAGIC.len() as u64).read_to_end(&mut start).map_err(io)?;
    file.rewind().map_err(io)?;
    if start == npy::MAGIC {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        return if wanted(&name) { each(name, npy::read(&mut file)) } else { Ok(()) };
    }
    if !start.starts_with(b"PK") {
        return Err(format("it begins neither as an .npz archive nor as an .npy array".into()));
    }
    let mut archive = zip::ZipArchive::new(file).map_err(|e| format(e.to_string()))?;
    for index in 0..archive.len() {
        let name = match archive.name_for_index(index) {
            Some(name) => name.map_err(|e| format(e.to_string()))?.into_owned(),
            None => continue,
        };
        let Some(name) = name.strip_suffix(".npy") else { continue };
        if wanted(name) {
            let tensor = match archive.by_index(index) {
                Ok(mut entry) => npy::read(&mut entry),
                Err(e) => Err(Refusal::Damaged(format!("cannot be unpacked: {e}"))),
            };
            each(name.to_owned(), tensor)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "npz_tests.rs"]
mod tests;
