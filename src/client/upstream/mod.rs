//! The client's side of the gRPC server: one stream of messages from it, and sends to it.

mod backoff;
mod idempotency_key;
mod link;
mod link_end;
mod link_log;
mod link_state;
mod probe;
mod send_error;
mod sender;
mod stream_start;

pub(super) use self::idempotency_key::IdempotencyKey;
pub(super) use self::link::Link;
pub(super) use self::link_state::LinkState;
pub(super) use self::send_error::SendError;
pub(super) use self::sender::Sender;
