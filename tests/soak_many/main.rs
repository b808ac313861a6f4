//! The soak of a room that three servers serve out of one engine: servers and the engine are killed and return, are stopped and
//! continued, and every connection is cut now and then, those between servers and the engine too. No message is lost without a word,
//! none comes twice, and all readers at all servers see one order.
//!
//! First with an engine that has everything on disk: there nothing may be missing at all, so every gap that anybody is told of is a
//! false one. Then with one that loses messages now and then, and begins a life of the room with that: there every gap must be told.
//! Readers, senders, networks and the checks are those of the other soak (`tests/soak`).
//!
//! `cargo test` runs a short form with a new seed each time. The soak: `cargo test --release --test soak_many -- --seed 7`
//! Needs redis-server, as `many_servers.rs` does.
#![allow(missing_docs, unreachable_pub, clippy::pedantic, clippy::unwrap_used)]

#[path = "../acceptance/arguments.rs"]
#[allow(dead_code)]
mod acceptance_arguments;
mod acts;
mod arguments;
#[path = "../soak/clients.rs"]
#[allow(dead_code)]
mod clients;
mod engine;
#[path = "../soak/flags.rs"]
mod flags;
#[path = "../soak/journal.rs"]
#[allow(dead_code)]
mod journal;
#[path = "../soak/message.rs"]
mod message;
#[path = "../soak/network.rs"]
mod network;
#[path = "../soak/proxy.rs"]
mod proxy;
#[path = "../soak/readers.rs"]
mod readers;
#[path = "../soak/record.rs"]
#[allow(dead_code)]
mod record;
mod returns;
#[path = "../soak/senders.rs"]
mod senders;
mod servers;
mod soak;
#[path = "../it/support/mod.rs"]
mod support;
mod totals;
#[path = "../soak/violation.rs"]
mod violation;
#[path = "../soak/world.rs"]
mod world;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use self::arguments::Arguments;
use self::flags::Request;
use self::soak::Soak;

const PROGRESS: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let arguments = match Request::to_run("soak_many", arguments::parse(std::env::args().skip(1))) {
        Ok(arguments) => arguments,
        Err(status) => return status,
    };
    if !support::redis::is_there() {
        return ExitCode::SUCCESS;
    }
    let Arguments { seed, readers, kills, engine_kills, losses, .. } = arguments;
    println!(
        "soak_many: seed {seed}, 3 servers with {readers} readers each, until {kills} kills of servers and {engine_kills} of the engine, \
         then {losses} losses of the engine"
    );
    for on_disk in [true, false] {
        if !run(&arguments, on_disk) {
            println!("again: cargo test --release --test soak_many -- --seed {seed}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// One soak from its beginning to its end; whether all was well.
fn run(arguments: &Arguments, on_disk: bool) -> bool {
    let name = if on_disk { "everything on disk" } else { "an engine that loses" };
    let name = format!("soak_many: seed {}, {name}", arguments.seed);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let good = runtime.block_on(async {
        let soak = Soak::begin(arguments, on_disk).await.expect("an engine");
        let (totals, world) = (Arc::clone(&soak.totals), Arc::clone(&soak.world));
        let report = async {
            loop {
                tokio::time::sleep(PROGRESS).await;
                println!("{name}: {}", totals.line(&world));
            }
        };
        let outcome = tokio::select! {
            biased;
            failure = world.failed() => Err(failure),
            () = soak.run() => Ok(()),
            () = report => Ok(()),
        };
        let line = totals.line(&world);
        match &outcome {
            Ok(()) => println!("{name}: {line}: no loss unflagged, no repeat, one order"),
            Err(failure) => println!("{name}: {line}: FAILED\n{failure}"),
        }
        outcome.is_ok()
    });
    runtime.shutdown_background();
    good
}
