//! A value that is never printed.

use std::fmt;

/// A password. Neither `Debug` nor an error shows it, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

/// The value is not a password. The error does not contain it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The value is empty.
    #[error("the password is empty")]
    Empty,
    /// The value is not UTF-8.
    #[error("the password is not UTF-8")]
    NotUtf8,
}

impl Secret {
    /// Takes the value of an environment variable, if it is set. Secrets have no flags, because
    /// every user of a machine can see the flags of its programs.
    ///
    /// # Errors
    /// One line that names the variable.
    pub fn configured(variable: &str) -> Result<Option<Self>, String> {
        let Some(value) = std::env::var_os(variable) else { return Ok(None) };
        let secret = match value.into_string() {
            Ok(text) if text.is_empty() => Err(SecretError::Empty),
            Ok(text) => Ok(Self::from(text)),
            Err(_) => Err(SecretError::NotUtf8),
        };
        secret.map(Some).map_err(|error| format!("{variable}: {error}"))
    }

    /// The password, for the peer that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_does_not_show_it() {
        let secret = Secret::from("s3cret".to_owned());
        assert_eq!((format!("{secret:?}"), secret.expose()), ("Secret".to_owned(), "s3cret"));
    }
}
