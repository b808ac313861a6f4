//! The time of a message, which is also its position in the order.
//!
//! Times strictly increase, whatever the clock does, and they increase *as text* too. protobuf's
//! JSON form prints 0, 3, 6 or 9 fraction digits, and `Z` sorts after the digits, so a time with
//! fewer digits would sort after a later one of the same second. A [`SendTime`] is therefore never
//! a multiple of 1000 ns, and always prints with 9 digits.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;
use thiserror::Error;

/// 9999-12-31T23:59:59Z, the last second that RFC 3339 and `google.protobuf.Timestamp` can name.
const LAST_SECOND: i64 = 253_402_300_799;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The time at which the server accepted a message, in nanoseconds since the Unix epoch. The last
/// value is in the year 2554.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SendTime(u64);

impl SendTime {
    /// The next time in a strictly increasing sequence: `now`, or just after `self` if the clock
    /// stands still or steps back.
    ///
    /// # Errors
    /// [`ClockError`] if there is no later time.
    pub fn next(self, now: SystemTime) -> Result<Self, ClockError> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanos = u64::try_from(now.as_nanos()).map_err(|_| ClockError)?;
        let nanos = nanos.max(self.0.checked_add(1).ok_or(ClockError)?);
        // A multiple of 1000 would print with 6 digits or fewer. `u64::MAX` is not one, so this
        // does not overflow.
        Ok(Self(if nanos.is_multiple_of(1000) { nanos + 1 } else { nanos }))
    }

    /// The time `duration` before this one, but not before 1970.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The time for these microseconds since the Unix epoch. It is 1 ns later, so that it prints
    /// with 9 digits.
    #[must_use]
    pub fn of_micros(micros: u64) -> Self {
        Self(micros.saturating_mul(1000).saturating_add(1))
    }

    /// Whole microseconds since the Unix epoch.
    #[must_use]
    pub fn as_micros(self) -> u64 {
        self.0 / 1000
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub fn as_nanos(self) -> u64 {
        self.0
    }
}

/// The clock is past the last [`SendTime`]. A time that wraps or stands still would break the
/// order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the server's clock is past the year 2554, the last year of a sendTime: set the clock")]
pub struct ClockError;

/// The text or timestamp is not a time that a message can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a time like 2025-09-20T10:58:42.665193557Z is expected")]
pub struct SendTimeError;

impl FromStr for SendTime {
    type Err = SendTimeError;

    /// Parses the printed form, also with fewer digits.
    fn from_str(text: &str) -> Result<Self, SendTimeError> {
        let time = humantime::parse_rfc3339(text).map_err(|_| SendTimeError)?;
        let nanos = time.duration_since(UNIX_EPOCH).map_err(|_| SendTimeError)?.as_nanos();
        let time = u64::try_from(nanos).map(Self).map_err(|_| SendTimeError)?;
        // humantime also accepts a leap second, a tenth digit, and a point without digits.
        let written = text.strip_suffix('Z').filter(|written| !written.ends_with('.')).ok_or(SendTimeError)?;
        time.to_string().starts_with(written).then_some(time).ok_or(SendTimeError)
    }
}

impl TryFrom<Timestamp> for SendTime {
    type Error = SendTimeError;

    fn try_from(time: Timestamp) -> Result<Self, SendTimeError> {
        let (Ok(seconds), Ok(nanos)) = (u64::try_from(time.seconds), u64::try_from(time.nanos)) else {
            return Err(SendTimeError);
        };
        seconds.checked_mul(NANOS_PER_SECOND).and_then(|time| time.checked_add(nanos)).map(Self).ok_or(SendTimeError)
    }
}

impl From<SendTime> for Timestamp {
    fn from(time: SendTime) -> Self {
        // Both fit: the quotient is below 2^35, the remainder below 10^9.
        #[allow(clippy::cast_possible_wrap, clippy::cast_possible_truncation)]
        Self { seconds: (time.0 / NANOS_PER_SECOND) as i64, nanos: (time.0 % NANOS_PER_SECOND) as i32 }
    }
}

/// Prints RFC 3339 in UTC with 9 fraction digits. All programs print times in this form.
impl fmt::Display for SendTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        rfc3339(&Timestamp::from(*self)).fmt(f)
    }
}

/// Prints a time from another implementation, which may be any value, in the same form. A value
/// that RFC 3339 cannot express (before 1970, after 9999, a fraction out of range) becomes the
/// nearest one that it can.
#[must_use]
pub fn rfc3339(time: &Timestamp) -> impl fmt::Display + use<> {
    let seconds = u64::try_from(time.seconds.min(LAST_SECOND)).unwrap_or_default();
    let nanos = u32::try_from(time.nanos).unwrap_or_default().min(999_999_999);
    humantime::format_rfc3339_nanos(UNIX_EPOCH + Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(nanos)
    }

    fn first(nanos: u64) -> SendTime {
        SendTime::default().next(at(nanos)).expect("a time")
    }

    #[test]
    fn follows_the_clock() {
        let time = first(1_758_365_922_665_193_557);
        assert_eq!(time.to_string(), "2025-09-20T10:58:42.665193557Z");
    }

    #[test]
    fn increases_when_the_clock_stands_or_steps_back() {
        let begin = first(5_000_000_000_500);
        let mut last = begin;
        for now in [5_000_000_000_500, 4_000_000_000_000, 0, 5_000_000_000_499] {
            let next = last.next(at(now)).expect("a time");
            assert!(next > last);
            last = next;
        }
        assert_eq!(last.as_nanos(), begin.as_nanos() + 4);
        assert!(last.next(UNIX_EPOCH - Duration::from_secs(1)).is_ok_and(|next| next > last), "a clock before 1970");
    }

    #[test]
    fn ends_with_an_error_and_not_a_wrap() {
        let last = SendTime::default().next(at(u64::MAX)).expect("the last time there is");
        assert_eq!(last.as_nanos(), u64::MAX);
        assert_eq!(last.next(at(0)), Err(ClockError));
        for past in [1, 1_000_000_000, 3600 * 1_000_000_000] {
            let now = at(u64::MAX) + Duration::from_nanos(past);
            assert_eq!(SendTime::default().next(now), Err(ClockError), "{past} ns past the last");
        }
        // It continues when the clock is right again.
        assert!(SendTime::default().next(at(5)).is_ok());
    }

    #[test]
    fn increases_as_text_too() {
        let mut last = first(1_758_365_922_999_998_990);
        for _ in 0..5_000 {
            let next = last.next(at(0)).expect("a time");
            let text = next.to_string();
            assert!(text > last.to_string() && text.len() == "2025-09-20T10:58:42.665193557Z".len(), "{text}");
            assert!(!next.as_nanos().is_multiple_of(1000));
            last = next;
        }
    }

    #[test]
    fn a_whole_second_keeps_its_digits() {
        let time = first(1_758_365_922_000_000_000);
        assert_eq!(time.to_string(), "2025-09-20T10:58:42.000000001Z");
    }

    #[test]
    fn comes_back_from_text_and_timestamp() {
        let time = first(1_758_365_922_665_193_557);
        assert_eq!(time.to_string().parse(), Ok(time));
        assert_eq!(SendTime::try_from(Timestamp::from(time)), Ok(time));
        assert_eq!("1970-01-01T00:00:00Z".parse(), Ok(SendTime::default()));
        for text in [
            "",
            "now",
            "2025-09-20",
            "2025-09-20T10:58:42",
            "2025-09-20T10:58:42.Z",
            "2025-09-20T10:58:42+01:00",
            "2025-09-20T10:58:42.6651935571Z",
            "2016-12-31T23:59:60Z",
            "1969-12-31T23:59:59Z",
        ] {
            assert_eq!(text.parse::<SendTime>(), Err(SendTimeError), "{text:?}");
        }
        assert!(SendTime::try_from(Timestamp { seconds: -1, nanos: 0 }).is_err());
        assert!(SendTime::try_from(Timestamp { seconds: i64::MAX, nanos: 0 }).is_err());
    }

    #[test]
    fn foreign_times_always_print() {
        let text = |seconds, nanos| rfc3339(&Timestamp { seconds, nanos }).to_string();
        assert_eq!(text(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(text(1_758_365_922, 5_000), "2025-09-20T10:58:42.000005000Z");
        assert_eq!(text(-1, 5), "1970-01-01T00:00:00.000000005Z");
        assert_eq!(text(i64::MAX, i32::MAX), "9999-12-31T23:59:59.999999999Z");
        assert_eq!(text(i64::MIN, i32::MIN), "1970-01-01T00:00:00.000000000Z");
    }
}
