//! The chat in memory: messages come in on one side, and all readers get them in one order.
//!
//! - A message is encoded once for all readers ([`EncodedMessage`]).
//! - [`Room::post`] is one critical section: it stamps the time and appends to the log. So all
//!   readers get messages in the order of this section.
//! - [`Room::post_once`] does the same for a message that may be sent again under its idempotency
//!   key.
//! - [`Room::dispatch`] runs *rounds*: a round publishes what was appended, and wakes the readers.
//! - A [`Reader`] is a position in the shared log. It reads at its own pace and delays nobody. When
//!   the log no longer reaches back to its position, the reader ends with
//!   [`StreamEnd::FellBehind`]. A reader whose caller takes nothing ends too, because its last
//!   frames stay in memory for it alone.
//! - A reader that begins before the log first reads from a [`Backfill`] of the
//!   [backend](crate::backend).

mod backfill;
mod epoch;
mod error;
mod idempotency;
mod log;
mod message;
#[cfg(test)]
mod model;
mod post;
#[cfg(any(test, fuzzing))]
pub mod properties;
mod reader;
mod resume;
mod rounds;
mod state;
mod sync;
mod waiters;

pub use self::backfill::{Backfill, Step};
pub use self::epoch::{Epoch, InvalidEpoch};
pub use self::error::{FuturePosition, Rejection, StreamEnd};
pub use self::idempotency::{KEY_LIFETIME, KEY_LIFETIME_AT_LEAST};
pub use self::message::EncodedMessage;
pub use self::post::Posted;
pub use self::reader::Reader;
pub use self::resume::{Opened, Start};
pub use self::state::{Environment, Frames, Room, RoomLimits, Usage};
