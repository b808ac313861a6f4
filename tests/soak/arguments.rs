//! The command line: how much, and from which seed.

use std::time::Duration;

use crate::flags::{self, Request};

pub const HELP: &str = "\
Breaks a chat at random, and checks that no message is lost unflagged, repeated, or out of order.

usage: soak [--seed N] [--cuts N] [--kills N] [--return-within TIME]

  --seed N              where the random numbers begin; a new one each time, and printed
  --cuts N              goes on until so many connections were cut ...
  --kills N             ... and the server was killed so many times
  --return-within TIME  how soon after a kill clients must read again, from when the server is back

Without any of them it is the short form, for cargo test; with one of them the others are 1000 cuts, 50 kills, and 1s.
cargo's own arguments for tests are taken too.";

#[derive(Debug, Clone)]
pub struct Arguments {
    pub seed: u64,
    pub cuts: u64,
    pub kills: u64,
    pub return_within: Duration,
}

/// For every change: less than a minute on a small machine that is busy.
const SHORT: Arguments = Arguments { seed: 0, cuts: 60, kills: 4, return_within: Duration::from_secs(5) };
const SOAK: Arguments = Arguments { seed: 0, cuts: 1000, kills: 50, return_within: Duration::from_secs(1) };

pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Request<Arguments>, String> {
    let names = ["--seed", "--cuts", "--kills", "--return-within"];
    let flags = match flags::parse(arguments, "soak", HELP, names)? {
        Request::Run(flags) => flags,
        Request::Say(what) => return Ok(Request::Say(what)),
    };
    let chosen = if flags.any() { SOAK } else { SHORT };
    Ok(Request::Run(Arguments {
        seed: flags.seed()?,
        cuts: flags.number("--cuts")?.unwrap_or(chosen.cuts),
        kills: flags.number("--kills")?.unwrap_or(chosen.kills),
        return_within: flags.time("--return-within")?.unwrap_or(chosen.return_within),
    }))
}
