//! What the engine refuses: it answers, and with an error, before it has done anything. Such an error seldom goes away by itself.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redis::{ErrorKind, RedisError};

use super::Settings;
use crate::settings::Secret;

/// The kinds of errors that are counted apart, by the word with which the engine begins them.
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

/// Characters of what the engine says that are passed on.
const LONGEST: usize = 200;

/// An error that the engine has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    kind: usize,
    says: Arc<str>,
}

/// What the engine refuses now. Both together, so that the log has a reason once that stands in the way of both.
#[derive(Debug, Default)]
pub(super) struct RefusedNow {
    /// Why the stream can't be read.
    pub(super) reads: Option<Refusal>,
    /// Why no messages can be posted.
    pub(super) posts: Option<Refusal>,
}

/// How often the engine has refused something, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RefusalCounts([u64; KINDS.len()]);

/// Counts refusals.
#[derive(Debug, Default)]
pub(super) struct Refusals([AtomicU64; KINDS.len()]);

impl Refusal {
    /// `None` if it is not the engine that has said so: then it is away, or gives no answer.
    pub(super) fn of(error: &RedisError, settings: &Settings) -> Option<Self> {
        if error.kind() == ErrorKind::AuthenticationFailed {
            return Some(Self::new("WRONGPASS it does not take this user and password", settings));
        }
        let errors = error.clone().into_server_errors()?;
        let (_, error) = errors.first()?;
        Some(Self::new(&format!("{} {}", error.code(), error.details().unwrap_or_default()), settings))
    }

    /// What the engine says, without what is nobody's business.
    pub(super) fn new(says: &str, settings: &Settings) -> Self {
        // An engine repeats the arguments of a command that it does not know, a password or a message, and names the script's line.
        let says = ["with args beginning with", "script:"]
            .iter()
            .fold(says, |says, rest| says.split_once(rest).map_or(says, |(says, _)| says));
        let mut says = says.trim_end_matches([' ', ',', '.']).replace(char::is_control, " ");
        // Within a script Redis has no word of its own for what it says elsewhere with NOPERM.
        if let Some(rest) = says.strip_prefix("ERR The user executing the script") {
            says = format!("NOPERM The user executing the script{rest}");
        }
        let passwords = [settings.url.login().password(), settings.sentinel_password.as_ref().map(Secret::expose)];
        for password in passwords.into_iter().flatten().filter(|password| !password.is_empty()) {
            says = says.replace(password, "***");
        }
        let code = says.split(' ').next().unwrap_or_default();
        let kind = KINDS.iter().position(|kind| *kind == code).unwrap_or(KINDS.len() - 1);
        Self { kind, says: says.chars().take(LONGEST).collect::<String>().into() }
    }
}

impl RefusedNow {
    /// Whether it is for another reason than these, whatever command that was about.
    fn is_news(&self, refusal: &Refusal) -> bool {
        [&self.reads, &self.posts].into_iter().flatten().all(|known| known.kind != refusal.kind)
    }

    /// Notes why the stream can't be read, and gives whether that is news.
    pub(super) fn note_reads(&mut self, refusal: &Refusal) -> bool {
        let news = self.is_news(refusal);
        self.reads = Some(refusal.clone());
        news
    }

    /// Notes why no messages can be posted, and gives whether that is news.
    pub(super) fn note_posts(&mut self, refusal: &Refusal) -> bool {
        let news = self.is_news(refusal);
        self.posts = Some(refusal.clone());
        news
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.says)
    }
}

impl Refusals {
    pub(super) fn count(&self, refusal: &Refusal) {
        self.0[refusal.kind].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> RefusalCounts {
        RefusalCounts(std::array::from_fn(|kind| self.0[kind].load(Ordering::Relaxed)))
    }
}

impl RefusalCounts {
    /// Each kind, and how often that was.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        KINDS.into_iter().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(text: &str) -> (String, &'static str) {
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
        let refusal = Refusal::new(text, &settings);
        (refusal.to_string(), KINDS[refusal.kind])
    }

    #[test]
    fn passes_on_what_the_engine_says_without_what_it_was_given() {
        let full = "OOM command not allowed when used memory > 'maxmemory'. script: 1f2e, on @user_script:51.";
        assert_eq!(says(full), ("OOM command not allowed when used memory > 'maxmemory'".to_owned(), "OOM"));
        let unknown = "ERR unknown command 'AUTH', with args beginning with: 'alice' 's3cret' ";
        assert_eq!(says(unknown), ("ERR unknown command 'AUTH'".to_owned(), "ERR"));
        let denied =
            "ERR The user executing the script can't run this command or subcommand script: 1f2e, on @user_script:51.";
        assert_eq!(says(denied).0, "NOPERM The user executing the script can't run this command or subcommand");
        assert_eq!(says("NEW\nno s3cret for\tyou"), ("NEW no *** for you".to_owned(), "other"));
        assert_eq!(says(&"é".repeat(1_000)).0.chars().count(), LONGEST);
    }
}
