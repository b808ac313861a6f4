//! A file that a setting names.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// The mark with which editors on Windows begin UTF-8 text.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A file and the setting that names it. Errors contain both.
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
    /// Takes the setting in the form that users know: `VARIABLE (--flag)`.
    #[must_use]
    pub fn new(setting: &'static str, path: PathBuf) -> Self {
        Self { setting, path }
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The content of the file, without a byte order mark.
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn read(&self) -> Result<Vec<u8>, FileError> {
        let mut bytes = std::fs::read(&self.path).map_err(|error| self.error(error.to_string()))?;
        if bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(bytes)
    }

    /// The error for a setting that has no effect without another one.
    #[must_use]
    pub fn needs(&self, other: &str) -> String {
        self.error(format!("needs {other} beside it")).to_string()
    }

    /// The error for bad content.
    #[must_use]
    pub fn error(&self, reason: impl Into<String>) -> FileError {
        FileError { setting: self.setting, path: self.path.clone(), reason: reason.into() }
    }
}
