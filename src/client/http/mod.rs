//! The client's HTTP interface, for programs and for people.

pub(super) mod body;
pub(super) mod cross_site;
pub(super) mod hosts;
pub(super) mod message_body;
pub(super) mod openapi;
pub(super) mod page;
pub(super) mod problem;
#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
pub(super) mod routes;
pub(super) mod sse;
