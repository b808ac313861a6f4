//! Chats whose networks and processes are broken at random: no message is lost without notice, none
//! comes twice, and all readers see one order.
//!
//! Every message has a text of its own. What every reader has seen is checked against what the
//! senders were told and what the other readers have ([`record`]): some of it with each message,
//! the rest at moments of calm.
//!
//! `cargo test` runs a short form with a new seed each time. The soaks themselves:
//! `cargo test --release --test soak -- --servers 1 --seed 7` and `… --servers 3 --seed 7`.
#![allow(missing_docs, unreachable_pub, clippy::pedantic, clippy::unwrap_used)]

mod arguments;
mod clients;
mod faults;
mod journal;
mod message;
mod network;
mod one_server;
mod proxy;
mod readers;
mod record;
mod record_tests;
mod senders;
#[path = "../it/support/mod.rs"]
mod support;
mod three_servers;
mod violation;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use libtest_mimic::Trial;

use self::arguments::CommandLine;
use self::support::suite;
use self::world::World;

const PROGRESS: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let mut arguments = CommandLine::parse();
    // One after the other: a soak needs the whole machine, and it watches for panics in the whole
    // process.
    arguments.tests.test_threads = Some(1);
    let is_short = arguments.is_short();
    let mut trials = record_tests::tests();
    if let Some(one) = arguments.one_server() {
        trials.push(trial("one_server", move || one_server::run(one, is_short)));
    }
    if let Some(three) = arguments.three_servers() {
        trials.push(trial("three_servers_and_a_redis_that_keeps_everything", move || {
            three_servers::run(three, true, is_short)
        }));
        trials.push(trial("three_servers_and_a_redis_that_loses_messages", move || {
            three_servers::run(three, false, is_short)
        }));
    }
    libtest_mimic::run(&arguments.tests, trials).exit_code()
}

fn trial<F>(name: &str, soak: impl FnOnce() -> F + Send + 'static) -> Trial
where
    F: Future<Output = Result<(), String>>,
{
    Trial::ignorable_test(name, move || suite::run(soak()))
}

/// Runs a soak until it is done, or until something is wrong; `line` tells how far it is.
async fn watch(
    name: String,
    is_short: bool,
    world: &World,
    line: impl Fn() -> String,
    soak: impl Future<Output = ()>,
) -> Result<(), String> {
    let progress = async {
        loop {
            tokio::time::sleep(PROGRESS).await;
            if !is_short {
                println!("{name}: {}", line());
            }
        }
    };
    let outcome = tokio::select! {
        biased;
        failure = world.failed() => Err(failure),
        () = soak => Ok(()),
        () = progress => Ok(()),
    };
    if !is_short {
        println!("{name}: {}", line());
    }
    outcome.map_err(|failure| format!("{name}: {}\n{failure}", line()))
}
