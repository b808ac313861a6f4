//! The command line: the arguments of every test program, the number of faults, and the seed.

use std::time::Duration;

use clap::Parser;

/// Breaks a chat at random, and checks that no message is lost without notice, repeated, or out of
/// order.
///
/// Without any of its own flags a soak runs in a short form, for `cargo test`.
#[derive(Debug, Parser)]
pub struct CommandLine {
    #[command(flatten)]
    pub tests: libtest_mimic::Arguments,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Soak")]
struct Flags {
    /// Soak one server, or three servers of one room in Redis [default: both]
    #[arg(long, value_parser = ["1", "3"])]
    servers: Option<String>,
    /// The seed of the random numbers [default: a new seed, which is printed on failure]
    #[arg(long)]
    seed: Option<u64>,
    /// How soon after a kill readers must read again [default: 1s]
    #[arg(long, value_parser = humantime::parse_duration)]
    return_within: Option<Duration>,
    /// Go on until servers were killed so many times [default: 50 for one server, 10 for three]
    #[arg(long)]
    kills: Option<u64>,
    /// With one server: go on until so many connections were cut [default: 1000]
    #[arg(long)]
    cuts: Option<u64>,
    /// With three servers: readers of each server [default: 30]
    #[arg(long)]
    readers: Option<usize>,
    /// With three servers: go on until Redis was killed so many times [default: 5]
    #[arg(long)]
    redis_kills: Option<u64>,
    /// With three servers: go on until Redis lost messages so many times [default: 5]
    #[arg(long)]
    losses: Option<u64>,
}

/// The number of faults with one server.
#[derive(Debug, Clone, Copy)]
pub struct OneServer {
    pub seed: u64,
    pub cuts: u64,
    pub kills: u64,
    pub return_within: Duration,
}

/// The number of faults with three servers.
#[derive(Debug, Clone, Copy)]
pub struct ThreeServers {
    pub seed: u64,
    pub readers: usize,
    pub kills: u64,
    pub redis_kills: u64,
    pub losses: u64,
    pub return_within: Duration,
}

impl CommandLine {
    /// Whether the soak runs in its short form, on a small machine that may be busy.
    pub fn is_short(&self) -> bool {
        let Flags { servers: _, seed, return_within, kills, cuts, readers, redis_kills, losses } = &self.flags;
        let numbers = [seed, kills, cuts, redis_kills, losses];
        numbers.iter().all(|number| number.is_none()) && return_within.is_none() && readers.is_none()
    }

    pub fn one_server(&self) -> Option<OneServer> {
        let flags = &self.flags;
        let (cuts, kills, seconds) = if self.is_short() { (60, 4, 5) } else { (1000, 50, 1) };
        (flags.servers.as_deref() != Some("3")).then(|| OneServer {
            seed: self.seed(),
            cuts: flags.cuts.unwrap_or(cuts),
            kills: flags.kills.unwrap_or(kills),
            return_within: flags.return_within.unwrap_or(Duration::from_secs(seconds)),
        })
    }

    pub fn three_servers(&self) -> Option<ThreeServers> {
        let flags = &self.flags;
        let short = ThreeServers {
            seed: self.seed(),
            readers: 6,
            kills: 3,
            redis_kills: 2,
            losses: 2,
            return_within: Duration::from_secs(8),
        };
        let long = ThreeServers {
            readers: 30,
            kills: 10,
            redis_kills: 5,
            losses: 5,
            return_within: Duration::from_secs(1),
            ..short
        };
        let chosen = if self.is_short() { short } else { long };
        (flags.servers.as_deref() != Some("1")).then(|| ThreeServers {
            readers: flags.readers.unwrap_or(chosen.readers),
            kills: flags.kills.unwrap_or(chosen.kills),
            redis_kills: flags.redis_kills.unwrap_or(chosen.redis_kills),
            losses: flags.losses.unwrap_or(chosen.losses),
            return_within: flags.return_within.unwrap_or(chosen.return_within),
            ..chosen
        })
    }

    fn seed(&self) -> u64 {
        self.flags.seed.unwrap_or_else(|| fastrand::u64(..1_000_000_000))
    }
}
