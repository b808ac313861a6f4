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
    /// Answers wait on connections whose client has ever said this.
    HoldAnswersTo(&'static str),
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
    let (answers, said) = (mode.clone(), watch::Sender::default());
    let heard = said.subscribe();
    tokio::select! {
        biased;
        _ = mode.wait_for(|mode| *mode == Mode::Cut) => {}
        () = calls(from_client, to_server, said) => {}
        () = pass_answers(from_server, to_client, answers, heard) => {}
    }
}

async fn calls(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, said: watch::Sender<String>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        // The first words of all that comes together are enough to know it by.
        let start = String::from_utf8_lossy(&buffer[..read.min(64)]).into_owned();
        said.send_modify(|said| {
            if said.len() < 64 * 1024 {
                said.push_str(&start);
            }
        });
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

async fn pass_answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    said: watch::Receiver<String>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let held = |mode: &Mode| matches!(mode, Mode::HoldAnswersTo(word) if said.borrow().contains(word));
        if mode.wait_for(|mode| !held(mode)).await.is_err() {
            return;
        }
        // Cut too: an answer that comes in the moment of the cut must not slip through.
        let swallow = matches!(*mode.borrow(), Mode::SwallowAnswers | Mode::Cut);
        if !swallow && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
