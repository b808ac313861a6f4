//! A file that a setting names.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// What UTF-8 text begins with where an editor on Windows has written it.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The file, and which setting it is from: what is wrong with it is told with both.
#[derive(Debug, Clone)]
pub struct File {
    setting: &'static str,
    path: PathBuf,
}

/// The file can't be used.
#[derive(Debug, Clone, Error)]
#[error("{setting} is {:?}: {reason}", super::shown(&path.to_string_lossy()))]
pub struct FileError {
    setting: &'static str,
    path: PathBuf,
    reason: String,
}

impl File {
    /// `setting` as a user knows it: `VARIABLE (--flag)`.
    #[must_use]
    pub fn new(setting: &'static str, path: PathBuf) -> Self {
        Self { setting, path }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All that is in it, without the mark that some editors put before text.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn read(&self) -> Result<Vec<u8>, FileError> {
        let mut bytes = std::fs::read(&self.path).map_err(|error| self.error(error.to_string()))?;
        if bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(bytes)
    }

    /// It is of no use alone.
    #[must_use]
    pub fn needs(&self, other: &str) -> String {
        self.error(format!("it needs {other} beside it")).to_string()
    }

    /// What is in it can't be used.
    #[must_use]
    pub fn error(&self, reason: impl Into<String>) -> FileError {
        FileError { setting: self.setting, path: self.path.clone(), reason: reason.into() }
    }
}
