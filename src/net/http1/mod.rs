//! Serving HTTP/1.1: one connection, and what a request says about its host.

pub(crate) mod connection;
mod head_timer;
pub(crate) mod host;
pub(crate) mod read_ahead;
