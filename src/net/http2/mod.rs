//! An HTTP/2 connection to a server, and the calls over it.

pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod connection;
pub(crate) mod gate;
pub(crate) mod liveness;
pub(crate) mod open;
mod preface;
mod session;
