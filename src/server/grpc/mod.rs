//! The gRPC calls: which call a request is, and what each call does.

mod deadline;
pub(super) mod health;
pub(super) mod health_and_reflection;
mod metadata;
#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
pub(super) mod read_messages;
mod request;
mod response;
pub(super) mod router;
mod send_message;
