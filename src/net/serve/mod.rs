//! A port: opening it, accepting its connections, and draining them.

pub(crate) mod accept;
pub(crate) mod handshake;
pub(crate) mod listen;
