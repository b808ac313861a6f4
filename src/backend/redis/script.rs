//! Calls of the script that posts messages (`post.lua`).

use std::io;
use std::sync::LazyLock;

use redis::{ErrorKind, RedisError, RedisResult};

use super::connection::{ANSWER_TIMEOUT, RedisConnection, within};
use super::settings::Settings;
use crate::backend::environment::new_epoch;
use crate::room::{EncodedMessage, Epoch, KEY_LIFETIME};

static SCRIPT: LazyLock<redis::Script> = LazyLock::new(|| redis::Script::new(include_str!("post.lua")));

/// A position in the stream: everything up to this time in this epoch. Times are in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamPosition {
    pub(super) epoch: Epoch,
    pub(super) micros: u64,
}

/// The end of the stream, and the time by the clock of Redis when the stream ended there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tip {
    pub(super) position: StreamPosition,
    pub(super) clock: u64,
}

/// The part of the stream that this server has seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// The server's position in the stream. `None` before its first read.
    pub(super) position: Option<StreamPosition>,
    /// The latest time that the server has seen in any epoch.
    pub(super) latest: u64,
    /// Whether the server has seen that the stream lost entries of its epoch.
    pub(super) lost_entries: bool,
}

/// A message that is to be posted.
#[derive(Debug)]
pub(super) struct NewMessage {
    /// The epoch that the sender names.
    pub(super) epoch: Option<Epoch>,
    /// The sender's idempotency key.
    pub(super) key: Option<String>,
    pub(super) message: EncodedMessage,
}

/// The script's answer.
#[derive(Debug)]
pub(super) struct ScriptReply {
    pub(super) tip: Tip,
    /// The result of each message.
    pub(super) results: Vec<PostResult>,
}

/// The script's result for one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PostResult {
    /// The message was posted at this time.
    Posted(u64),
    /// The message was posted at this time by an earlier call with the same key.
    PostedBefore(u64),
    /// The key belongs to another message.
    KeyTaken,
    /// The message is meant for another epoch.
    OtherEpoch,
    /// Redis has refused the message with this error.
    Refused(String),
}

/// Posts the messages, if there are any, and returns the end of the stream.
///
/// # Errors
/// If the error is a reply of Redis, no message was posted.
pub(super) async fn call(
    connection: &mut RedisConnection,
    settings: &Settings,
    seen: Seen,
    messages: impl Iterator<Item = &NewMessage>,
) -> RedisResult<ScriptReply> {
    let candidate = new_epoch().map_err(io::Error::other)?;
    let mut call = SCRIPT.prepare_invoke();
    call.key(settings.stream()).key(settings.state());
    let (epoch, reached) = match seen.position {
        Some(position) => (position.epoch.to_string(), position.micros),
        None => (String::new(), 0),
    };
    call.arg(epoch).arg(reached).arg(seen.latest).arg(candidate.to_string());
    call.arg(u8::from(seen.lost_entries)).arg(settings.max_length);
    call.arg(KEY_LIFETIME.as_millis().to_string());
    for NewMessage { epoch, key, message } in messages {
        call.arg(epoch.map(|epoch| epoch.to_string()).unwrap_or_default());
        call.arg(u8::from(key.is_some())).arg(message.author_and_text());
        if let Some(key) = key {
            call.key(settings.key(key));
        }
    }
    let answer = call.invoke_async(&mut connection.commands);
    let words: Vec<String> = within(ANSWER_TIMEOUT, answer).await?;
    let unexpected = || RedisError::from((ErrorKind::UnexpectedReturnType, "not the script's answer"));
    parse(&words).ok_or_else(unexpected)
}

fn parse(words: &[String]) -> Option<ScriptReply> {
    let [epoch, last, clock, results @ ..] = words else { return None };
    let results = results.iter().map(|word| match word.as_str() {
        "taken" => Some(PostResult::KeyTaken),
        "epoch" => Some(PostResult::OtherEpoch),
        word => match (word.strip_prefix('!'), word.strip_prefix("before ")) {
            (Some(error), _) => Some(PostResult::Refused(error.to_owned())),
            (None, Some(micros)) => micros.parse().ok().map(PostResult::PostedBefore),
            (None, None) => word.parse().ok().map(PostResult::Posted),
        },
    });
    let position = StreamPosition { epoch: epoch.parse().ok()?, micros: last.parse().ok()? };
    let tip = Tip { position, clock: clock.parse().ok()? };
    Some(ScriptReply { tip, results: results.collect::<Option<_>>()? })
}
