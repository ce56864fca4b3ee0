//! The files that a model's bytes are borrowed from.
//!
//! Guarantees: content read through a [`SourceMap`] is never copied; pages that were touched can be handed back to the
//! system at any time and come back from the file when they are touched again, so that visiting every weight of a
//! large model needs no more memory than the largest one.
//! Refuses: nothing. A file that another program truncates while it is mapped ends the process with SIGBUS, as with
//! any memory map; this crate itself only ever replaces files by renaming, which leaves a mapped one intact.
//! How: one read-only shared map a file, owned by the `Bytes` that were cut from it; `madvise(DONTNEED)` to release.

use bytes::Bytes;
use memmap2::Mmap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

/// The most that one page fault makes resident around itself: a huge page. A payload's last neighbour may map the end
/// of what was released before, so releases reach this far beyond their ends.
const FAULT: usize = 2 << 20;

/// The maps beneath a model. Cheap to clone; holding one keeps the files mapped.
#[derive(Debug, Clone, Default)]
pub struct SourceMap {
    maps: Vec<Arc<Mmap>>,
}

struct Owner(Arc<Mmap>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl SourceMap {
    /// The content of `file`: mapped if it is a regular file, read to its end if it is a pipe or a device.
    pub(super) fn add(&mut self, mut file: File) -> io::Result<Bytes> {
        if !file.metadata()?.is_file() {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            return Ok(bytes.into());
        }
        // SAFETY: the map is read-only and we never write to a file in place; what other programs do to it meanwhile
        // is the risk named in the module's documentation.
        let map = Arc::new(unsafe { Mmap::map(&file)? });
        self.maps.push(map.clone());
        Ok(Bytes::from_owner(Owner(map)))
    }

    /// Hands every resident page back to the system.
    pub fn release(&self) {
        for map in &self.maps {
            self.release_bytes(map);
        }
    }

    /// Hands the pages beneath one payload back to the system. Does nothing for bytes that are not mapped by this.
    pub fn release_bytes(&self, bytes: &[u8]) {
        let start = bytes.as_ptr() as usize;
        for map in &self.maps {
            let first = map.as_ptr() as usize;
            if !bytes.is_empty() && start >= first && start + bytes.len() <= first + map.len() {
                let from = (start - first).saturating_sub(FAULT);
                let to = (start - first + bytes.len()).saturating_add(FAULT).min(map.len());
                release_range(map, from, to - from);
            }
        }
    }
}

#[cfg(unix)]
fn release_range(map: &Mmap, offset: usize, len: usize) {
    // SAFETY: the map is shared, read-only and backed by a file, so a dropped page is read again with the same content.
    // A failure is no error: the pages merely stay resident.
    let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, len) };
}

#[cfg(not(unix))]
fn release_range(_: &Mmap, _: usize, _: usize) {}
