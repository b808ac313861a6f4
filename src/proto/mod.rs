//! The interface between server and client: messages and client generated from
//! `proto/messenger.proto`, the names of the metadata, and gRPC's framing.

pub mod frame;
mod generated;
mod metadata;

pub use self::generated::*;
pub use self::metadata::{
    EPOCH, IDEMPOTENCY_KEY, IDEMPOTENCY_KEY_MAX, NOT_ACCEPTED, POSITION, RESUME_AFTER, RESUMED, WAITING, WAITING_MAX,
    is_idempotency_key,
};

/// The full name of the gRPC service.
pub const SERVICE: &str = "mes_grpc.MessengerServer";

/// The encoded `FileDescriptorSet` of the interface and of everything that it imports, for server
/// reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/messenger.fds"));
