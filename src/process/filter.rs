//! The filter of the log.

use std::str::FromStr;

use thiserror::Error;
use tracing_subscriber::filter::{LevelFilter, Targets};

/// The level of an empty filter.
const DEFAULT: LevelFilter = LevelFilter::INFO;

/// The level for the whole program, and levels for parts of it.
#[derive(Debug, Clone)]
pub(super) struct LogFilter(pub(super) Targets);

/// The text is not a filter. The library would take it for the name of a part without events, and
/// the log would be silent.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum FilterError {
    #[error(
        "{0:?} must be a level: off, error, warn, info, debug or trace, also for a part, as in messenger::client=debug"
    )]
    NoLevel(String),
    #[error("{0:?} must be the name of a part, such as messenger::client")]
    NoPart(String),
}

impl FromStr for LogFilter {
    type Err = FilterError;

    /// Parses levels separated by commas, as in `warn,messenger::client=debug`. Spaces around them
    /// are ignored.
    fn from_str(text: &str) -> Result<Self, FilterError> {
        let pieces = text.split(',').map(str::trim).filter(|piece| !piece.is_empty());
        let mut targets = Targets::new();
        let mut is_empty = true;
        for piece in pieces {
            is_empty = false;
            targets = match piece.split_once('=') {
                Some((part, level)) => targets.with_target(part_of(part)?, level_of(level)?),
                // A single word must be a level, or it is a mistake: no part but the whole program
                // has a name without `::`.
                None if piece.contains("::") || piece == env!("CARGO_PKG_NAME") => {
                    targets.with_target(part_of(piece)?, LevelFilter::TRACE)
                }
                None => targets.with_default(level_of(piece)?),
            };
        }
        // People empty RUST_LOG to switch off the logs of other programs; it must not silence this
        // one.
        Ok(Self(if is_empty { targets.with_default(DEFAULT) } else { targets }))
    }
}

fn level_of(text: &str) -> Result<LevelFilter, FilterError> {
    let level = text.trim();
    // The library takes an empty text for a level.
    let parsed = if level.is_empty() { None } else { level.parse().ok() };
    parsed.ok_or_else(|| FilterError::NoLevel(text.to_owned()))
}

fn part_of(text: &str) -> Result<&str, FilterError> {
    let part = text.trim();
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if part.split("::").all(is_name) { Ok(part) } else { Err(FilterError::NoPart(text.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_parsed() {
        for (text, same) in [
            ("", "info"),
            (" ", "info"),
            (" info", "info"),
            ("INFO", "info"),
            ("warn,", "warn"),
            (" warn , messenger::client = debug ", "warn,messenger::client=debug"),
            ("messenger", "messenger=trace"),
            ("messenger::client", "messenger::client=trace"),
            ("off", "off"),
        ] {
            let filter = text.parse::<LogFilter>().map(|filter| filter.0.to_string());
            assert_eq!(filter, Ok(same.parse::<Targets>().expect("a filter").to_string()), "{text:?}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["\"info\"", "'info'", "inof", "warning", "info debug", "=", "=info", "messenger=", "a b=info"] {
            assert!(text.parse::<LogFilter>().is_err(), "{text}");
        }
        for text in ["messenger=loud", "messenger::=info", "::", "messenger[{field}]=info", "a=info=debug", "info;warn"]
        {
            assert!(text.parse::<LogFilter>().is_err(), "{text}");
        }
    }
}
