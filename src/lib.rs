//! A one-room messenger: a gRPC server takes messages and streams them to every reader in one order; a client keeps one stream open
//! and gives it to people and programs over HTTP.
//!
//! # Layout
//!
//! - [`room`]: the chat itself. Order, time, retention, readers; no gRPC call and no HTTP in it. [`backend::redis`]: the same for many
//!   servers, with the order in Redis or Valkey.
//! - [`server`]: the room as the gRPC service `mes_grpc.MessengerServer`, with health and reflection.
//! - [`client`]: the stream from a server, the postbox that it fills, the HTTP interface, and its page for people.
//! - [`send_time`]: the time of a message, which is its place in the order.
//! - [`proto`]: the interface between the two, generated from `proto/messenger.proto`.
//! - [`net`]: ports, connections, TLS and the token. [`settings`]: flags and variables. [`process`]: log, signals, exit status.
//!
//! The programs are `src/bin/messenger-server.rs`, `messenger-client.rs`, and `messenger.rs`, the whole chat in one process. Each
//! reads its settings, opens its ports and calls `serve(listener, settings, shutdown)` of a half or of both; so do the tests, with
//! port 0 and a shutdown of their own.
//!
//! # The way of a message
//!
//! `SendMessage` is decoded and encoded again, once, as the frame that every reader will get. [`room::Room::post`] stamps it and
//! appends it to the log in one critical section, which is the whole order. [`room::Room::dispatch`] publishes what has come since
//! its last round and wakes the readers; each is a position in that log, and a `ReadMessages` response that goes on from there.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]
// A property that is broken panics, and so does a test.
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
