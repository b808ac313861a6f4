//! The deadline that a caller sets in `grpc-timeout`. It counts from the arrival of the headers.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

/// The time at which the caller stops waiting. Call this as soon as a call starts.
///
/// # Errors
/// `INVALID_ARGUMENT` if `grpc-timeout` does not parse.
pub(super) fn deadline(headers: &HeaderMap) -> Result<Option<Instant>, Status> {
    // A deadline that overflows the clock is thousands of years away, and so the same as none.
    Ok(timeout(headers)?.and_then(|timeout| Instant::now().checked_add(timeout)))
}

/// The output of `future`, unless the deadline passes first.
pub(super) async fn within<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Result<T, Elapsed> {
    match deadline {
        None => Ok(future.await),
        Some(deadline) => timeout_at(deadline, future).await,
    }
}

/// The status of a call whose deadline has passed. `outcome` completes the sentence with the
/// meaning for the call.
pub(super) fn deadline_exceeded(outcome: &str) -> Status {
    Status::deadline_exceeded(format!("the deadline of this call has passed{outcome}"))
}

/// Reads `grpc-timeout`: up to 8 digits and a unit.
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
pub(super) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    value.to_str().ok().and_then(parse).map(Some).ok_or_else(|| {
        Status::invalid_argument(format!(
            "grpc-timeout is \"{}\": must be 1 to 8 digits and a unit (H, M, S, m, u or n)",
            value.as_bytes().escape_ascii()
        ))
    })
}

fn parse(timeout: &str) -> Option<Duration> {
    let (digits, unit) = timeout.split_at_checked(timeout.len().checked_sub(1)?)?;
    if !matches!(digits.len(), 1..=8) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_hours(number)),
        "M" => Some(Duration::from_mins(number)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use tonic::Code;

    use super::*;

    fn of(value: &'static str) -> Result<Option<Duration>, Status> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", HeaderValue::from_static(value));
        timeout(&headers)
    }

    #[test]
    fn reads_every_unit_of_a_timeout() {
        assert!(matches!(timeout(&HeaderMap::new()), Ok(None)));
        for (value, millis) in
            [("2H", 7_200_000), ("3M", 180_000), ("4S", 4_000), ("5m", 5), ("6000u", 6), ("99999999n", 99)]
        {
            assert_eq!(of(value).expect(value).map(|timeout| timeout.as_millis()), Some(millis));
        }
    }

    #[test]
    fn refuses_other_values() {
        for value in ["", "S", "5", "5s", "-5S", "+5S", "123456789S", "1.5S", "5 S"] {
            assert_eq!(of(value).expect_err(value).code(), Code::InvalidArgument);
        }
    }
}
