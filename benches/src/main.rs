//! A load generator for servers of `mes_grpc.MessengerServer` and for nats-server. It compares the
//! messenger with its peers. See benches/README.md.
#![forbid(unsafe_code)]

mod check;
mod client;
mod compare;
mod cost;
mod machine;
mod plot;
mod process;
mod readers;
mod redis;
mod senders;
mod server;
mod slow;
mod text;
mod wire;
mod work;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, ValueEnum};

use crate::client::ClientBench;
use crate::compare::CompareBench;
use crate::cost::CostBench;
use crate::redis::RedisBench;
use crate::senders::Pace;
use crate::server::Server;
use crate::wire::Protocol;
use crate::work::{Work, measure};

/// Measures servers. It loads only servers that it has started itself.
#[derive(Debug, Parser)]
enum Cli {
    /// Measure one server under one kind of work.
    One(One),
    /// Measure the messenger's client beside a server: sends, and the flush of a full postbox.
    Client(ClientBench),
    /// Count the server's instructions and allocations for a call and for a delivery.
    Cost(CostBench),
    /// Measure the server without Redis, with a Redis in memory, and with a Redis on disk.
    Redis(RedisBench),
    /// Measure the messenger and its peers under all kinds of work, interleaved.
    Compare(CompareBench),
}

#[derive(Debug, Args)]
struct One {
    /// The command that starts the server. {port} in it is replaced by a free port; variables may
    /// stand before the program.
    #[arg(long)]
    server: String,
    #[arg(long, value_enum, default_value = "grpc")]
    protocol: ProtocolName,
    #[arg(long, value_enum, default_value = "fan-out")]
    work: WorkName,
    /// The number of readers. With slow-reader the default is 10, and one of them is slow.
    #[arg(long, default_value = "100", default_value_if("work", "slow-reader", "10"))]
    readers: usize,
    #[arg(long, default_value = "1")]
    per_connection: usize,
    #[arg(long, default_value = "4")]
    senders: usize,
    /// Messages a second. Without it senders are as fast as the server acknowledges. The default
    /// with slow-reader is 2000.
    #[arg(
        long,
        default_value_if("work", "slow-reader", "2000"),
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    rate: Option<u32>,
    /// Unacknowledged messages of all senders together.
    #[arg(long, default_value = "64")]
    in_flight: usize,
    /// Bytes of a text. The default with slow-reader is 4096, so that the server notices soon.
    #[arg(
        long,
        default_value = "100",
        default_value_if("work", "slow-reader", "4096"),
        value_parser = clap::value_parser!(u16).range(30..=16_000)
    )]
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
        Cli::Redis(bench) => bench.run(),
        Cli::Compare(bench) => bench.run(),
    }
}

impl One {
    fn run(&self) -> Result<()> {
        let protocol = match self.protocol {
            ProtocolName::Grpc => Protocol::Grpc,
            ProtocolName::Nats => Protocol::Nats,
        };
        let time = Duration::from_secs_f64(self.seconds);
        let (senders, text) = (self.senders, usize::from(self.text));
        let pace = match self.rate {
            Some(rate) => Pace::Fixed { rate },
            None => Pace::Full { in_flight: self.in_flight / senders },
        };
        let work = match self.work {
            WorkName::FanOut => Work::FanOut { readers: self.readers, senders, pace, time, text },
            WorkName::Unary => Work::Unary { senders, in_flight: self.in_flight, time, text },
            WorkName::SlowReader => {
                anyhow::ensure!(self.readers > 1, "slow-reader needs at least two readers");
                let rate = self.rate.context("slow-reader needs a fixed rate")?;
                Work::SlowReader { readers: self.readers, senders, rate, time, text }
            }
            WorkName::Idle => {
                Work::Idle { readers: self.readers, per_connection: self.per_connection }
            }
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
