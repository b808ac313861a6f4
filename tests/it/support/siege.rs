//! What every attack must leave as it was: the others are served, memory is bounded, nothing panics, and the program ends as always.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::program::{self, Program};
use super::{Grpc, Message, Reader, grpc, http, post, reader, soon};

pub const KIB: usize = 1024;
pub const MIB: usize = 1024 * KIB;

/// The contract's bound for the end of a program.
const END: Duration = Duration::from_secs(3);
/// Between two messages of those who are served meanwhile: they are to be there, not to take the processor.
const PACE: Duration = Duration::from_millis(2);

/// A program that is attacked at `address`.
#[derive(Debug)]
pub struct Besieged {
    pub address: SocketAddr,
    program: Program,
    /// What a client needs behind it.
    _server: Option<Program>,
    bystander: Bystander,
    before: usize,
}

impl Besieged {
    /// A server.
    pub async fn server() -> Self {
        let (program, address) = program::server(&[]).await;
        let both = (grpc(address).await, reader(&mut grpc(address).await).await);
        Self::new(address, program, None, Served::ByServer(Box::new(both))).await
    }

    /// A client of a server that is left alone.
    pub async fn client() -> Self {
        Self::client_after(async |_| {}).await
    }

    /// The same, where something is done with it before anybody else is served.
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

    /// Bytes that the program has grown by, at its largest.
    pub fn grown(&self) -> usize {
        self.program.peak().saturating_sub(self.before)
    }

    /// Says what it has come to after an attack.
    pub fn report(&self, attack: &str) {
        eprintln!("{attack}: {} KiB more", self.grown() / KIB);
    }

    /// The attacks are over, or as far as they go. Fails unless everybody else was served all the time and still is, the program has not
    /// grown by more than `most`, and it ends in good order, whatever the attackers have left open.
    pub async fn stands(mut self, most: usize) {
        let grown = self.grown();
        let (messages, slowest) = self.bystander.stop().await;
        eprintln!("{messages} messages meanwhile, the slowest took {slowest:?}");
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

/// Who is served while others attack.
#[derive(Debug)]
enum Served {
    /// A sender and a reader, with a connection each.
    ByServer(Box<(Grpc, Reader)>),
    /// A user, with a connection for each request.
    ByClient(SocketAddr),
}

impl Served {
    /// One message goes around, and nothing is lost or comes twice. Attackers may say something too.
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
    task: JoinHandle<(usize, Duration)>,
}

impl Bystander {
    /// Served once already when this returns.
    async fn start(mut served: Served) -> Self {
        served.once(0).await;
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let (mut count, mut slowest) = (0, Duration::ZERO);
            // Once more when it is told to stop: what comes after the attack is served too.
            let mut last = false;
            while !last {
                last = stopped.try_recv().is_ok();
                count += 1;
                let began = Instant::now();
                served.once(count).await;
                slowest = slowest.max(began.elapsed());
                tokio::time::sleep(PACE).await;
            }
            (count, slowest)
        });
        Self { stop, task }
    }

    async fn stop(self) -> (usize, Duration) {
        let _ = self.stop.send(());
        self.task.await.expect("everybody was served")
    }
}
