//! A TCP proxy between a client and its server, which can swallow what the server says and cut connections.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::task::JoinSet;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// What the client says still arrives; the answers do not.
    SwallowAnswers,
    /// Every open connection is closed; new ones are closed at once.
    Cut,
}

#[derive(Debug)]
pub struct Proxy {
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    open: watch::Sender<usize>,
}

/// Starts a proxy to `server`.
pub fn proxy(server: SocketAddr) -> Proxy {
    let listener = super::free_port();
    let address = listener.local_addr().expect("an address");
    let mode = watch::Sender::new(Mode::Pass);
    let open = watch::Sender::new(0);
    let (of_connections, count) = (mode.clone(), open.clone());
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let (mode, count) = (of_connections.subscribe(), count.clone());
            count.send_modify(|count| *count += 1);
            connections.spawn(async move {
                carry(client, server, mode).await;
                count.send_modify(|count| *count -= 1);
            });
        }
    });
    Proxy { address, mode, open }
}

impl Proxy {
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Cuts all connections, and lets new ones pass.
    pub async fn cut(&self) {
        self.set(Mode::Cut);
        let mut open = self.open.subscribe();
        super::soon("the cut", open.wait_for(|open| *open == 0)).await.expect("a proxy");
        self.set(Mode::Pass);
    }
}

async fn carry(client: TcpStream, server: SocketAddr, mut mode: watch::Receiver<Mode>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let answers = mode.clone();
    tokio::select! {
        biased;
        _ = mode.wait_for(|mode| *mode == Mode::Cut) => {}
        () = copy(from_client, to_server, None) => {}
        () = copy(from_server, to_client, Some(answers)) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mode: Option<watch::Receiver<Mode>>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        // Cut too: an answer that comes in the moment of the cut must not slip through.
        let swallow = mode.as_ref().is_some_and(|mode| *mode.borrow() != Mode::Pass);
        if !swallow && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
