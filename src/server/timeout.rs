//! The deadline that a caller sets.

use std::time::Duration;

use http::HeaderMap;
use tonic::Status;

/// The caller's deadline: `grpc-timeout`, at most 8 digits and a unit.
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
pub(super) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
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
