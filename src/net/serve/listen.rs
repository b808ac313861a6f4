//! Opening a port.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that the kernel holds until they are accepted: a thousand clients that reconnect in one moment (a restart) must not
/// run into refusals. The kernel caps it at `net.core.somaxconn`, 4096 on Linux.
const BACKLOG: u32 = 4096;

/// The port could not be opened.
#[derive(Debug, Error)]
#[error("can't listen on {address}")]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

/// Opens `address` for listening; port 0 is any free one. The port of a program that has just ended can be taken at once.
///
/// # Errors
/// [`ListenError`], which names the address: in use, not of this machine, or not permitted.
pub fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|source| ListenError { address, source })
}
