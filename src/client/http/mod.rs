//! The client's HTTP interface, for programs and for people.

mod admission;
mod body;
mod cross_site;
mod dns_rebinding;
mod openapi;
mod page;
mod problem;
#[cfg(any(test, fuzzing))]
pub(crate) mod properties;
mod routes;
mod send_message_body;
mod sse;

pub(super) use self::routes::{Chat, router};
pub(super) use self::sse::EventStreams;
