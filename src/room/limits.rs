//! How much the room may keep, and how much it keeps now.

/// How much the room keeps at most.
#[derive(Debug, Clone, Copy)]
pub struct RoomLimits {
    /// Bytes of messages, for all readers together.
    pub retention: usize,
    /// Idempotency keys.
    pub keys: usize,
}

/// How much the room keeps now.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Bytes of messages.
    pub bytes: usize,
    /// Idempotency keys.
    pub keys: usize,
}
