//! The interface between server and client: what `build.rs` generates from `proto/messenger.proto` (the messages, the generated
//! client), and the names that are not in that file.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

tonic::include_proto!("mes_grpc");

/// The whole name of the gRPC service.
pub const SERVICE: &str = "mes_grpc.MessengerServer";

/// The encoded `FileDescriptorSet` of the interface with all that it imports, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/messenger.fds"));

/// Trailer of a `SendMessage` that our server has refused before looking at it: the message is surely not in the room, and may be sent
/// again. No other status says that for certain, `UNAVAILABLE` does not, and neither does gRPC's `grpc-retry-pushback-ms`, which is
/// about when to retry.
pub const NOT_ACCEPTED: &str = "messenger-not-accepted";

/// Metadata of `SendMessage`: a key under which the same message may be sent again without being in the room twice.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_MAX: usize = 128;

/// Whether these bytes are an idempotency key: visible ASCII characters, at least one, at most [`IDEMPOTENCY_KEY_MAX`].
#[must_use]
pub fn is_idempotency_key(bytes: &[u8]) -> bool {
    (1..=IDEMPOTENCY_KEY_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
}

/// Metadata of both calls and of the headers that answer `ReadMessages`: which life of the room is meant. Positions and keys mean
/// nothing in another.
pub const EPOCH: &str = "messenger-epoch";

/// Metadata of `ReadMessages`: the `sendTime` after which to begin, with the [`EPOCH`] in which it was given.
pub const RESUME_AFTER: &str = "messenger-resume-after";

/// In the headers that answer `ReadMessages`: the stream has everything after this time.
pub const POSITION: &str = "messenger-position";

/// Metadata of `ReadMessages`: how long its caller has been waiting for a stream, in milliseconds. The
/// stream begins with the first message that was accepted in this time. A duration and not a time of
/// day, so no two clocks are compared.
pub const WAITING: &str = "messenger-waiting-ms";

/// The most that [`WAITING`] can say, which is about 31 years.
pub const WAITING_MAX: u64 = 999_999_999_999;

/// In the headers that answer `ReadMessages` with [`RESUME_AFTER`] or [`WAITING`]: `true` if nothing is missing, `false` if something may be, and the
/// stream begins with the oldest message that the server has.
pub const RESUMED: &str = "messenger-resumed";
