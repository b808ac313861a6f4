//! TCP and HTTP/2 under both halves: listening, serving and draining connections, and opening one to a server.

mod address;
mod connection;
mod connections;
mod listen;

pub use self::address::{AddressError, ServerAddr, reachable};
pub use self::connection::{ConnectError, Connection};
pub use self::connections::{Watcher, serve_connections};
pub use self::listen::{ListenError, listen};
