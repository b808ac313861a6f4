//! Parsers for values with a unit or a range.

use std::fmt;
use std::time::Duration;

/// A number of bytes, written as `1500`, `64KiB`, `64MiB` or `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub usize);

const UNITS: [(&str, usize); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl std::str::FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (digits, unit) = UNITS
            .iter()
            .find_map(|(name, size)| Some((text.strip_suffix(name)?.trim_end(), *size)))
            .unwrap_or((text, 1));
        let number: Option<usize> = if digits.starts_with('+') { None } else { digits.parse().ok() };
        number
            .and_then(|number| number.checked_mul(unit))
            .map(Self)
            .ok_or_else(|| "must be a number of bytes, such as 67108864 or 64MiB".to_owned())
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size)) {
            Some((name, size)) => write!(f, "{}{name}", self.0 / size),
            None => self.0.fmt(f),
        }
    }
}

/// A parser for a number of bytes from `least` to `most`, both included.
///
/// # Panics
/// If a bound is not a number of bytes.
pub fn bytes_between(
    least: &'static str,
    most: &'static str,
) -> impl Fn(&str) -> Result<ByteSize, String> + Clone + Send + Sync + 'static {
    move |text| {
        let bound = |text: &str| text.parse::<ByteSize>().unwrap_or_else(|error| panic!("the bound {text}: {error}"));
        let bytes: ByteSize = text.parse()?;
        if (bound(least).0..=bound(most).0).contains(&bytes.0) {
            Ok(bytes)
        } else {
            Err(format!("must be {least} to {most}"))
        }
    }
}

/// A parser for a count from `least` to `most`, both included.
pub fn count_between(
    least: usize,
    most: usize,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |text| {
        let count = if text.starts_with('+') { None } else { text.parse().ok() };
        count
            .filter(|count| (least..=most).contains(count))
            .ok_or_else(|| format!("must be a whole number from {least} to {most}"))
    }
}

/// Parses a time: a number with a unit, as in `1500ms`, `5s` or `1m 30s`.
///
/// # Errors
/// If the text is not a time, or the time is 0 or more than a day.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration =
        humantime::parse_duration(text).map_err(|error| format!("must be a time, such as 1500ms or 5s: {error}"))?;
    if duration.is_zero() || duration > Duration::from_hours(24) {
        return Err("must be greater than 0 and at most 24h".to_owned());
    }
    Ok(duration)
}

/// Parses a TCP port.
///
/// # Errors
/// If the text is not a port.
pub fn port(text: &str) -> Result<u16, String> {
    let port = if text.starts_with('+') { None } else { text.parse().ok() };
    port.ok_or_else(|| "must be a TCP port, 0 to 65535".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_and_printed() {
        for (text, bytes, printed) in [
            ("0", 0, "0"),
            ("1500", 1500, "1500"),
            ("1024", 1024, "1KiB"),
            ("64 MiB", 64 << 20, "64MiB"),
            ("1GiB", 1 << 30, "1GiB"),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)));
            assert_eq!(ByteSize(bytes).to_string(), printed);
        }
        for text in ["", "MiB", "-1", "+1", "1.5MiB", "1MB", "x", "99999999999TiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn bounds_are_included() {
        let parse = bytes_between("1KiB", "4MiB");
        assert!(parse("1024").is_ok() && parse("4MiB").is_ok());
        assert!(parse("1023").is_err() && parse("4194305").is_err());
    }

    #[test]
    fn times_and_ports() {
        assert_eq!(duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert!(
            duration("5").is_err() && duration("").is_err() && duration("2days").is_err() && duration("-1s").is_err()
        );
        assert_eq!((port("0"), port("65535")), (Ok(0), Ok(65535)));
        assert!(port("65536").is_err() && port("").is_err() && port("+1").is_err() && port("http").is_err());
    }
}
