//! The deadline that a caller sets. It counts from when the headers of the call came.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

/// When the caller no longer waits. To be asked for at once when a call begins.
///
/// # Errors
/// `INVALID_ARGUMENT` if `grpc-timeout` does not parse.
pub(crate) fn deadline(headers: &HeaderMap) -> Result<Option<Instant>, Status> {
    // A sum that no clock can name is thousands of years away: no deadline.
    Ok(timeout(headers)?.and_then(|timeout| Instant::now().checked_add(timeout)))
}

/// What comes of `event`, unless the deadline passes first.
pub(crate) async fn before<T>(deadline: Option<Instant>, event: impl Future<Output = T>) -> Result<T, Elapsed> {
    match deadline {
        None => Ok(event.await),
        Some(deadline) => timeout_at(deadline, event).await,
    }
}

/// The status of a call whose deadline has passed; `outcome` says what that means for it.
pub(crate) fn passed(outcome: &str) -> Status {
    Status::deadline_exceeded(format!("the deadline of this call has passed{outcome}"))
}

/// The caller's deadline: `grpc-timeout`, at most 8 digits and a unit.
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
pub(crate) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get("grpc-timeout") else {
        return Ok(None);
    };
    let parse = || {
        let (digits, unit) = value.to_str().ok()?.split_at_checked(value.len().checked_sub(1)?)?;
        if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number: u64 = digits.parse().ok()?;
        match unit {
            "H" => Some(Duration::from_secs(number * 3600)),
            "M" => Some(Duration::from_secs(number * 60)),
            "S" => Some(Duration::from_secs(number)),
            "m" => Some(Duration::from_millis(number)),
            "u" => Some(Duration::from_micros(number)),
            "n" => Some(Duration::from_nanos(number)),
            _ => None,
        }
    };
    match parse() {
        Some(timeout) => Ok(Some(timeout)),
        None => Err(Status::invalid_argument(format!(
            "grpc-timeout \"{}\" is not a number of at most 8 digits and a unit",
            value.as_bytes().escape_ascii()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn parse(value: &str) -> Result<Option<Duration>, Status> {
        timeout(&HeaderMap::from_iter([("grpc-timeout".parse().expect("a name"), value.parse().expect("a value"))]))
    }

    #[test]
    fn reads_every_unit_of_a_timeout() {
        assert!(matches!(timeout(&HeaderMap::new()), Ok(None)));
        for (value, millis) in
            [("2H", 7_200_000), ("3M", 180_000), ("4S", 4_000), ("5m", 5), ("6000u", 6), ("99999999n", 99)]
        {
            assert_eq!(parse(value).expect(value).map(|timeout| timeout.as_millis()), Some(millis));
        }
    }

    #[test]
    fn refuses_what_is_no_timeout() {
        for value in ["", "S", "5", "5s", "-5S", "+5S", "123456789S", "1.5S", "5 S"] {
            assert_eq!(parse(value).expect_err(value).code(), Code::InvalidArgument);
        }
    }
}
