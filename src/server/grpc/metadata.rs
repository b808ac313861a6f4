//! What our callers may say beyond the assignment, in the metadata of a call, and what they are told there.
//!
//! Who says nothing gets exactly what the assignment has.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tonic::Status;

use crate::proto::{
    self, EPOCH, IDEMPOTENCY_KEY, IDEMPOTENCY_KEY_MAX, POSITION, RESUME_AFTER, RESUMED, WAITING, WAITING_MAX,
};
use crate::room::{Epoch, Opened, Start};

/// Where a reader wants to begin.
///
/// # Errors
/// `INVALID_ARGUMENT` with the name of what does not parse, or is missing beside the other.
pub(crate) fn start(headers: &HeaderMap) -> Result<Start, Status> {
    match (parsed(headers, RESUME_AFTER)?, epoch(headers)?, waiting(headers)?) {
        (None, _, None) => Ok(Start::Now),
        (None, _, Some(waiting)) => Ok(Start::Ago(waiting)),
        (Some(after), Some(epoch), None) => Ok(Start::After(epoch, after)),
        (Some(_), _, Some(_)) => Err(Status::invalid_argument(format!(
            "{RESUME_AFTER} and {WAITING} both say where the stream begins: only one of them can"
        ))),
        (Some(_), None, None) => Err(Status::invalid_argument(format!(
            "{RESUME_AFTER} needs {EPOCH} beside it, as a former stream had it in its headers"
        ))),
    }
}

/// How long the caller has waited for this stream.
fn waiting(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get(WAITING) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    // u64's own parser takes a plus sign.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text);
    let millis = digits.and_then(|digits| digits.parse().ok()).filter(|millis| *millis <= WAITING_MAX);
    millis.map(Duration::from_millis).map(Some).ok_or_else(|| {
        Status::invalid_argument(format!("{WAITING} must be milliseconds in decimal digits, at most {WAITING_MAX}"))
    })
}

/// The epoch in which a call is meant to be made.
///
/// # Errors
/// `INVALID_ARGUMENT` if it is none.
pub(crate) fn epoch(headers: &HeaderMap) -> Result<Option<Epoch>, Status> {
    parsed(headers, EPOCH)
}

/// The key of a message that may come again.
///
/// # Errors
/// `INVALID_ARGUMENT` if it is empty, too long, or not of visible ASCII characters.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<&str>, Status> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    match value.to_str() {
        Ok(key) if proto::is_idempotency_key(key.as_bytes()) => Ok(Some(key)),
        _ => Err(Status::invalid_argument(format!(
            "{IDEMPOTENCY_KEY} must be 1 to {IDEMPOTENCY_KEY_MAX} visible ASCII characters"
        ))),
    }
}

/// Tells a reader where it is.
pub(crate) fn tell(headers: &mut HeaderMap, opened: &Opened) {
    let mut put = |name, text: String| {
        // Hexadecimal digits and times always make a value.
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    };
    put(EPOCH, opened.epoch.to_string());
    put(POSITION, opened.position.to_string());
    if let Some(resumed) = opened.resumed {
        put(RESUMED, resumed.to_string());
    }
}

fn parsed<T>(headers: &HeaderMap, name: &str) -> Result<Option<T>, Status>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().map_err(|_| Status::invalid_argument(format!("{name} is not ASCII text")))?;
    text.parse().map(Some).map_err(|error| Status::invalid_argument(format!("{name} is {text:?}: {error}")))
}
