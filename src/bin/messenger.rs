//! The whole chat in one process: the gRPC server, and a client of it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use messenger::net::{self, ServerAddr};
use messenger::process::{self, LogSettings, Signals};
use messenger::{client, metrics, server, settings};
use tokio::sync::watch;

/// The whole chat in one process: the gRPC server of a one-room messenger, and a client that serves
/// the chat over HTTP. The two talk over a TCP connection, as messenger-server and messenger-client
/// do.
///
/// Every setting is a flag and an environment variable; the flag wins.
#[derive(Debug, Parser)]
#[command(name = "messenger", version = settings::VERSION)]
struct Cli {
    #[command(flatten)]
    server: server::Settings,
    #[command(flatten)]
    http: client::HttpSettings,
    #[command(flatten)]
    metrics: metrics::Settings,
    #[command(flatten)]
    log: LogSettings,
}

fn main() -> ExitCode {
    match settings::parse::<Cli>() {
        Ok(cli) => process::run("messenger", run(cli)),
        Err(status) => status,
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let _log = cli.log.start()?;
    net::start_lookups()?;
    process::raise_file_limit();
    let signals = Signals::catch(cli.server.reads_files() || cli.http.reads_files())?;
    // Both ports open before anything runs: either the whole chat is there, or one line names the
    // port that can't be opened.
    let server = net::listen(SocketAddr::new(cli.server.server_bind, cli.server.server_port))?;
    let http = net::listen(SocketAddr::new(cli.http.http_bind, cli.http.http_port))?;
    let metrics_listener = cli.metrics.listen()?;
    let (grpc_at, http_at) = (cli.server.access.address(server.local_addr()?), net::reachable(http.local_addr()?));
    // Fails if stdout is closed. The chat is open all the same.
    let _ = writeln!(io::stdout(), "{}", welcome(&grpc_at, http_at, &cli));

    // The client trusts the certificate of this server, and has its token.
    let access = cli.server.access.inside().into();
    let client_settings = client::Settings { access, server_addr: grpc_at.into(), http: cli.http };
    let ending = watch::Sender::new(false);
    let ended = || {
        let mut ending = ending.subscribe();
        async move {
            let _ = ending.wait_for(|ending| *ending).await;
        }
    };
    let (mut registry, of_server, of_client) =
        (metrics::registry(), server::Metrics::default(), client::Metrics::default());
    if metrics_listener.is_some() {
        of_server.register(&mut registry);
        of_client.register(&mut registry);
        cli.server.access.register(&mut registry);
        client_settings.http.access.register(&mut registry);
    }
    let chat = async {
        tokio::try_join!(
            server::serve(server, &cli.server, &of_server, ended()),
            async {
                client::serve(http, &client_settings, &of_client, ended()).await;
                Ok(())
            },
            async {
                signals.shutdown().await;
                ending.send_replace(true);
                Ok(())
            }
        )
    };
    tokio::select! {
        biased;
        ended = chat => drop(ended?),
        () = metrics::serve(metrics_listener, registry) => {}
    }
    Ok(())
}

/// The addresses of the chat, and commands to paste.
fn welcome(grpc: &ServerAddr, http: SocketAddr, cli: &Cli) -> String {
    let version = settings::VERSION;
    // The certificate may be for another name, and a token is never printed.
    let (http, curl) = match &cli.http.access.tls {
        Some(_) => (format!("https://{http}"), "curl -k"),
        None => (http.to_string(), "curl"),
    };
    let http_url = if http.contains("://") { http.clone() } else { format!("http://{http}") };
    let http_token = match &cli.http.access.guard {
        Some(_) => " -H \"Authorization: Bearer $MESSENGER_HTTP_TOKEN\"",
        None => "",
    };
    let grpcurl = match (&cli.server.access.tls, &cli.server.access.guard) {
        (None, None) => "grpcurl -plaintext",
        (Some(_), None) => "grpcurl -insecure",
        (None, Some(_)) => "grpcurl -plaintext -H \"authorization: Bearer $MESSENGER_TOKEN\"",
        (Some(_), Some(_)) => "grpcurl -insecure -H \"authorization: Bearer $MESSENGER_TOKEN\"",
    };
    let origin = grpc.origin();
    let address = origin.authority().map_or("", |authority| authority.as_str());
    format!(
        r#"messenger {version}: the chat is open

  HTTP  {http_url}
  gRPC  {grpc}

Open http://{http} in a browser, or send and fetch messages with curl:

  {curl} -X POST {http}/sendMessage{http_token} -d '{{"author": "alice", "text": "hey"}}'
  {curl} -X POST {http}/getAndFlushMessages{http_token}

Or talk to the server without the client:

  {grpcurl} {address} mes_grpc.MessengerServer/ReadMessages
  {grpcurl} -d '{{"author": "alice", "text": "hey"}}' {address} mes_grpc.MessengerServer/SendMessage

Ctrl-C ends it.
"#
    )
}
