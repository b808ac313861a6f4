//! TCP and HTTP/2 under both halves: listening, serving and draining connections, and opening one to a server.

mod address;
mod connection;
mod listen;
mod serve;
mod socket;

pub use self::address::{AddressError, ServerAddr, reachable};
pub use self::connection::{CallError, ConnectError, Connection};
pub use self::listen::{ListenError, listen};
pub use self::serve::{Drain, serve_connections};
pub use self::socket::{Lifetime, Pulse, Socket};
