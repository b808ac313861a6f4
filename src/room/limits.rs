//! What a room keeps, and how much of it at most.

use crate::backend::redis::RefusalCounts;

/// What a room keeps at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of messages, for all readers together.
    pub retention: usize,
    /// Keys of messages that may be sent again.
    pub keys: usize,
}

/// What a room keeps at some moment.
#[derive(Debug, Clone, Copy)]
pub struct Kept {
    /// Bytes of messages.
    pub bytes: usize,
    /// Keys of messages that may be sent again.
    pub keys: usize,
    /// Of the engine, if one keeps the room.
    pub engine: Option<EngineNow>,
}

/// How it is between this server and its engine.
#[derive(Debug, Clone, Copy, Default)]
pub struct EngineNow {
    /// The stream is being read.
    pub is_there: bool,
    /// How often that has ended.
    pub lost: u64,
    /// How often the room has begun anew, because messages were missing.
    pub begun_anew: u64,
    /// How often it has refused something, by kind.
    pub refused: RefusalCounts,
}
