//! Error replies of Redis. With such a reply Redis has done nothing, and the cause seldom goes away
//! by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::{ErrorKind, RedisError};

use super::settings::Settings;
use crate::settings::Secret;

/// The kinds of errors that are counted apart. An error of Redis begins with its kind.
const KINDS: [&str; 15] = [
    "AHEAD",
    "WRONGTYPE",
    "NOPERM",
    "OOM",
    "READONLY",
    "NOAUTH",
    "WRONGPASS",
    "MISCONF",
    "NOREPLICAS",
    "LOADING",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "BUSY",
    "ERR",
    "other",
];

/// How many characters of an error are passed on.
const MAX_LENGTH: usize = 200;

/// An error that Redis has sent.
#[derive(Debug, Clone)]
pub(super) struct ErrorReply {
    kind: usize,
    /// The text of the error, for logs and callers.
    pub(super) text: Arc<str>,
}

/// The errors that Redis answers with now. They are kept together, so that the log names a reason
/// once if it affects both.
#[derive(Debug, Default)]
pub(super) struct CurrentErrors {
    /// The error of reading the stream, while reading fails.
    pub(super) reads: Option<ErrorReply>,
    /// The error of posting messages, while posting fails.
    pub(super) posts: Option<ErrorReply>,
}

/// How often Redis has answered with an error, by kind.
#[derive(Debug, Clone, Copy, Default)]
pub struct ErrorReplyCounts([u64; KINDS.len()]);

/// Counts error replies.
#[derive(Debug, Default)]
pub(super) struct ErrorReplyCounters([AtomicU64; KINDS.len()]);

impl ErrorReply {
    /// The reply in this error. `None` if Redis has not sent the error: it is away then, or gives
    /// no answer.
    pub(super) fn of(error: &RedisError, settings: &Settings) -> Option<Self> {
        if error.kind() == ErrorKind::AuthenticationFailed {
            return Some(Self::new("WRONGPASS it does not take this user and password", settings));
        }
        let errors = error.clone().into_server_errors()?;
        let (_, error) = errors.first()?;
        let details = error.details().unwrap_or_default();
        Some(Self::new(&format!("{} {details}", error.code()), settings))
    }

    /// The reply with this text, from which secrets and details of the script are removed.
    pub(super) fn new(text: &str, settings: &Settings) -> Self {
        // Redis repeats the arguments of an unknown command, such as a password or a message.
        let text = text.split_once("with args beginning with").map_or(text, |(text, _)| text);
        // Redis names the line of the script at the end.
        let text = match text.rsplit_once("script: ") {
            Some((text, place)) if place.contains("@user_script") => text,
            _ => text,
        };
        let mut text = text.trim_end_matches([' ', ',', '.']).replace(char::is_control, " ");
        // Within a script Redis and Valkey say ERR for what is NOPERM elsewhere.
        if let Some(rest) = text.strip_prefix("ERR ACL failure in script: ") {
            text = format!("NOPERM {rest}");
        } else if text.starts_with("ERR The user executing the script") {
            text.replace_range(.."ERR".len(), "NOPERM");
        }
        let of_sentinels = settings.sentinel_password.as_ref().map(Secret::expose);
        let passwords = [settings.url.login().password(), of_sentinels];
        for password in passwords.into_iter().flatten().filter(|password| !password.is_empty()) {
            text = text.replace(password, "***");
        }
        let code = text.split(' ').next().unwrap_or_default();
        let kind = KINDS.iter().position(|kind| *kind == code).unwrap_or(KINDS.len() - 1);
        Self { kind, text: text.chars().take(MAX_LENGTH).collect::<String>().into() }
    }
}

impl CurrentErrors {
    /// Notes why the stream can't be read. Returns whether the kind of error is news.
    pub(super) fn note_reads(&mut self, error: &ErrorReply) -> bool {
        let news = self.is_news(error);
        self.reads = Some(error.clone());
        news
    }

    /// Notes why messages can't be posted. Returns whether the kind of error is news.
    pub(super) fn note_posts(&mut self, error: &ErrorReply) -> bool {
        let news = self.is_news(error);
        self.posts = Some(error.clone());
        news
    }

    fn is_news(&self, error: &ErrorReply) -> bool {
        [&self.reads, &self.posts].into_iter().flatten().all(|known| known.kind != error.kind)
    }
}

impl ErrorReplyCounters {
    pub(super) fn count(&self, error: &ErrorReply) {
        self.0[error.kind].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> ErrorReplyCounts {
        ErrorReplyCounts(std::array::from_fn(|kind| self.0[kind].load(Ordering::Relaxed)))
    }
}

impl ErrorReplyCounts {
    /// Each kind with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        KINDS.into_iter().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str) -> (String, &'static str) {
        let settings = Settings {
            url: "redis://alice:s3cret@host".parse().expect("a URL"),
            sentinel_user: None,
            sentinel_password: None,
            tls: None,
            room: "room".to_owned(),
            max_length: 0,
            replicas: 0,
            on_disk: false,
        };
        let error = ErrorReply::new(text, &settings);
        (error.text.to_string(), KINDS[error.kind])
    }

    #[test]
    fn the_text_has_no_secrets_and_nothing_of_the_script() {
        let full = "OOM command not allowed when used memory > 'maxmemory'. script: 1f2e, on @user_script:51.";
        let short = "OOM command not allowed when used memory > 'maxmemory'";
        assert_eq!(reply(full), (short.to_owned(), "OOM"));
        let unknown = "ERR unknown command 'AUTH', with args beginning with: 'alice' 's3cret' ";
        assert_eq!(reply(unknown), ("ERR unknown command 'AUTH'".to_owned(), "ERR"));
        let denied = "ERR The user executing the script can't run this command or subcommand \
                      script: 1f2e, on @user_script:51.";
        let short = "NOPERM The user executing the script can't run this command or subcommand";
        assert_eq!(reply(denied), (short.to_owned(), "NOPERM"));
        let denied = "ERR ACL failure in script: User app has no permissions to run the 'xadd' command";
        let short = "NOPERM User app has no permissions to run the 'xadd' command";
        assert_eq!(reply(denied), (short.to_owned(), "NOPERM"));
        assert_eq!(reply(&format!("{denied} script: 1f2e, on @user_script:51.")), (short.to_owned(), "NOPERM"));
        assert_eq!(reply("NEW\nno s3cret for\tyou"), ("NEW no *** for you".to_owned(), "other"));
        assert_eq!(reply(&"é".repeat(1_000)).0.chars().count(), MAX_LENGTH);
    }
}
