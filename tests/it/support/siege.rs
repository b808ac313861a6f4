//! The checks of every attack: other peers are served, memory is bounded, nothing panics, and the
//! program shuts down.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::program::{self, Program};
use super::{Grpc, Message, Reader, grpc, http, post, reader, soon};

pub const KIB: usize = 1024;
pub const MIB: usize = 1024 * KIB;

/// The bound of a shutdown.
const END: Duration = Duration::from_secs(3);
/// The pause between two messages of a bystander, which should not take the processor.
const PACE: Duration = Duration::from_millis(2);

/// A program under attack at `address`.
#[derive(Debug)]
pub struct Besieged {
    pub address: SocketAddr,
    program: Program,
    /// The server of an attacked client.
    _server: Option<Program>,
    bystander: Bystander,
    before: usize,
}

impl Besieged {
    /// Starts a server to attack.
    pub async fn server() -> Self {
        let (program, address) = program::server(&[]).await;
        let both = (grpc(address).await, reader(&mut grpc(address).await).await);
        Self::new(address, program, None, Served::ByServer(Box::new(both))).await
    }

    /// Starts a client to attack.
    pub async fn client() -> Self {
        Self::client_after(async |_| {}).await
    }

    /// Starts a client to attack, and prepares it before the bystanders begin.
    pub async fn client_after(prepare: impl AsyncFnOnce(SocketAddr)) -> Self {
        let (server, server_address) = program::server(&[]).await;
        let variables = [("MESSENGER_SERVER_ADDR", &*server_address.to_string()), ("MESSENGER_HTTP_PORT", "0")];
        let mut program = program::start(program::CLIENT, &variables);
        let address = program.address("client listening").await;
        program.line("stream open").await;
        prepare(address).await;
        Self::new(address, program, Some(server), Served::ByClient(address)).await
    }

    async fn new(address: SocketAddr, program: Program, server: Option<Program>, served: Served) -> Self {
        // Attackers have many connections, all of them in this process.
        rlimit::increase_nofile_limit(u64::MAX).expect("a limit");
        let bystander = Bystander::start(served).await;
        let before = program.resident();
        Self { address, program, _server: server, bystander, before }
    }

    /// The growth of the program at its peak, in bytes.
    pub fn grown(&self) -> usize {
        self.program.peak().saturating_sub(self.before)
    }

    /// Checks the program after the attacks. Fails unless the bystanders were served all the time
    /// and still are, the program has grown by at most `most` bytes, and it shuts down, whatever
    /// the attackers left open.
    pub async fn stands(mut self, most: usize) {
        let grown = self.grown();
        self.bystander.stop().await;
        assert!(grown <= most, "grew by {} KiB, expected at most {}", grown / KIB, most / KIB);
        let asked = Instant::now();
        self.program.signal("TERM");
        let status = self.program.exit().await;
        assert!(asked.elapsed() < END, "ended only after {:?}", asked.elapsed());
        assert_eq!(status.code(), Some(0));
        let log = self.program.whole_log().await;
        assert!(!log.iter().any(|line| line.contains("panic")), "{log:#?}");
    }
}

/// A bystander that is served during the attack.
#[derive(Debug)]
enum Served {
    /// A sender and a reader, each with its own connection.
    ByServer(Box<(Grpc, Reader)>),
    /// A user with a connection for each request.
    ByClient(SocketAddr),
}

impl Served {
    /// Sends a message and reads it back, once. Attackers may send messages too.
    async fn once(&mut self, number: usize) {
        let text = number.to_string();
        let author = "bystander";
        let (sent, got) = match self {
            Self::ByServer(both) => {
                let (sender, reader) = &mut **both;
                let time = soon("an answer", post(sender, author, &text)).await;
                let mut message = reader.next().await;
                while message.author != author {
                    message = reader.next().await;
                }
                (time, vec![message])
            }
            Self::ByClient(address) => {
                let time = http::send(*address, author, &text).await;
                let got = soon("its own message", async {
                    loop {
                        let messages = http::flush(*address).await;
                        let own: Vec<_> = messages.into_iter().filter(|message| message.author == author).collect();
                        if !own.is_empty() {
                            return own;
                        }
                    }
                });
                (time, got.await)
            }
        };
        assert_eq!(got, [Message { author: author.to_owned(), text, time: sent }]);
    }
}

#[derive(Debug)]
struct Bystander {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Bystander {
    /// Starts a bystander, and waits until it was served once.
    async fn start(mut served: Served) -> Self {
        served.once(0).await;
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut count = 0;
            // Once more after the stop: the program still serves after the attack.
            let mut last = false;
            while !last {
                last = stopped.try_recv().is_ok();
                count += 1;
                served.once(count).await;
                tokio::time::sleep(PACE).await;
            }
        });
        Self { stop, task }
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.expect("everybody was served")
    }
}
