//! Connections under both programs: TCP, TLS and HTTP, accepted and opened, and the token.
//!
//! - `serve` opens a port, accepts its connections and drains them; `http1` serves one of HTTP/1.1.
//! - `connect` finds a server and connects to it; `http2` is a connection to one, with its calls.
//! - `transport` is the byte stream under both; [`tls`] puts TLS on it.

mod budget;
mod connect;
mod http1;
mod http2;
mod partial_body;
mod reload;
mod serve;
pub mod tls;
mod token;
mod transport;

pub use self::budget::{Budget, Exhausted, Share};
pub use self::connect::address::{AddressError, ServerAddr, ServerAddrs, reachable};
pub use self::connect::happy_eyeballs::connect;
pub use self::connect::lookup::{lookup, start_lookups};
pub use self::http1::connection::serve_http1;
pub use self::http1::host::{BadHost, requested_host};
pub use self::http1::read_ahead::Peer;
pub use self::http2::body::Answer;
pub use self::http2::call::{CallError, Reserved, http2_error};
pub use self::http2::connection::{Access, ConnectError, Connection};
pub use self::http2::gate::Full;
pub use self::http2::liveness::Gone;
pub use self::partial_body::Gathered;
pub use self::reload::{Reload, Reloaded, keep_fresh};
pub use self::serve::accept::{Counts, Drain, Limits, serve_connections};
pub use self::serve::listen::{ListenError, listen};
pub use self::token::{Guard, NoToken, Token, TokenError};
pub use self::transport::socket::Socket;
pub(crate) use self::transport::tcp_keepalive::Vigilance;
pub use self::transport::watched::{Lifetime, Outlet, Pulse, Wire};
