//! The server's HTTP/2: each connection is one task that runs all of its calls.

pub(super) mod connection;
mod keepalive;
mod wakers;
