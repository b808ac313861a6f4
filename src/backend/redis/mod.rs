//! A room that many servers serve. Its messages are in a stream of Redis or Valkey, and each server
//! keeps the newest ones in a [`Room`](crate::room::Room) for its own readers.
//!
//! - A script in Redis is the critical section (`post.lua`): it gives each message its time and its
//!   place. The stream's ids are the times in microseconds, so all servers agree on both.
//! - A task sends new messages to Redis in batches (`append.rs`). They are acknowledged when Redis
//!   has them, or when they are as safe as the settings ask (`ack.rs`).
//! - Another task reads the stream (`tail.rs`), and appends the messages of all servers to the
//!   room.
//! - A reader that begins further back than that room gets the messages from the stream
//!   (`backfill.rs`).
//! - The epoch is in Redis. When Redis has lost messages, a new epoch and a new room begin. The
//!   readers of the old one end, and learn of the gap when they come back.

mod ack;
mod append;
mod archive;
mod backfill;
mod breaker;
mod connect;
mod connection;
mod driver;
mod entry;
mod error_reply;
mod load;
mod open;
mod pauses;
mod queue;
mod request;
mod room;
mod script;
mod settings;
mod shared;
mod stream_reader;
mod tail;
mod tip_query;
mod url;

pub use self::driver::RedisDriver;
pub use self::error_reply::ErrorReplyCounts;
pub use self::room::RedisRoom;
pub use self::settings::Settings;
pub use self::shared::Health;
pub use self::url::{Url, UrlError};
