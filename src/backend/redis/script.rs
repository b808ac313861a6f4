//! Calls of the script that is the room's critical section (`room.lua`).

use std::io;
use std::sync::LazyLock;

use redis::{ErrorKind, RedisError, RedisResult};

use super::Settings;
use super::connection::Connection;
use crate::room::{Epoch, KEY_LIFETIME};

static SCRIPT: LazyLock<redis::Script> = LazyLock::new(|| redis::Script::new(include_str!("room.lua")));

/// How far a server has come in the stream: it has everything up to this time, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) epoch: Epoch,
    pub(super) reached: u64,
}

/// Where the stream ends, and when that was, by the engine's clock in microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamEnd {
    pub(super) place: Place,
    pub(super) clock: u64,
}

/// What the caller knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) place: Option<Place>,
    /// The highest time that it ever saw, in any epoch.
    pub(super) floor: u64,
    /// It has seen that the stream went backwards in its epoch.
    pub(super) rewound: bool,
}

/// A message that is to be posted.
#[derive(Debug)]
pub(super) struct Message {
    /// The epoch in which it is meant, if that matters.
    pub(super) epoch: Option<Epoch>,
    pub(super) key: Option<String>,
    pub(super) author: String,
    pub(super) text: String,
}

/// What the engine says.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) epoch: Epoch,
    /// The time of the last message, in microseconds.
    pub(super) last: u64,
    /// What the engine's clock says, in microseconds.
    pub(super) clock: u64,
    /// Of each message.
    pub(super) results: Vec<Outcome>,
}

/// What became of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has this time, in microseconds.
    Posted(u64),
    /// It came before, under the same key, and has this time.
    PostedBefore(u64),
    /// Another message has come with its key.
    KeyTaken,
    /// It was meant for another epoch.
    OtherEpoch,
    /// The engine has refused it, in these words.
    Refused(String),
}

/// Posts messages, or none, and says where the stream ends.
///
/// # Errors
/// The engine's; one that it has sent itself means that nothing was posted.
pub(super) async fn call(
    connection: &mut Connection,
    settings: &Settings,
    known: Known,
    messages: impl Iterator<Item = &Message>,
) -> RedisResult<Answer> {
    let anew = Epoch::new().map_err(io::Error::other)?;
    let mut call = SCRIPT.prepare_invoke();
    call.key(settings.stream()).key(settings.state());
    let (epoch, reached) = known.place.map_or((String::new(), 0), |place| (place.epoch.to_string(), place.reached));
    call.arg(epoch).arg(reached).arg(known.floor).arg(anew.to_string());
    call.arg(u8::from(known.rewound)).arg(settings.max_length).arg(KEY_LIFETIME.as_millis().to_string());
    for Message { epoch, key, author, text } in messages {
        call.arg(epoch.map(|epoch| epoch.to_string()).unwrap_or_default());
        call.arg(u8::from(key.is_some())).arg(author).arg(text);
        if let Some(key) = key {
            call.key(settings.key(key));
        }
    }
    let words: Vec<String> = call.invoke_async(&mut connection.commands).await?;
    answer(&words).ok_or_else(|| RedisError::from((ErrorKind::UnexpectedReturnType, "not an answer of the script")))
}

fn answer(words: &[String]) -> Option<Answer> {
    let (epoch, rest) = words.split_first()?;
    let (last, rest) = rest.split_first()?;
    let (clock, rest) = rest.split_first()?;
    let results = rest.iter().map(|word| match word.as_str() {
        "taken" => Some(Outcome::KeyTaken),
        "epoch" => Some(Outcome::OtherEpoch),
        refused if refused.starts_with('!') => Some(Outcome::Refused(refused[1..].to_owned())),
        micros => match micros.strip_prefix("before ") {
            Some(micros) => micros.parse().ok().map(Outcome::PostedBefore),
            None => micros.parse().ok().map(Outcome::Posted),
        },
    });
    let (epoch, last, clock) = (epoch.parse().ok()?, last.parse().ok()?, clock.parse().ok()?);
    Some(Answer { epoch, last, clock, results: results.collect::<Option<_>>()? })
}
