//! Settings from flags and environment variables: how they are parsed, and the errors about bad
//! values.
//!
//! The settings themselves are defined by the modules that use them.

mod file;
mod group;
#[cfg(any(test, fuzzing))]
pub mod properties;
mod secret;
mod units;

use std::error::Error as _;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Parser};

pub(crate) use self::file::BYTE_ORDER_MARK;
pub use self::file::{File, FileError};
pub(crate) use self::group::settings_group;
pub use self::secret::{Secret, SecretError};
pub use self::units::{ByteSize, bytes_between, count_between, duration, port};

/// The exit status after a bad setting. Shells use the same one for wrong usage.
const BAD_SETTING: u8 = 2;

/// The output of `--version`: the version, and the commit if it was known at build time.
pub const VERSION: &str = env!("MESSENGER_VERSION");

/// Parses the settings of this program.
///
/// # Errors
/// The exit status, after the output: 0 after `--help` and `--version`; 2 after one line on stderr,
/// which names the variable, the flag and the bad value. The value of a secret setting is never
/// shown.
pub fn parse<S: Parser>() -> Result<S, ExitCode> {
    // The help shows no values of variables: even one that is not secret may contain a password by
    // mistake.
    let matches = S::command().mut_args(|argument| argument.hide_env_values(true)).try_get_matches();
    matches.and_then(|matches| S::from_arg_matches(&matches)).map_err(|error| {
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            // Fails if stdout is closed, and then nobody reads it.
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
    // For unknown arguments and surplus values, clap's own message shows the value. It may be part
    // of a secret, such as a URL with a space in it.
    match error.kind() {
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {}
        ErrorKind::UnknownArgument => return unknown(context(ContextKind::InvalidArg).unwrap_or_default()),
        ErrorKind::TooManyValues => {
            let flag = context(ContextKind::InvalidArg).unwrap_or_default();
            return format!("{} takes no value", setting_name(flag, command));
        }
        _ => return first_line(error),
    }
    let (Some(flag), Some(value)) = (context(ContextKind::InvalidArg), context(ContextKind::InvalidValue)) else {
        return first_line(error);
    };
    let name = setting_name(flag, command);
    if setting(flag, command).is_some_and(is_secret) {
        let reason = error.source().map_or_else(|| "must have a value".to_owned(), ToString::to_string);
        return format!("{name} has a bad value (not shown): {reason}");
    }
    let value = &shown(value);
    match (error.source(), error.get(ContextKind::ValidValue)) {
        (Some(reason), _) => format!("{name} is {value:?}: {reason}"),
        (None, Some(ContextValue::Strings(valid))) if !valid.is_empty() => {
            format!("{name} is {value:?}: must be one of {}", valid.join(", "))
        }
        _ => format!("{name} needs a value"),
    }
}

/// Whether the value of a setting must never be shown.
fn is_secret(argument: &Arg) -> bool {
    argument.is_hide_env_values_set()
}

/// The value of a setting that is not secret, without the part before an `@`, which may be a
/// password all the same.
pub(crate) fn shown(value: &str) -> String {
    value.rsplit_once('@').map_or_else(|| value.to_owned(), |(_, rest)| format!("…@{rest}"))
}

/// The error for an unknown argument. It shows at most the name of a flag, because anything else
/// may be a secret, or its second half.
fn unknown(argument: &str) -> String {
    let name = argument.split('=').next().unwrap_or_default();
    let letters = name.trim_start_matches('-');
    let is_flag = name.starts_with('-') && letters.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let what = if is_flag { format!("unknown flag {name:?}") } else { "unexpected argument".to_owned() };
    format!("{what}: see --help for the flags and variables")
}

/// Finds the argument that clap calls `--server-port <PORT>`.
fn setting<'a>(flag: &str, command: &'a Command) -> Option<&'a Arg> {
    let flag = flag.split([' ', '=']).next().unwrap_or(flag);
    command.get_arguments().find(|argument| argument.get_long() == flag.strip_prefix("--"))
}

/// The variable and the flag of a setting. The user may have set either, and looks for that name.
fn setting_name(flag: &str, command: &Command) -> String {
    let argument = setting(flag, command);
    let flag = flag.split([' ', '=']).next().unwrap_or(flag);
    match argument.and_then(Arg::get_env).and_then(|name| name.to_str()) {
        Some(variable) => format!("{variable} ({flag})"),
        None => flag.to_owned(),
    }
}

/// The error for a value that is not UTF-8. clap does not name the variable, so this looks for it.
fn not_utf8(command: &Command) -> String {
    let variables = command.get_arguments().filter_map(|argument| Some((argument, argument.get_env()?)));
    let found = variables
        .filter_map(|(argument, name)| Some((argument, name.to_str()?, std::env::var_os(name)?)))
        .find(|(.., value)| value.to_str().is_none());
    match found {
        Some((argument, name, _)) if is_secret(argument) => {
            format!("{name} has a bad value (not shown): must be UTF-8")
        }
        Some((_, name, value)) => format!("{name} is {}: must be UTF-8", shown(&value.to_string_lossy())),
        None => "an argument is not UTF-8".to_owned(),
    }
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}
