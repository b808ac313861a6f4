//! The client of the messenger: the chat over HTTP.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use messenger::net;
use messenger::process::{self, LogSettings, Signals};
use messenger::{client, metrics, settings};

/// The client of a one-room messenger: keeps one stream from the gRPC server open, and gives the chat to people and programs over
/// HTTP: a page at GET /, POST /sendMessage and POST /getAndFlushMessages.
///
/// Every setting is a flag and an environment variable; the flag wins.
#[derive(Debug, Parser)]
#[command(name = "messenger-client", version = settings::VERSION)]
struct Cli {
    #[command(flatten)]
    client: client::Settings,
    #[command(flatten)]
    metrics: metrics::Settings,
    #[command(flatten)]
    log: LogSettings,
    /// Ask the client that runs on this machine with these settings whether it serves, and exit with 0 if it does.
    #[arg(long, help_heading = "Options")]
    health_check: bool,
}

fn main() -> ExitCode {
    match settings::parse::<Cli>() {
        // All that a client does passes through its one connection to the server: more threads would hand each call to each other.
        // Measured on 2 cores (`bench client`), they cost 1.1 to 1.6 times the processor time per call, and are slower.
        Ok(cli) => process::run_on_one_thread("messenger-client", run(cli)),
        Err(status) => status,
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let address = SocketAddr::new(cli.client.http.http_bind, cli.client.http.http_port);
    if cli.health_check {
        return client::health_check(net::reachable(address), &cli.client.http.access).await;
    }
    let _log = cli.log.start()?;
    net::start_lookups()?;
    process::raise_file_limit();
    let signals = Signals::catch(cli.client.reads_files())?;
    let (listener, numbers) = (net::listen(address)?, cli.metrics.listen()?);
    let (mut registry, metrics) = (metrics::registry(), client::Metrics::default());
    metrics.register(&mut registry);
    cli.client.http.access.register(&mut registry);
    tokio::select! {
        biased;
        () = client::serve(listener, &cli.client, &metrics, signals.shutdown()) => {}
        () = metrics::serve(numbers, registry) => {}
    }
    Ok(())
}
