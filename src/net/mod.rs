//! TCP, TLS and HTTP/2 under both halves: listening, serving and draining connections, opening one to a server, and who may.

mod address;
mod budget;
mod connection;
mod listen;
mod reload;
mod serve;
mod socket;
pub mod tls;
mod token;
mod wire;

pub use self::address::{AddressError, ServerAddr, ServerAddrs, reachable};
pub use self::budget::{Budget, Exhausted, Share};
pub use self::connection::{Access, CallError, ConnectError, Connection, http2_error};
pub use self::listen::{ListenError, listen};
pub use self::reload::{Reload, Reloaded, keep_fresh};
pub use self::serve::{Counts, Drain, Limits, serve_connections};
pub use self::socket::Socket;
pub use self::token::{Guard, NoToken, Token, TokenError};
pub use self::wire::{Lifetime, Pulse, Wire};
