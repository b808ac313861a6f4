//! Finds the addresses of a server, and opens a TCP connection to one of them.

pub(crate) mod address;
pub(crate) mod happy_eyeballs;
pub(crate) mod lookup;
