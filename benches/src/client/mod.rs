//! Measures the client: calls of `POST /sendMessage`, and the flush of a full postbox.

mod answer;
mod flush;
mod http1;
mod sends;

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use self::http1::Blocking;
use crate::server::Server;

/// The client is idle when it has used no processor time for this long. On a busy machine it waits
/// for a processor, but not for so long.
const QUIET: Duration = Duration::from_millis(200);

/// What to measure, and for how long.
#[derive(Debug, Args)]
pub struct ClientBench {
    /// The client program. More than one are measured interleaved and compared with the first.
    #[arg(long = "client", default_value = "target/release/messenger-client")]
    clients: Vec<String>,
    /// The server program.
    #[arg(long, default_value = "target/release/messenger-server")]
    server: String,
    /// Connections that call `POST /sendMessage`, each one call at a time.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    connections: Vec<usize>,
    /// Messages in the postbox when it is fetched.
    #[arg(long, default_value = "100000")]
    messages: usize,
    /// Bytes of a text, 30 to 118.
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u8).range(30..=118))]
    text: u8,
    #[arg(long, default_value = "1")]
    seconds: f64,
    #[arg(long, default_value = "5")]
    runs: usize,
}

/// A server and a client.
struct Chat {
    // Dropped before the server, so that the client does not lose its connection.
    client: Server,
    server: Server,
}

/// One measured value.
#[derive(Debug, Clone)]
struct Measurement {
    name: String,
    unit: &'static str,
    value: f64,
}

impl ClientBench {
    /// Measures interleaved runs and prints the medians as a table.
    pub fn run(&self) -> Result<()> {
        // Ordered by client, then by figure, then by run.
        let mut figures: Vec<Vec<Vec<Measurement>>> = vec![Vec::new(); self.clients.len()];
        for run in 0..self.runs {
            for (client, figures) in self.clients.iter().zip(&mut figures) {
                eprintln!("run {}/{}  {client}", run + 1, self.runs);
                for (index, figure) in self.measure(client)?.into_iter().enumerate() {
                    if run == 0 {
                        figures.push(Vec::new());
                    }
                    figures[index].push(figure);
                }
            }
        }
        print!("| what | unit |");
        self.clients.iter().for_each(|client| print!(" {client} |"));
        println!("\n| --- | --- |{}", " ---: |".repeat(self.clients.len()));
        for index in 0..figures[0].len() {
            let first = &figures[0][index][0];
            print!("| {} | {} |", first.name, first.unit);
            let own = median(&figures[0][index]);
            print!(" {own:.1} |");
            for figures in &figures[1..] {
                let value = median(&figures[index]);
                print!(" {value:.1} ({:.2}x) |", value / own);
            }
            println!();
        }
        println!(
            "\nMedians of {} interleaved runs. In brackets: the ratio to the first client.",
            self.runs
        );
        Ok(())
    }

    fn measure(&self, client: &str) -> Result<Vec<Measurement>> {
        let (time, text) = (Duration::from_secs_f64(self.seconds), usize::from(self.text));
        let mut figures = Vec::new();
        for connections in &self.connections {
            figures.extend(sends::measure(
                &Chat::start(&self.server, client)?,
                *connections,
                time,
                text,
            )?);
        }
        figures.extend(flush::measure(&Chat::start(&self.server, client)?, self.messages, text)?);
        Ok(figures)
    }
}

impl Chat {
    /// Starts both, and waits until the stream of the client is open and its postbox empty.
    fn start(server: &str, client: &str) -> Result<Self> {
        let server = Server::start(&format!("MESSENGER_SERVER_PORT={{port}} {server}"))?;
        let variables =
            format!("MESSENGER_HTTP_PORT={{port}} MESSENGER_SERVER_ADDR={}", server.address);
        let client = Server::start(&format!("{variables} {client}"))?;
        let chat = Self { client, server };
        let mut connection = Blocking::open(chat.client.address)?;
        connection
            .post("/sendMessage", br#"{"author":"bench","text":"a send waits for the stream"}"#)?;
        chat.wait_until_quiet();
        let (body, _) = connection.post("/getAndFlushMessages", b"")?;
        anyhow::ensure!(body != b"[]", "the first message did not come back");
        Ok(chat)
    }

    /// Waits until the client has handled all messages.
    fn wait_until_quiet(&self) {
        loop {
            let before = self.client.cpu();
            std::thread::sleep(QUIET);
            if self.client.cpu() == before {
                return;
            }
        }
    }
}

impl Measurement {
    fn new(name: String, unit: &'static str, value: f64) -> Self {
        Self { name, unit, value }
    }
}

fn median(runs: &[Measurement]) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(|figure| figure.value).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
