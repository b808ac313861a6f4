//! The client of the messenger: it serves the chat over HTTP.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use messenger::net;
use messenger::process::{self, LogSettings, Signals};
use messenger::{client, metrics, settings};

/// The client of a one-room messenger. It keeps one stream from the gRPC server open, and serves
/// the chat over HTTP: a page at GET /, POST /sendMessage and POST /getAndFlushMessages.
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
    /// Check the client that runs on this machine with these settings, and exit with 0 if it
    /// serves.
    #[arg(long, help_heading = "Options")]
    health_check: bool,
}

fn main() -> ExitCode {
    match settings::parse::<Cli>() {
        // Every call passes through the one connection to the server, so more threads would only
        // hand calls to each other. Measured on 2 cores (`bench client`), two threads take 1.1 to
        // 1.6 times the CPU time per call, and are slower.
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
    let (listener, metrics_listener) = (net::listen(address)?, cli.metrics.listen()?);
    let (mut registry, metrics) = (metrics::registry(), client::Metrics::default());
    metrics.register(&mut registry);
    cli.client.http.access.register(&mut registry);
    tokio::select! {
        biased;
        () = client::serve(listener, &cli.client, &metrics, signals.shutdown()) => {}
        () = metrics::serve(metrics_listener, registry) => {}
    }
    Ok(())
}
