//! The log: one event a line, on stderr.

use std::io::{self, IsTerminal};

use clap::{Args, ValueEnum};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use super::filter::LogFilter;
use super::stderr::{LogGuard, Stderr};

/// What is logged, and how.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Log")]
pub struct LogSettings {
    /// How a line looks. The log goes to stderr and never has the text of a message in it.
    #[arg(long, env = "MESSENGER_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,

    /// What is logged: error, warn, info or debug, also for a part of the program, as in `warn,messenger::client=debug`.
    #[arg(long = "log", env = "RUST_LOG", value_name = "FILTER", default_value = "info")]
    filter: LogFilter,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

impl LogSettings {
    /// Starts the log of this process. Call it once, and keep what it gives until the end.
    ///
    /// # Errors
    /// If the system gives no thread to write from.
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

/// Whether stderr is a terminal that shows colours, and its user has not said no (<https://no-color.org>).
fn has_colours() -> bool {
    let says_no = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    io::stderr().is_terminal() && !says_no && !is_dumb
}
