//! How far one room goes: a model of many servers on one engine, that is run.
//!
//! A message goes from its sender's server to the engine and from there to all servers (`hop.rs`), each of which delivers it in rounds
//! (`rounds.rs`). What each step costs is measured (`costs.rs`), and `--check` holds the model against the real server.

mod arrivals;
mod check;
mod costs;
mod hop;
mod outcome;
mod plan;
mod rounds;
#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Args;

use self::arrivals::Arrivals;
use self::costs::Costs;
use self::outcome::{Case, Outcome, What};
use self::plan::Enough;

const COLUMNS: [&str; 13] = [
    "chosen for",
    "msg/s",
    "deliveries/s",
    "servers",
    "readers each",
    "CPU each",
    "egress each",
    "memory each",
    "engine's CPU",
    "engine's egress",
    "p50",
    "p99",
    "ends first",
];

/// What to run through the model.
#[derive(Debug, Args)]
pub struct ScaleBench {
    /// Readers of the room, on all servers together.
    #[arg(long, default_value = "1000000")]
    readers: u64,
    /// Messages a second.
    #[arg(long, value_delimiter = ',', default_value = "1,10,60")]
    rates: Vec<f64>,
    /// Bytes of a text.
    #[arg(long, default_value = "100")]
    text: u64,
    /// So many servers, instead of as many as are needed.
    #[arg(long)]
    servers: Option<usize>,
    /// As many servers as are needed for nothing to be busier than this part of it.
    #[arg(long, default_value = "0.7")]
    load: f64,
    /// And as few as still bring 99 of 100 deliveries within so many ms, with cores that may have more to do than that.
    #[arg(long, default_value = "500")]
    within_ms: f64,
    /// Of the times at which messages are sent.
    #[arg(long, default_value = "1")]
    seed: u64,
    /// Run the real server under work that one machine can take, and print the model beside it.
    #[arg(long)]
    check: bool,
    /// The server program, with --check.
    #[arg(long, default_value = "target/release/messenger-server")]
    server: String,
    /// Of each kind of work, with --check.
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u8).range(1..))]
    runs: u8,
    /// Of each run, with --check.
    #[arg(long, default_value = "3")]
    seconds: f64,
    #[command(flatten)]
    costs: Costs,
}

impl ScaleBench {
    /// Prints how many servers are needed, and what each has to do then.
    pub fn run(&self) -> Result<()> {
        if self.check {
            return check::run(&self.costs, &self.server, self.runs, Duration::from_secs_f64(self.seconds), self.seed);
        }
        ensure!(
            self.rates.iter().all(|rate| *rate > 0.0) && self.servers != Some(0),
            "a rate and a number of servers above 0"
        );
        println!("| {} |\n| --- |{}", COLUMNS.join(" | "), " ---: |".repeat(COLUMNS.len() - 1));
        for &rate in &self.rates {
            let case = self.case(rate);
            if let Some(servers) = self.servers {
                self.print(rate, "–", &Case { servers: Some(servers), ..case }.run(&self.costs));
                continue;
            }
            let load = self.load;
            let kinds = [
                (format!("load {:.0} %", load * 100.0), Enough::Load(load)),
                (format!("p99 {} ms", self.within_ms), Enough::Within { ms: self.within_ms, load }),
            ];
            for (why, enough) in kinds {
                match plan::servers(&self.costs, case, enough) {
                    Some(outcome) => self.print(rate, &why, &outcome),
                    None => bail!("{rate} messages a second: no number of servers is enough for {why}"),
                }
            }
        }
        let Costs { cores, memory_gib, network_gbit, .. } = self.costs;
        println!(
            "\n{} readers with connections of their own, texts of {} bytes, servers of {cores} cores, {memory_gib} GiB and {network_gbit} \
             Gbit/s.",
            self.readers, self.text
        );
        Ok(())
    }

    fn case(&self, rate: f64) -> Case {
        let (readers, text, seed) = (self.readers, self.text, self.seed);
        Case { readers, rate, text, servers: None, arrivals: Arrivals::Random, seed }
    }

    fn print(&self, rate: f64, why: &str, outcome: &Outcome) {
        println!(
            "| {why} | {rate} | {:.0} | {} | {} | {:.0} % | {:.2} Gbit/s | {:.1} GiB | {:.1} % | {:.2} Mbit/s | {:.1} ms | {:.1} ms \
             | {} |",
            rate * self.readers as f64,
            outcome.servers,
            outcome.readers,
            outcome.used(What::Cpu) * 100.0,
            outcome.egress / 1e9,
            outcome.memory as f64 / f64::from(1 << 30),
            outcome.used(What::EngineCpu) * 100.0,
            outcome.engine_egress / 1e6,
            outcome.latency(0.5),
            outcome.latency(0.99),
            outcome.first().name(),
        );
    }
}
