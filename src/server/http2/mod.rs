//! The server's HTTP/2: a connection is one task with all of its calls in it.

pub(super) mod connection;
mod keepalive;
mod wakers;
