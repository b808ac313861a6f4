//! The calls: which one a request is, and what each of them does.

pub(super) mod deadline;
pub(super) mod health_and_reflection;
pub(super) mod metadata;
#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
pub(super) mod read_messages;
pub(super) mod request;
pub(super) mod response;
pub(super) mod router;
pub(super) mod send_message;
