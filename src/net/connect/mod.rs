//! Where a server is, and a TCP connection to it.

pub(crate) mod address;
pub(crate) mod happy_eyeballs;
pub(crate) mod lookup;
