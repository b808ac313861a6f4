//! Calls of the script that is the room's critical section (`room.lua`).

use std::sync::LazyLock;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult};

use super::super::{Epoch, KEY_LIFETIME};
use super::Settings;

static SCRIPT: LazyLock<redis::Script> = LazyLock::new(|| redis::Script::new(include_str!("room.lua")));

/// How far a server has come in the stream: it has everything up to this time, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) epoch: Epoch,
    pub(super) reached: u64,
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
    /// Of each message.
    pub(super) results: Vec<Outcome>,
}

/// What became of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has this time, in microseconds.
    Posted(u64),
    /// Another message has come with its key.
    KeyTaken,
    /// It was meant for another epoch.
    OtherEpoch,
}

/// Posts messages, or none, and says where the stream ends.
///
/// # Errors
/// The engine's; one that it has sent itself means that nothing was posted.
pub(super) async fn call(
    connection: &mut MultiplexedConnection,
    settings: &Settings,
    known: Known,
    messages: impl Iterator<Item = &Message>,
) -> RedisResult<Answer> {
    let mut call = SCRIPT.prepare_invoke();
    call.key(settings.stream()).key(settings.state());
    let (epoch, reached) = known.place.map_or((String::new(), 0), |place| (place.epoch.to_string(), place.reached));
    call.arg(epoch).arg(reached).arg(known.floor).arg(Epoch::new().to_string());
    call.arg(u8::from(known.rewound)).arg(settings.max_length).arg(KEY_LIFETIME.as_millis().to_string());
    for Message { epoch, key, author, text } in messages {
        call.arg(epoch.map(|epoch| epoch.to_string()).unwrap_or_default());
        call.arg(u8::from(key.is_some())).arg(author).arg(text);
        if let Some(key) = key {
            call.key(settings.key(key));
        }
    }
    let words: Vec<String> = call.invoke_async(connection).await?;
    answer(&words).ok_or_else(|| RedisError::from((ErrorKind::UnexpectedReturnType, "not an answer of the script")))
}

fn answer(words: &[String]) -> Option<Answer> {
    let (epoch, rest) = words.split_first()?;
    let (last, rest) = rest.split_first()?;
    let results = rest.iter().map(|word| match word.as_str() {
        "taken" => Some(Outcome::KeyTaken),
        "epoch" => Some(Outcome::OtherEpoch),
        micros => micros.parse().ok().map(Outcome::Posted),
    });
    Some(Answer { epoch: epoch.parse().ok()?, last: last.parse().ok()?, results: results.collect::<Option<_>>()? })
}
