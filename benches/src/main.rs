//! A load generator for any server of `mes_grpc.MessengerServer` (and nats-server), and the comparison of the messenger with its
//! peers. See benches/README.md.
#![forbid(unsafe_code)]

mod check;
mod client;
mod compare;
mod cost;
mod engine;
mod machine;
mod plot;
mod process;
mod readers;
mod scale;
mod senders;
mod server;
mod slow;
mod text;
mod wire;
mod work;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, ValueEnum};

use crate::client::ClientBench;
use crate::cost::CostBench;
use crate::engine::EngineBench;
use crate::scale::ScaleBench;
use crate::senders::Pace;
use crate::server::Server;
use crate::wire::Protocol;
use crate::work::{Work, measure};

/// Measures servers. It only ever loads a server that it has started itself.
#[derive(Debug, Parser)]
enum Cli {
    /// Measure one server under one kind of work.
    One(One),
    /// Measure the messenger's client, with a server beside it: sends, and the flush of a full postbox.
    Client(ClientBench),
    /// Count the instructions and allocations of the messenger's server for a call and for a delivery, and compare with what was
    /// recorded.
    Cost(CostBench),
    /// Measure what it costs that the room is in a Redis: the same server without one, with one in memory and with one on disk.
    Engine(EngineBench),
    /// Run a model of one room of many readers on many servers: how many it needs, and what each has to do.
    Scale(ScaleBench),
    /// Measure the messenger and its peers under all kinds of work, interleaved; write performance.md and performance.svg.
    Compare {
        /// The messenger's server program.
        #[arg(long, default_value = "target/release/messenger-server")]
        messenger: String,
        #[arg(long, default_value = "3")]
        runs: usize,
        #[arg(long, default_value = "3")]
        seconds: f64,
        /// Where to write the results.
        #[arg(long, default_value = "docs")]
        out: PathBuf,
    },
}

#[derive(Debug, Args)]
struct One {
    /// The command that starts the server; {port} in it is a free port. Variables may stand before it.
    #[arg(long)]
    server: String,
    #[arg(long, value_enum, default_value = "grpc")]
    protocol: ProtocolName,
    #[arg(long, value_enum, default_value = "fan-out")]
    work: WorkName,
    /// With slow-reader one of them is the slow one; 10 there.
    #[arg(long, default_value = "100", default_value_if("work", "slow-reader", "10"))]
    readers: usize,
    #[arg(long, default_value = "1")]
    per_connection: usize,
    #[arg(long, default_value = "4")]
    senders: usize,
    /// Messages a second; as fast as they are acknowledged without it. 2000 with slow-reader.
    #[arg(long, default_value_if("work", "slow-reader", "2000"), value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Unacknowledged messages of all senders together.
    #[arg(long, default_value = "64")]
    in_flight: usize,
    /// Bytes of a text. 4096 with slow-reader, or it would take long until a server notices.
    #[arg(long, default_value = "100", default_value_if("work", "slow-reader", "4096"),
        value_parser = clap::value_parser!(u16).range(30..=16_000))]
    text: u16,
    #[arg(long, default_value = "3")]
    seconds: f64,
    #[arg(long, default_value = "1")]
    runs: usize,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProtocolName {
    Grpc,
    Nats,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum WorkName {
    FanOut,
    Unary,
    SlowReader,
    Idle,
}

fn main() -> Result<()> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    match Cli::parse() {
        Cli::One(one) => one.run(),
        Cli::Client(bench) => bench.run(),
        Cli::Cost(bench) => bench.run(),
        Cli::Engine(bench) => bench.run(),
        Cli::Scale(bench) => bench.run(),
        Cli::Compare { messenger, runs, seconds, out } => compare::run(&messenger, runs, seconds, &out),
    }
}

impl One {
    fn run(&self) -> Result<()> {
        let protocol = match self.protocol {
            ProtocolName::Grpc => Protocol::Grpc,
            ProtocolName::Nats => Protocol::Nats,
        };
        let (time, senders, text) = (Duration::from_secs_f64(self.seconds), self.senders, usize::from(self.text));
        let pace = match self.rate {
            Some(rate) => Pace::Fixed { rate },
            None => Pace::Full { in_flight: self.in_flight / senders },
        };
        let work = match self.work {
            WorkName::FanOut => Work::FanOut { readers: self.readers, senders, pace, time, text },
            WorkName::Unary => Work::Unary { senders, in_flight: self.in_flight, time, text },
            WorkName::SlowReader => {
                anyhow::ensure!(self.readers > 1, "a slow reader alone harms nobody: two readers at least");
                let rate = self.rate.context("a slow reader needs a fixed rate")?;
                Work::SlowReader { readers: self.readers, senders, rate, time, text }
            }
            WorkName::Idle => Work::Idle { readers: self.readers, per_connection: self.per_connection },
        };
        for _ in 0..self.runs {
            let server = Server::start(&self.server)?;
            let figures = measure(&server, protocol, work)?;
            println!("{figures:#?}");
            figures.check()?;
        }
        Ok(())
    }
}
