//! The gRPC server of the messenger.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use messenger::net;
use messenger::process::{self, LogSettings, Signals};
use messenger::{metrics, server, settings};

/// The gRPC server of a one-room messenger. It takes messages with SendMessage, and streams them to
/// every reader of ReadMessages in one order.
///
/// Every setting is a flag and an environment variable; the flag wins.
#[derive(Debug, Parser)]
#[command(name = "messenger-server", version = settings::VERSION)]
struct Cli {
    #[command(flatten)]
    server: server::Settings,
    #[command(flatten)]
    metrics: metrics::Settings,
    #[command(flatten)]
    log: LogSettings,
    /// Check the server that runs on this machine with these settings, and exit with 0 if it
    /// serves.
    #[arg(long, help_heading = "Options")]
    health_check: bool,
}

fn main() -> ExitCode {
    match settings::parse::<Cli>() {
        Ok(cli) => process::run("messenger-server", run(cli)),
        Err(status) => status,
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let address = SocketAddr::new(cli.server.server_bind, cli.server.server_port);
    if cli.health_check {
        return server::health_check(address, &cli.server.access).await;
    }
    let _log = cli.log.start()?;
    net::start_lookups()?;
    process::raise_file_limit();
    let signals = Signals::catch(cli.server.reads_files())?;
    let (listener, metrics_listener) = (net::listen(address)?, cli.metrics.listen()?);
    let (mut registry, metrics) = (metrics::registry(), server::Metrics::default());
    if metrics_listener.is_some() {
        metrics.register(&mut registry);
        cli.server.access.register(&mut registry);
    }
    tokio::select! {
        biased;
        served = server::serve(listener, &cli.server, &metrics, signals.shutdown()) => served?,
        () = metrics::serve(metrics_listener, registry) => {}
    }
    Ok(())
}
