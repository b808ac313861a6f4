//! A property of every setting, checked for any value.

use std::ffi::OsString;

use clap::{Arg, Parser};

use super::{is_secret, one_line, setting, shown};
use crate::properties::assert_sentence;
use crate::{client, process, server};

/// The settings of the server.
#[derive(Debug, Parser)]
struct Server {
    #[command(flatten)]
    server: server::Settings,
    #[command(flatten)]
    log: process::LogSettings,
}

/// The settings of the client.
#[derive(Debug, Parser)]
struct Client {
    #[command(flatten)]
    client: client::Settings,
    #[command(flatten)]
    log: process::LogSettings,
}

/// A value is accepted, or refused in one line that names the flag and the value. The line does not
/// show the value of a secret. The input is the number of the flag and the value.
pub fn flag(input: &[u8]) {
    let Some((&number, value)) = input.split_first() else { return };
    // The system does not permit null bytes.
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
    let Err(error) = S::try_parse_from([OsString::from("test"), argument_of(argument)]) else { return };
    let line = one_line(&error, &command);
    assert_sentence(&line);
    match std::str::from_utf8(value) {
        Ok("") => assert!(line.contains(flag), "{line}"),
        Ok(value) if setting(flag, &command).is_some_and(is_secret) => {
            // A short value may occur in the line by chance.
            assert!(line.contains(flag) && (value.len() < 8 || !line.contains(value)), "{line}");
        }
        Ok(value) => {
            let shown = format!("{:?}", shown(value));
            assert!(line.contains(flag) && line.contains(&shown), "{line}");
        }
        // clap replaces invalid bytes in the value that it shows, or shows no value.
        Err(_) => assert!(line.contains("UTF-8") || line.contains(flag), "{line}"),
    }
}

#[cfg(unix)]
fn argument_of(bytes: Vec<u8>) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes)
}

/// On other systems an argument is not a sequence of bytes.
#[cfg(not(unix))]
fn argument_of(bytes: Vec<u8>) -> OsString {
    String::from_utf8_lossy(&bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// A password that no line contains by chance.
    const PASSWORD: &str = "Qx7Qx7Qx7";

    /// Every text that is one edit away from this one and contains the password.
    fn edited(text: &str) -> Vec<Vec<u8>> {
        let begin = text.find(PASSWORD).expect("a password");
        let outside = (0..=text.len()).filter(|at| !(begin + 1..begin + PASSWORD.len()).contains(at));
        let mut all = Vec::new();
        for at in outside {
            let (before, after) = text.as_bytes().split_at(at);
            for piece in [b":", b"/", b"@", b"?", b"#", b"%", b",", b"[", b" ", b"\n", b"\\", b"=", b"1", b"\xff"] {
                all.push([before, piece, after].concat());
                if at != begin && !after.is_empty() {
                    all.push([before, piece, &after[1..]].concat());
                }
            }
            if at != begin && !after.is_empty() {
                all.push([before, &after[1..]].concat());
            }
            all.push(after.to_vec());
        }
        all.retain(|text| text.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes()));
        all
    }

    #[test]
    fn a_password_is_not_shown_however_malformed_its_url() {
        let (mut taken, mut refused) = (0, 0);
        for url in [
            format!("redis://user:{PASSWORD}@host:6379/0"),
            format!("rediss://:{PASSWORD}@[::1]:6379"),
            format!("redis+sentinel://user:{PASSWORD}@one:1,two:2/room/3"),
            format!("redis://user:{PASSWORD}/and@host"),
            format!("redis://user:12/{PASSWORD}@host/0"),
            format!("redis://user:12#{PASSWORD}@host"),
            format!("redis://user:12?{PASSWORD}@host"),
            format!("{PASSWORD}://user@host"),
            format!("user:{PASSWORD}@host:6379"),
        ] {
            for text in edited(&url) {
                for arguments in [vec![[b"--redis-url=", &*text].concat()], vec![b"--redis-url".to_vec(), text.clone()]]
                {
                    let arguments = std::iter::once(b"test".to_vec()).chain(arguments).map(argument_of);
                    let said = match Server::try_parse_from(arguments) {
                        Ok(server) => format!("{:?}", server.server.redis),
                        Err(error) => one_line(&error, &Server::command()),
                    };
                    assert!(!said.contains(PASSWORD), "{:?}: {said}", String::from_utf8_lossy(&text));
                    *if said.starts_with("RedisSettings") { &mut taken } else { &mut refused } += 1;
                }
            }
        }
        assert!(taken > 100 && refused > 1_000, "{taken} {refused}");
    }
}
