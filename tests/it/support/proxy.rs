//! A TCP proxy between a client and its server that can swallow answers and cut connections.

use std::future::pending;
use std::net::SocketAddr;
use std::pin::pin;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// Requests pass, answers are dropped.
    SwallowAnswers,
    /// Answers wait on connections whose client has sent this word.
    HoldAnswersTo(&'static str),
    /// Open connections are closed, and new ones at once.
    Cut,
}

#[derive(Debug)]
pub struct Proxy {
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    open: watch::Sender<usize>,
    forget: broadcast::Sender<&'static str>,
}

/// Starts a proxy to `server`.
pub fn proxy(server: SocketAddr) -> Proxy {
    let listener = super::free_port();
    let address = listener.local_addr().expect("an address");
    let mode = watch::Sender::new(Mode::Pass);
    let open = watch::Sender::new(0);
    let forget = broadcast::Sender::new(1);
    let (of_connections, count, forgetting) = (mode.clone(), open.clone(), forget.clone());
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let (mode, count, forget) = (of_connections.subscribe(), count.clone(), forgetting.subscribe());
            count.send_modify(|count| *count += 1);
            connections.spawn(async move {
                carry(client, server, mode, forget).await;
                count.send_modify(|count| *count -= 1);
            });
        }
    });
    Proxy { address, mode, open, forget }
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

    /// Drops everything on the open connections without closing them, as a NAT does that forgets
    /// them. Connections whose client has sent this word still pass, and so do new ones.
    pub fn forget_all_but(&self, word: &'static str) {
        let _ = self.forget.send(word);
    }
}

async fn carry(
    client: TcpStream,
    server: SocketAddr,
    mut mode: watch::Receiver<Mode>,
    mut forget: broadcast::Receiver<&'static str>,
) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (answers, said) = (mode.clone(), watch::Sender::default());
    let heard = said.subscribe();
    let mut calls = pin!(calls(from_client, to_server, said));
    let mut answers = pin!(pass_answers(from_server, to_client, answers, heard.clone()));
    let forgotten = async {
        while let Ok(word) = forget.recv().await {
            if !heard.borrow().contains(word) {
                return;
            }
        }
        pending().await
    };
    tokio::select! {
        biased;
        _ = mode.wait_for(|mode| *mode == Mode::Cut) => return,
        () = forgotten => {}
        () = &mut calls => return,
        () = &mut answers => return,
    }
    // Both sockets stay open until the cut.
    let _ = mode.wait_for(|mode| *mode == Mode::Cut).await;
}

async fn calls(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, said: watch::Sender<String>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        // The first bytes of each read are enough to recognise a command.
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
        // An answer that arrives at the moment of the cut must not pass.
        let swallow = matches!(*mode.borrow(), Mode::SwallowAnswers | Mode::Cut);
        if !swallow && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
