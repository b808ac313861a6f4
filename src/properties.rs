//! Properties that hold for any bytes from outside, as functions that panic if the bytes break
//! them.
//!
//! `fuzz/` searches for such bytes. The tests check every property with the corpus of that search
//! in `fuzz/corpus`, so a bug that was found once stays fixed.

use std::fmt::Debug;
use std::time::{Duration, UNIX_EPOCH};

use http::Uri;
use prost_types::Timestamp;

use crate::net::ServerAddr;
use crate::send_time::{SendTime, rfc3339};
use crate::settings::{ByteSize, bytes_between, count_between, duration, port};

pub use crate::client::http::properties::message_body;
pub use crate::room::properties::resume;
pub use crate::server::grpc::properties::{metadata, request};
pub use crate::settings::properties::flag;

/// A property, which panics if the input breaks it.
pub type Property = fn(&[u8]);

/// All properties, each with the name of its fuzz target and of its folder in the corpus.
pub const ALL: [(&str, Property); 8] = [
    ("address", address),
    ("flag", flag),
    ("message_body", message_body),
    ("metadata", metadata),
    ("request", request),
    ("resume", resume),
    ("send_time", send_time),
    ("units", units),
];

/// The length of `2025-09-20T10:58:42.665193557Z`.
const TIME_LENGTH: usize = 30;

/// A parsed time prints as it was written. Every time prints in one form, and the texts sort like
/// the times.
pub fn send_time(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(time) = text.parse::<SendTime>()
    {
        let printed = time.to_string();
        assert_eq!(printed.parse(), Ok(time));
        assert_eq!(SendTime::try_from(Timestamp::from(time)), Ok(time));
        let written = text.strip_suffix('Z').expect("UTC");
        assert!(printed.starts_with(written) && !written.ends_with('.'), "{text:?} became {printed:?}");
    }
    if let Some((last, rest)) = input.split_first_chunk()
        && let Some(now) = rest.first_chunk()
    {
        let now = UNIX_EPOCH + Duration::from_nanos(u64::from_be_bytes(*now));
        // Not after 2262, so that a next time exists.
        let last = SendTime::default().next(UNIX_EPOCH + Duration::from_nanos(u64::from_be_bytes(*last) >> 1));
        let last = last.expect("before 2554");
        let next = last.next(now).expect("before 2554");
        assert!(next > last && next.to_string() > last.to_string(), "{next} after {last}");
        assert!(!next.as_nanos().is_multiple_of(1000));
        assert_eq!((next.to_string().len(), next.to_string().parse()), (TIME_LENGTH, Ok(next)));
    }
    if let Some((seconds, rest)) = input.split_first_chunk()
        && let Some(nanos) = rest.first_chunk()
    {
        let foreign = Timestamp { seconds: i64::from_be_bytes(*seconds), nanos: i32::from_be_bytes(*nanos) };
        let printed = rfc3339(&foreign).to_string();
        assert!(printed.len() == TIME_LENGTH && printed.ends_with('Z'), "{printed}");
        match SendTime::try_from(foreign) {
            // A fraction of more than a second is carried over in a position, and cut off in a
            // print.
            Ok(time) if foreign.nanos < 1_000_000_000 => {
                assert_eq!((Timestamp::from(time), time.to_string()), (foreign, printed));
            }
            Ok(time) => assert!(time.as_nanos() >= 1_000_000_000),
            Err(_) => assert!(foreign.seconds < 0 || foreign.nanos < 0 || foreign.seconds > 18_446_744_072),
        }
    }
}

/// A parsed value is within its bounds, and parses again from its print. An error is one line.
pub fn units(input: &[u8]) {
    const MIB: usize = 1 << 20;
    let Ok(text) = std::str::from_utf8(input) else { return };
    let bytes = reason_or(text.parse::<ByteSize>());
    if let Some(bytes) = bytes {
        assert_eq!(bytes.to_string().parse(), Ok(bytes));
        assert!(text.starts_with(|first: char| first.is_ascii_digit()), "{text:?}");
    }
    let within = reason_or(bytes_between("8MiB", "1TiB")(text));
    assert_eq!(within, bytes.filter(|bytes| (8 * MIB..=MIB * MIB).contains(&bytes.0)));
    if let Some(count) = reason_or(count_between(1_000, 100_000_000)(text)) {
        assert!((1_000..=100_000_000).contains(&count) && text.trim_start_matches('0') == count.to_string());
    }
    if let Some(port) = reason_or(port(text)) {
        assert!(text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse() == Ok(port));
    }
    if let Some(time) = reason_or(duration(text)) {
        assert!(!time.is_zero() && time <= Duration::from_hours(24), "{time:?}");
        assert_eq!(duration(&humantime::format_duration(time).to_string()), Ok(time));
    }
}

/// A parsed address has a host and a port, parses again from its print, and is the origin of calls.
pub fn address(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some(address) = reason_or(text.parse::<ServerAddr>().map_err(|error| error.to_string())) else { return };
    assert_eq!(address.to_string().parse(), Ok(address.clone()));
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = rest.rsplit_once(':').expect("a colon");
    assert_eq!((address.host(), port.parse()), (host.trim_matches(['[', ']']), Ok(address.port())));
    assert!(address.port() != 0 && port.bytes().all(|byte| byte.is_ascii_digit()) && !address.host().is_empty());
    let without_zone = host.split_once('%').map_or(host.to_owned(), |(address, _)| format!("{address}]"));
    let origin: Uri = address.origin();
    assert_eq!((origin.scheme_str(), origin.path(), origin.query()), (Some(scheme), "/", None));
    assert_eq!((origin.host(), origin.port_u16()), (Some(&*without_zone), Some(address.port())));
}

/// The value, or `None` after a check of the error.
fn reason_or<T: Debug>(value: Result<T, String>) -> Option<T> {
    value.inspect_err(|reason| assert_sentence(reason)).ok()
}

/// Panics unless the text is one line without control characters.
pub(crate) fn assert_sentence(text: &str) {
    assert!(!text.is_empty() && !text.contains(char::is_control), "not a line: {text:?}");
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use shuttle::scheduler::RandomScheduler;
    use shuttle::{Config, Runner};

    use super::*;

    #[test]
    fn hold_for_the_whole_corpus() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        let mut folders = entries(&corpus);
        for (name, property) in ALL {
            folders.retain(|folder| !folder.ends_with(name));
            let inputs = entries(&corpus.join(name));
            assert!(!inputs.is_empty(), "no corpus of {name}");
            for file in inputs {
                let input: Arc<[u8]> = std::fs::read(&file).expect("an input").into();
                eprintln!("{}", file.display());
                // In tests the lock of the room is shuttle's (`room/sync.rs`), so this runs under
                // shuttle. One thread has one schedule. Nested JSON needs a larger stack than the
                // default.
                let mut config = Config::new();
                config.stack_size = 4 << 20;
                Runner::new(RandomScheduler::new(1), config).run(move || property(&input));
            }
        }
        assert!(folders.is_empty(), "no property for: {folders:?}");
    }

    fn entries(folder: &Path) -> Vec<std::path::PathBuf> {
        let entries = folder.read_dir().unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }
}
