//! What goes out: a model, and the texts that go with it.
//!
//! Guarantees: nothing is left behind by a command that fails. Texts are written under temporary names first, then the
//! model is, and only then do the texts take their places; every target is checked before the work begins.

use super::console::Console;
use super::failure::{Failure, io};
use super::source::is_stream;
use crate::ir::Model;
use crate::onnx::{self, SourceMap};
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Where a command writes to.
pub struct Targets<'a> {
    pub model: &'a Path,
    pub plan: Option<&'a Path>,
    pub report: Option<&'a Path>,
}

/// A text that waits to take its place.
enum Waiting {
    File(NamedTempFile, PathBuf),
    Stream(String),
}

impl Targets<'_> {
    /// Refuses what cannot be written, before any work.
    pub fn check(&self, console: &mut Console) -> Result<(), Failure> {
        let all: Vec<&Path> = [Some(self.model), self.plan, self.report].into_iter().flatten().collect();
        if all.iter().filter(|p| is_stream(p)).count() > 1 {
            return Err(Failure::usage("'-' (standard output) is given more than once; name a file for one of them"));
        }
        for (i, a) in all.iter().enumerate() {
            if !is_stream(a) && all[..i].contains(a) {
                return Err(Failure::usage(format!("'{}' is named as output twice", a.display())));
            }
        }
        console.binary = all.iter().any(|p| is_stream(p));
        all.iter().filter(|p| !is_stream(p)).try_for_each(|p| writable(p))
    }

    /// Writes the model, and the plan and the report where they were asked for.
    pub fn write(
        &self,
        model: &Model,
        map: &SourceMap,
        plan: Option<String>,
        report: Option<String>,
        console: &mut Console,
    ) -> Result<(), Failure> {
        let mut waiting = Vec::new();
        for (path, text) in [(self.plan, plan), (self.report, report)] {
            if let (Some(path), Some(text)) = (path, text) {
                waiting.push(prepare(path, text)?);
            }
        }
        let proto = model.export();
        if is_stream(self.model) {
            let mut out = &mut *console.stdout;
            onnx::write_to(&proto, &mut out).map_err(|e| Failure::failed(e.to_string()).of("standard output"))?;
            out.flush().map_err(|e| Failure::failed(e.to_string()).of("standard output"))?;
        } else {
            let written = onnx::write_releasing(&proto, self.model, map);
            written.map_err(|e| Failure::failed(e.to_string()).of(self.model.display().to_string()))?;
        }
        waiting.into_iter().try_for_each(|text| settle(text, console))
    }
}

/// Refuses a place that a text cannot be written to, before any work.
pub fn check_text(path: &Path, console: &mut Console) -> Result<(), Failure> {
    if is_stream(path) {
        console.binary = true;
        return Ok(());
    }
    writable(path)
}

/// Writes one text.
pub fn write_text(path: &Path, text: String, console: &mut Console) -> Result<(), Failure> {
    settle(prepare(path, text)?, console)
}

fn settle(text: Waiting, console: &mut Console) -> Result<(), Failure> {
    match text {
        Waiting::File(file, path) => {
            file.persist(&path).map_err(|e| io(&path, "written", &e.error))?;
            Ok(())
        }
        Waiting::Stream(text) => {
            let written = console.stdout.write_all(text.as_bytes());
            written.map_err(|e| Failure::failed(e.to_string()).of("standard output"))
        }
    }
}

fn writable(path: &Path) -> Result<(), Failure> {
    if path.is_dir() {
        return Err(Failure::failed(format!("'{}' is a directory; name a file in it", path.display())));
    }
    let folder = folder_of(path);
    match std::fs::metadata(folder) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(Failure::failed(format!(
            "'{}' cannot be written: '{}' is no directory",
            path.display(),
            folder.display()
        ))),
        Err(e) => Err(Failure::failed(format!(
            "'{}' cannot be written: the directory '{}' cannot be used: {e}",
            path.display(),
            folder.display()
        ))),
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn prepare(path: &Path, text: String) -> Result<Waiting, Failure> {
    if is_stream(path) {
        return Ok(Waiting::Stream(text));
    }
    let failed = |e: std::io::Error| io(path, "written", &e);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".secateur-");
    // What any new file gets, less the umask; a temporary one would be for its owner only.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder_of(path)).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    Ok(Waiting::File(file, path.to_owned()))
}
