//! The optional metadata of a call, and the metadata of a `ReadMessages` response.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tonic::Status;

use crate::proto::{
    self, EPOCH, IDEMPOTENCY_KEY, IDEMPOTENCY_KEY_MAX, POSITION, RESUME_AFTER, RESUMED, WAITING, WAITING_MAX,
};
use crate::room::{Epoch, Opened, Start};

/// The point at which a `ReadMessages` call asks its stream to start.
///
/// # Errors
/// `INVALID_ARGUMENT`, which names the metadata that does not parse or is missing.
pub(super) fn start(headers: &HeaderMap) -> Result<Start, Status> {
    match (parsed(headers, RESUME_AFTER)?, epoch(headers)?, waiting(headers)?) {
        (None, _, None) => Ok(Start::Now),
        (None, _, Some(waiting)) => Ok(Start::Ago(waiting)),
        (Some(after), Some(epoch), None) => Ok(Start::After(epoch, after)),
        (Some(_), _, Some(_)) => Err(Status::invalid_argument(format!(
            "{RESUME_AFTER} and {WAITING} both say where the stream begins: send only one of them"
        ))),
        (Some(_), None, None) => Err(Status::invalid_argument(format!(
            "{RESUME_AFTER} needs {EPOCH} beside it, from the headers of the earlier stream"
        ))),
    }
}

/// How long the caller has waited for a stream.
fn waiting(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get(WAITING) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    // The parser of u64 would accept a plus sign.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text);
    let millis = digits.and_then(|digits| digits.parse().ok()).filter(|millis| *millis <= WAITING_MAX);
    millis.map(Duration::from_millis).map(Some).ok_or_else(|| {
        Status::invalid_argument(format!("{WAITING} must be milliseconds in decimal digits, at most {WAITING_MAX}"))
    })
}

/// The epoch that a call is meant for.
///
/// # Errors
/// `INVALID_ARGUMENT` if the metadata is not an epoch.
pub(super) fn epoch(headers: &HeaderMap) -> Result<Option<Epoch>, Status> {
    parsed(headers, EPOCH)
}

/// The idempotency key of a message.
///
/// # Errors
/// `INVALID_ARGUMENT` if the metadata is not a key.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Status> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    match value.to_str() {
        Ok(key) if proto::is_idempotency_key(key.as_bytes()) => Ok(Some(key)),
        _ => Err(Status::invalid_argument(format!(
            "{IDEMPOTENCY_KEY} must be 1 to {IDEMPOTENCY_KEY_MAX} visible ASCII characters"
        ))),
    }
}

/// Adds to the headers of a response where its stream starts.
pub(super) fn insert_position(headers: &mut HeaderMap, opened: &Opened) {
    let mut insert = |name, text: String| {
        // Hexadecimal digits, times and booleans always make a header value.
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    };
    insert(EPOCH, opened.epoch.to_string());
    insert(POSITION, opened.position.to_string());
    if let Some(resumed) = opened.resumed {
        insert(RESUMED, resumed.to_string());
    }
}

fn parsed<T: FromStr<Err: Display>>(headers: &HeaderMap, name: &str) -> Result<Option<T>, Status> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().map_err(|_| Status::invalid_argument(format!("{name} is not ASCII text")))?;
    text.parse().map(Some).map_err(|error| Status::invalid_argument(format!("{name} is {text:?}: {error}")))
}
