//! A value that is never shown.

use std::fmt;

/// A password. It shows neither in `Debug` nor in an error, and has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

/// The variable holds no password. The error does not contain the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The variable is set to nothing.
    #[error("the password is empty")]
    Empty,
    /// The value is no text.
    #[error("the password is not UTF-8")]
    NotUtf8,
}

impl Secret {
    /// Takes the value of this environment variable, if it is set. There are no flags for secrets: every user of a machine can see the
    /// flags of its programs.
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

    /// The password itself, for the peer that asks for it.
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
    fn it_does_not_show() {
        let secret = Secret::from("s3cret".to_owned());
        assert_eq!((format!("{secret:?}"), secret.expose()), ("Secret".to_owned(), "s3cret"));
    }
}
