//! The metadata of the two calls: gRPC's name for HTTP headers and trailers. The proto file can't
//! declare them.

/// Trailer of a `SendMessage` that our server refused before looking at the message: it is
/// certainly not in the room, and the caller may send it again. No standard status says that,
/// `UNAVAILABLE` included. gRPC's `grpc-retry-pushback-ms` only says when to retry.
pub const NOT_ACCEPTED: &str = "messenger-not-accepted";

/// Metadata of `SendMessage`: a message that is sent twice under the same key is in the room once.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_MAX: usize = 128;

/// Whether these bytes are an idempotency key: 1 to [`IDEMPOTENCY_KEY_MAX`] visible ASCII
/// characters.
#[must_use]
pub fn is_idempotency_key(bytes: &[u8]) -> bool {
    (1..=IDEMPOTENCY_KEY_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
}

/// Metadata of both calls, and initial metadata of a `ReadMessages` response: the room's epoch.
/// Positions and keys are valid within one epoch only.
pub const EPOCH: &str = "messenger-epoch";

/// Metadata of `ReadMessages`: the stream starts after the message with this `sendTime`. Needs the
/// [`EPOCH`] of that message.
pub const RESUME_AFTER: &str = "messenger-resume-after";

/// Initial metadata of a `ReadMessages` response: the stream has every message after this time.
pub const POSITION: &str = "messenger-position";

/// Metadata of `ReadMessages`: how many milliseconds the caller has been waiting for a stream. The
/// stream starts with the first message that was accepted in that time. It is a duration and not a
/// time of day, so that no two clocks are compared.
pub const WAITING: &str = "messenger-waiting-ms";

/// The largest value of [`WAITING`], about 31 years.
pub const WAITING_MAX: u64 = 999_999_999_999;

/// Initial metadata of a response to a `ReadMessages` with [`RESUME_AFTER`] or [`WAITING`]: `true`
/// if the stream misses nothing, `false` if messages may be missing and the stream starts with the
/// oldest one that the server has.
pub const RESUMED: &str = "messenger-resumed";
