//! What must hold for the value of any setting.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use clap::{Arg, Parser};

use super::{one_line, without_password};
use crate::properties::assert_sentence;
use crate::{client, process, server};

/// The settings of each program but the one that has both halves.
#[derive(Debug, Parser)]
struct Server {
    #[command(flatten)]
    server: server::Settings,
    #[command(flatten)]
    log: process::LogSettings,
}

#[derive(Debug, Parser)]
struct Client {
    #[command(flatten)]
    client: client::Settings,
    #[command(flatten)]
    log: process::LogSettings,
}

/// A value is taken, or refused in one line that names the flag and the value, which is shown without a password. The input is the number
/// of the flag, and the value.
pub fn flag(input: &[u8]) {
    let Some((&number, value)) = input.split_first() else { return };
    // A null byte is what the system itself does not let through.
    if value.contains(&0) {
        return;
    }
    if number < 128 { flag_of::<Server>(number, value) } else { flag_of::<Client>(number, value) }
}

fn flag_of<S: Parser>(number: u8, value: &[u8]) {
    let command = S::command();
    let flags: Vec<_> = command.get_arguments().filter_map(Arg::get_long).map(|name| format!("--{name}")).collect();
    let flag = &flags[usize::from(number) % flags.len()];
    let mut argument = format!("{flag}=").into_bytes();
    argument.extend_from_slice(value);
    let Err(error) = S::try_parse_from([OsString::from("test"), OsString::from_vec(argument)]) else { return };
    let line = one_line(&error, &command);
    assert_sentence(&line);
    match std::str::from_utf8(value) {
        Ok("") => assert!(line.contains(flag), "{line}"),
        Ok(value) => {
            let shown = format!("{:?}", without_password(flag, value));
            assert!(line.contains(flag) && line.contains(&shown), "{line}");
        }
        // clap replaces what is no character in the value that it shows, or shows none.
        Err(_) => assert!(line.contains("not UTF-8") || line.contains(flag), "{line}"),
    }
}
