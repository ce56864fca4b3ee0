//! How a command ends when it does not succeed.

use crate::analysis::Invalid;
use crate::ir::ImportError;
use crate::passes::PassError;
use std::path::Path;

/// Everything was done.
pub const DONE: u8 = 0;
/// A file could not be read, worked on or written.
pub const FAILED: u8 = 1;
/// The command line asks for something that does not exist.
pub const USAGE: u8 = 2;
/// The pruned model does not compute what the masked original computes.
pub const UNVERIFIED: u8 = 3;
/// What was asked for cannot be had, and `--strict` forbids to settle for less.
pub const REFUSED: u8 = 4;

/// An exit code and the one error that is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: u8,
    /// The file that it concerns.
    pub file: Option<String>,
    pub message: String,
}

impl Failure {
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, file: None, message: message.into() }
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(FAILED, message)
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }

    /// Names the file; the first name given stays.
    pub fn of(mut self, file: impl Into<String>) -> Self {
        self.file.get_or_insert_with(|| file.into());
        self
    }
}

/// One paragraph. Errors that name the file themselves are not told it twice.
impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.file {
            Some(file) if !self.message.contains(&format!("'{file}'")) => write!(f, "{file}: {}", self.message),
            _ => write!(f, "{}", self.message),
        }
    }
}

impl From<Invalid> for Failure {
    fn from(e: Invalid) -> Self {
        Self::failed(e.to_string())
    }
}

impl From<ImportError> for Failure {
    fn from(e: ImportError) -> Self {
        Self::failed(e.to_string())
    }
}

impl From<PassError> for Failure {
    fn from(e: PassError) -> Self {
        Self::new(if e.closest.is_some() { REFUSED } else { FAILED }, e.to_string())
    }
}

/// An error of the system, in words.
pub fn io(path: &Path, doing: &str, error: &std::io::Error) -> Failure {
    Failure::failed(format!("'{}' cannot be {doing}: {error}", path.display()))
}
