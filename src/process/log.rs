//! The log: one line per event, on stderr.

use std::io::{self, IsTerminal};

use clap::{Args, ValueEnum};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use super::filter::LogFilter;
use super::stderr::{LogGuard, Stderr};

/// The settings of the log.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Log")]
pub struct LogSettings {
    /// Format of the log, which goes to stderr. It never contains the text of a message.
    #[arg(long, env = "MESSENGER_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,

    /// Lowest level that is logged: error, warn, info or debug. A part of the program may have its
    /// own level, as in `warn,messenger::client=debug`.
    #[arg(long = "log", env = "RUST_LOG", value_name = "FILTER", default_value = "info")]
    filter: LogFilter,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// For programs: one JSON object per line.
    Json,
}

impl LogSettings {
    /// Starts the log of this process. Call it once, and keep the guard until the program ends.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn start(&self) -> io::Result<LogGuard> {
        let (stderr, guard) = Stderr::start()?;
        let lines = fmt::layer().with_writer(stderr).with_ansi(has_colours());
        let lines = match self.log_format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
        };
        tracing_subscriber::registry().with(lines.with_filter(self.filter.0.clone())).init();
        Ok(guard)
    }
}

/// Whether stderr is a terminal with colours, and its user has not disabled them
/// (<https://no-color.org>).
fn has_colours() -> bool {
    let says_no = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    io::stderr().is_terminal() && !says_no && !is_dumb
}
