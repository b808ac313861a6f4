//! Opening a port.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};

/// How many connections the kernel queues until they are accepted: a thousand clients that
/// reconnect at once after a restart must not be refused. Linux caps it at `net.core.somaxconn`,
/// 4096 by default.
const BACKLOG: u32 = 4096;

/// A port could not be opened.
#[derive(Debug, Error)]
#[error("can't listen on {address}")]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

/// Opens `address` for listening; port 0 takes any free port. The port of a program that has just
/// ended is free at once.
///
/// # Errors
/// [`ListenError`], which names the address: it is in use, not of this machine, or not permitted.
pub fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|source| ListenError { address, source })
}
