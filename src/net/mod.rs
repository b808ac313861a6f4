//! TCP and HTTP/2 under both halves: listening, serving and draining connections, and opening one to a server.

mod address;
mod budget;
mod connection;
mod listen;
mod serve;
mod socket;

pub use self::address::{AddressError, ServerAddr, ServerAddrs, reachable};
pub use self::budget::{Budget, Exhausted, Share};
pub use self::connection::{CallError, ConnectError, Connection, http2_error};
pub use self::listen::{ListenError, listen};
pub use self::serve::{Counts, Drain, Limits, serve_connections};
pub use self::socket::{Lifetime, Pulse, Socket};
