//! The shared token, which admits a caller.
//!
//! gRPC and HTTP calls both carry it in `authorization: Bearer <token>` (RFC 6750).

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use prometheus_client::metrics::counter::Counter;
use subtle::ConstantTimeEq;
use thiserror::Error;
use tracing::debug;

use super::Reloaded;
use crate::settings::File;

/// The longest token, in bytes.
const TOKEN_MAX: usize = 4096;

const SCHEME: &[u8] = b"Bearer ";

/// The token, as a header value. It is marked as sensitive, so that `Debug` does not show it and
/// HTTP/2 does not compress it.
#[derive(Debug, Clone)]
pub struct Token(HeaderValue);

/// The bytes are not a token. The error does not contain them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TokenError {
    /// There are no bytes.
    #[error("the token is empty")]
    Empty,
    /// A header could not carry the token, or people could not type it.
    #[error("the token must be 1 to {TOKEN_MAX} visible ASCII characters")]
    NotVisible,
}

impl Token {
    /// Takes 1 to 4096 visible ASCII characters, and ignores line ends after them.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TokenError> {
        let end = bytes.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
        let token = &bytes[..end];
        if token.is_empty() {
            return Err(TokenError::Empty);
        }
        if token.len() > TOKEN_MAX || !token.iter().all(u8::is_ascii_graphic) {
            return Err(TokenError::NotVisible);
        }
        let mut value = HeaderValue::from_bytes(&[SCHEME, token].concat()).map_err(|_| TokenError::NotVisible)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    /// Takes the token from the variable or from the file; `None` if neither is configured.
    ///
    /// # Errors
    /// One line that names the setting.
    pub fn configured(variable: &'static str, file: Option<File>) -> Result<Option<Arc<Reloaded<Self>>>, String> {
        let (token, file) = match (std::env::var_os(variable), file) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                return Err(format!("{variable} and {variable}_FILE are both set: only one of them may be"));
            }
            (Some(value), None) => (Self::parse(value.as_encoded_bytes()), None),
            (None, Some(file)) => {
                let bytes = file.read().map_err(|error| error.to_string())?;
                (Self::parse(&bytes), Some(file))
            }
        };
        match (token, file) {
            (Ok(token), None) => {
                Reloaded::new(Vec::new(), move || Ok(token.clone())).map_err(|error| error.to_string())
            }
            (Err(error), None) => Err(format!("{variable}: {error}")),
            (_, Some(file)) => Reloaded::new(vec![file.clone()], move || {
                Self::parse(&file.read()?).map_err(|error| file.error(error.to_string()))
            })
            .map_err(|error| error.to_string()),
        }
        .map(|token| Some(Arc::new(token)))
    }

    /// The value of `authorization`.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }

    /// Compares in constant time: the duration depends on the length of the token, and on nothing
    /// else.
    fn is(&self, token: &[u8]) -> bool {
        self.0.as_bytes()[SCHEME.len()..].ct_eq(token).into()
    }
}

/// Admits callers that have the token, and counts the others.
#[derive(Debug)]
pub struct Guard {
    token: Arc<Reloaded<Token>>,
    refused: Counter,
}

/// The reason why a caller is refused. The error does not contain the caller's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoToken {
    /// The header is missing.
    #[error("authorization: Bearer <token> is missing")]
    Missing,
    /// The header has another scheme.
    #[error("authorization is not Bearer <token>")]
    NotBearer,
    /// The header has another token.
    #[error("the token in authorization is wrong")]
    Wrong,
}

impl Guard {
    /// Creates a guard for this token.
    #[must_use]
    pub fn new(token: Arc<Reloaded<Token>>) -> Self {
        Self { token, refused: Counter::default() }
    }

    /// The token that callers need.
    #[must_use]
    pub fn token(&self) -> &Arc<Reloaded<Token>> {
        &self.token
    }

    /// How many calls were refused.
    #[must_use]
    pub fn refused(&self) -> &Counter {
        &self.refused
    }

    /// Checks the token in the headers of a call, and counts a refusal.
    ///
    /// # Errors
    /// [`NoToken`]: the caller must refuse the call.
    pub fn admit(&self, headers: &HeaderMap) -> Result<(), NoToken> {
        let admitted = self.check(headers);
        if let Err(error) = admitted {
            self.refused.inc();
            debug!(%error, "call without a valid token");
        }
        admitted
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), NoToken> {
        let value = headers.get(AUTHORIZATION).ok_or(NoToken::Missing)?.as_bytes();
        // The name of the scheme is case-insensitive (RFC 9110, 11.1).
        let (scheme, token) = value.split_at_checked(SCHEME.len()).ok_or(NoToken::NotBearer)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(NoToken::NotBearer);
        }
        if self.token.current().is(token.trim_ascii_start()) { Ok(()) } else { Err(NoToken::Wrong) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_visible_ascii() {
        let header = |bytes| Token::parse(bytes).map(|token| token.header());
        for text in [&b"secret"[..], b"secret\n", b"secret\r\n", b"secret\n\n"] {
            assert_eq!(header(text).expect("a token"), "Bearer secret");
        }
        assert!(Token::parse(&[b'x'; TOKEN_MAX]).is_ok());
        for (bytes, error) in [
            (&b""[..], TokenError::Empty),
            (b"\n", TokenError::Empty),
            (b"two words", TokenError::NotVisible),
            (b"a\nb", TokenError::NotVisible),
            (b"\xd1\x8f", TokenError::NotVisible),
            (&[b'x'; TOKEN_MAX + 1], TokenError::NotVisible),
        ] {
            assert_eq!(Token::parse(bytes).expect_err("no token"), error, "{bytes:?}");
        }
    }

    #[test]
    fn only_the_token_is_admitted_and_refusals_are_counted() {
        let token = Token::parse(b"secret").expect("a token");
        let token = Reloaded::new(Vec::new(), move || Ok(token.clone())).expect("no file");
        let guard = Guard::new(Arc::new(token));
        let admit = |value: Option<&'static str>| {
            guard.admit(&value.map(|value| (AUTHORIZATION, HeaderValue::from_static(value))).into_iter().collect())
        };
        for value in ["Bearer secret", "bearer secret", "BEARER  secret"] {
            assert_eq!(admit(Some(value)), Ok(()), "{value}");
        }
        assert_eq!(guard.refused().get(), 0);
        for (value, error) in [
            (None, NoToken::Missing),
            (Some(""), NoToken::NotBearer),
            (Some("secret"), NoToken::NotBearer),
            (Some("Basic secret"), NoToken::NotBearer),
            (Some("Bearer"), NoToken::NotBearer),
            (Some("Bearer "), NoToken::Wrong),
            (Some("Bearer secre"), NoToken::Wrong),
            (Some("Bearer secreT"), NoToken::Wrong),
            (Some("Bearer secret2"), NoToken::Wrong),
            (Some("Bearer secret, Bearer x"), NoToken::Wrong),
        ] {
            assert_eq!(admit(value), Err(error), "{value:?}");
        }
        assert_eq!(guard.refused().get(), 10);
    }

    #[test]
    fn debug_does_not_show_it() {
        let token = Token::parse(b"secret").expect("a token");
        assert!(!format!("{token:?}").contains("secret"));
    }
}
