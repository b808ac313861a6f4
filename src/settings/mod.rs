//! Settings from flags and environment variables: how values are read, and what a wrong one is answered with.
//!
//! What there is to set stands with what it sets: [`crate::server::Settings`], [`crate::client::Settings`],
//! [`crate::process::LogSettings`].

mod checked;
mod file;
#[cfg(any(test, fuzzing))]
pub mod properties;
mod units;

use std::error::Error as _;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Parser};

pub(crate) use self::checked::checked;
pub use self::file::{File, FileError};
pub use self::units::{Bytes, bytes_between, count_between, duration, port};

/// Exit status for a setting that can't be used; the one that shells use for wrong usage.
const BAD_SETTING: u8 = 2;

/// What `--version` says: the version, and the commit where it was known at build time.
pub const VERSION: &str = env!("MESSENGER_VERSION");

/// Reads the settings of this program.
///
/// # Errors
/// The exit status with which to end, everything said: 0 after `--help` and `--version`, 2 after one line on stderr that names the
/// variable, the flag and the value which is wrong.
pub fn parse<S: Parser>() -> Result<S, ExitCode> {
    S::try_parse().map_err(|error| {
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            // Nothing is left to do about a closed stdout.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        let command = S::command();
        let _ = writeln!(io::stderr(), "{}: {}", command.get_name(), one_line(&error, &command));
        ExitCode::from(BAD_SETTING)
    })
}

fn one_line(error: &clap::Error, command: &Command) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    if error.kind() == ErrorKind::InvalidUtf8 {
        return not_utf8(command);
    }
    if !matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation) {
        return first_line(error);
    }
    let (Some(flag), Some(value)) = (context(ContextKind::InvalidArg), context(ContextKind::InvalidValue)) else {
        return first_line(error);
    };
    let name = setting_name(flag, command);
    let value = &without_password(flag, value);
    match (error.source(), error.get(ContextKind::ValidValue)) {
        (Some(reason), _) => format!("{name} is {value:?}: {reason}"),
        (None, Some(ContextValue::Strings(valid))) if !valid.is_empty() => {
            format!("{name} is {value:?}, not one of: {}", valid.join(", "))
        }
        _ => format!("{name} needs a value"),
    }
}

/// A URL without its user and password, which are nobody's who reads the line.
fn without_password(flag: &str, value: &str) -> String {
    let Some((scheme, rest)) = value.split_once("://").filter(|_| flag.starts_with("--redis-url")) else {
        return value.to_owned();
    };
    rest.rsplit_once('@').map_or_else(|| value.to_owned(), |(_, host)| format!("{scheme}://…@{host}"))
}

/// `--server-port <PORT>` as the variable and the flag: whichever the user has set must be in the line.
fn setting_name(flag: &str, command: &Command) -> String {
    let flag = flag.split(' ').next().unwrap_or(flag);
    let argument = command.get_arguments().find(|argument| argument.get_long() == flag.strip_prefix("--"));
    match argument.and_then(clap::Arg::get_env).and_then(|name| name.to_str()) {
        Some(variable) => format!("{variable} ({flag})"),
        None => flag.to_owned(),
    }
}

/// Which variable it is; clap does not say.
fn not_utf8(command: &Command) -> String {
    let variables = command.get_arguments().filter_map(clap::Arg::get_env);
    let found = variables
        .filter_map(|name| Some((name.to_str()?, std::env::var_os(name)?)))
        .find(|(_, value)| value.to_str().is_none());
    match found {
        Some((name, value)) => format!("{name} is {}: not UTF-8", value.display()),
        None => "an argument is not UTF-8".to_owned(),
    }
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}
