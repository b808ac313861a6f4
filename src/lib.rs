//! A one-room messenger. A gRPC server takes messages and streams them to every reader in one
//! order. A client keeps one stream open, and serves the chat to people and programs over HTTP.
//!
//! # Map
//!
//! A module uses only modules below it, and no two files import each other (`.ci/circles`).
//!
//! - `src/bin/`: three programs. `messenger-server` and `messenger-client` are one half each;
//!   `messenger` is both in one process. Each parses its settings, opens its ports, and calls
//!   `serve(listener, settings, metrics, shutdown)`. The tests do the same with port 0.
//! - [`server`]: the gRPC service `mes_grpc.MessengerServer`, with health and reflection.
//! - [`client`]: the stream from a server, the messages that wait for a flush, and the HTTP
//!   interface.
//! - [`backend`]: where messages get their time and place, in memory or in Redis
//!   ([`backend::redis`]).
//! - [`room`]: the chat in memory. Order, retention and readers, without gRPC, HTTP or Redis.
//! - `segmented_log`: entries with positions in shared memory, under the room and under the
//!   client's history.
//! - [`metrics`]: the port for Prometheus.
//! - [`net`]: TCP, TLS, HTTP connections and the token.
//! - [`settings`], [`process`]: flags and variables; log, signals and exit status.
//! - [`proto`], [`send_time`]: the gRPC interface, generated from
//!   `messenger/proto/messenger.proto`; and the time of a message.
//!
//! # Glossary
//!
//! - **Room**: the one chat that all senders and readers share.
//! - **Reader**: a `ReadMessages` stream. The room keeps only its position.
//! - **Position**: a place in the order of the room. The interface names it by the `sendTime` of
//!   the message before it, and the log by an offset in bytes.
//! - **Epoch**: one unbroken history of a room. A position is valid only in its epoch.
//! - **Log**: the newest messages of a room, shared by all readers.
//! - **Retention**: how many bytes of messages the log keeps.
//! - **Round**: the step that makes new messages visible and wakes the waiting readers.
//! - **Lap**: the time in which the log drops an eighth of the retention. At its end the room
//!   checks the readers whose callers take nothing.
//! - **Frames**: encoded messages in a row, ready to be sent to any reader.
//! - **Backend**: the place where the order of a room is decided: this process, or Redis.
//! - **Backfill**: messages that the log no longer has, read from the backend.
//! - **Resume**: to continue after a position, without a gap or a repeat.
//! - **Gap**: messages that a reader may have missed.
//! - **Idempotency key**: a name for a send, which makes repeating the send safe.
//! - **Link**: the client's one connection and stream to a server.
//! - **Postbox**: the messages that the client keeps for the next flush.
//! - **Flush**: `POST /getAndFlushMessages`, which takes everything out of the postbox.
//! - **History**: the newest messages, which the client keeps for its page and `GET /messages`.
//! - **Drain**: the time after a shutdown request in which running calls finish.
//!
//! # The path of a message
//!
//! 1. [`server`] receives `SendMessage`, decodes it, and checks its size and idempotency key.
//! 2. It encodes the message once, as the frame for all readers: [`room::EncodedMessage`].
//! 3. [`backend::Backend::post`] decides its time and place, in memory or in Redis.
//! 4. In memory, [`room::Room::post`] stamps a [`send_time::SendTime`] and appends to the log,
//!    under one lock.
//! 5. In Redis, a script does the same for a batch, and each server appends the messages that it
//!    reads from Redis.
//! 6. A round makes the message visible and wakes the waiting readers ([`room::Room::dispatch`]).
//! 7. Each [`room::Reader`] takes the next frames of the log, and HTTP/2 sends them to its client.
//! 8. The [`client`]'s link reads the message, and encodes it as JSON once.
//! 9. The postbox keeps the JSON for the next flush, and the history keeps it for the page.
//! 10. `POST /getAndFlushMessages` empties the postbox; `GET /messages` streams the history.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]
// Tests and properties fail by a panic.
#![cfg_attr(test, allow(clippy::missing_panics_doc))]

pub mod backend;
pub mod client;
pub mod metrics;
pub mod net;
pub mod process;
#[cfg(any(test, fuzzing))]
pub mod properties;
pub mod proto;
pub mod room;
mod segmented_log;
pub mod send_time;
pub mod server;
pub mod settings;
