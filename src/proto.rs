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
