//! `messenger-client --health-check`: asks a running client whether it serves.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::client::settings::HttpAccess;
use crate::net::WatchedTcp;

/// The health check of a client that hangs must fail, not hang too.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Requests `/health` from the client on `address`, as an orchestrator would. With TLS, the client
/// must show the certificate from the settings.
///
/// # Errors
/// If there is no connection, no answer, or a status other than 200.
pub async fn check(address: SocketAddr, access: &HttpAccess) -> anyhow::Result<()> {
    let check = tokio::time::timeout(TIMEOUT, ask(address, access));
    check.await.map_err(|_| anyhow::anyhow!("no answer from {address}"))?
}

async fn ask(address: SocketAddr, access: &HttpAccess) -> anyhow::Result<()> {
    let (wire, ..) = WatchedTcp::new(TcpStream::connect(address).await?);
    let socket = match access.inside() {
        None => wire.into(),
        Some(tls) => {
            let socket = tls.connect(&address.ip().to_string(), wire).await;
            socket.map_err(|error| anyhow::anyhow!("no TLS with {address}: {error}"))?
        }
    };
    let (mut requests, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let request = Request::get("/health").header(HOST, address.to_string()).body(Empty::<Bytes>::new())?;
    let answer = tokio::select! {
        answer = requests.send_request(request) => answer?,
        ended = connection => anyhow::bail!("the connection closed: {ended:?}"),
    };
    anyhow::ensure!(answer.status() == StatusCode::OK, "answered {}", answer.status());
    Ok(())
}
