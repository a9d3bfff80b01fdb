//! Why files cannot be used.

use std::fmt;
use std::path::{Path, PathBuf};

/// What is wrong with which file, and what to do. It never holds anything of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsError {
    /// The file; none if it is not about one.
    pub file: Option<PathBuf>,
    /// What is wrong.
    pub what: String,
}

impl TlsError {
    pub(crate) fn of(file: &Path, what: impl Into<String>) -> Self {
        Self { file: Some(file.to_owned()), what: what.into() }
    }
    pub(crate) fn general(what: impl Into<String>) -> Self {
        Self { file: None, what: what.into() }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}: {}", file.display(), self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for TlsError {}
