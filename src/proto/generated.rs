//! The code that `build.rs` generates from `proto/messenger.proto`.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

tonic::include_proto!("mes_grpc");
