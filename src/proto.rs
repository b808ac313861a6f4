//! The interface between server and client: what `build.rs` generates from `proto/messenger.proto` (the messages, the generated
//! client), and the names that are not in that file.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

tonic::include_proto!("mes_grpc");

/// The whole name of the gRPC service.
pub const SERVICE: &str = "mes_grpc.MessengerServer";

/// The encoded `FileDescriptorSet` of the interface with all that it imports, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/messenger.fds"));

/// Tells the caller of a failed call that it was not processed and may be sent again after so many milliseconds.
/// <https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback>
pub const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";
