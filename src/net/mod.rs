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
pub use self::http2::body::ResponseBody;
pub use self::http2::call::{CallError, http2_error};
pub use self::http2::connection::Connection;
pub use self::http2::gate::Backpressure;
pub use self::http2::liveness::Unresponsive;
pub use self::http2::open::{ConnectError, Credentials};
pub use self::partial_body::PartialBody;
pub use self::reload::{Reload, Reloaded, reload_on_change};
pub use self::serve::accept::{ConnectionLimits, ConnectionMetrics, Drain, serve_connections};
pub use self::serve::handshake::{ConnectionError, handshake};
pub use self::serve::listen::{ListenError, listen};
pub use self::token::{Guard, NoToken, Token, TokenError};
pub use self::transport::socket::Socket;
pub(crate) use self::transport::tcp_keepalive::KeepalivePolicy;
pub use self::transport::watched::{Activity, CloseSignal, WatchedTcp, WriteState};
