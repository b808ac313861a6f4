//! The command line: how much, from which seed, and what cargo gives to every test program.

use std::time::Duration;

use crate::acceptance_arguments::{self, Request as CargoRequest};

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

/// What is to be done.
pub enum Request {
    Run(Arguments),
    /// Say this, and nothing else.
    Say(&'static str),
}

/// For every change: less than a minute on a small machine that is busy.
const SHORT: Arguments = Arguments { seed: 0, cuts: 60, kills: 4, return_within: Duration::from_secs(5) };
const SOAK: Arguments = Arguments { seed: 0, cuts: 1000, kills: 50, return_within: Duration::from_secs(1) };

pub fn parse(arguments: impl Iterator<Item = String>, name: &str) -> Result<Request, String> {
    let (mut own, mut others) = ([const { None }; 4], Vec::new());
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        let (flag, value) = match argument.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        let index = match flag {
            "--seed" => 0,
            "--cuts" => 1,
            "--kills" => 2,
            "--return-within" => 3,
            "-h" | "--help" => return Ok(Request::Say(HELP)),
            _ => {
                others.push(argument);
                continue;
            }
        };
        own[index] = Some(value.or_else(|| arguments.next()).ok_or_else(|| format!("{flag} needs a value"))?);
    }
    let number = |index: usize, name: &str| {
        let value = own[index].as_ref();
        value
            .map(|value| value.parse::<u64>().map_err(|_| format!("{name} is {value:?}, a number is expected")))
            .transpose()
    };
    let mut chosen = if own.iter().any(Option::is_some) { SOAK } else { SHORT };
    chosen.seed = number(0, "--seed")?.unwrap_or_else(|| fastrand::u64(..1_000_000_000));
    chosen.cuts = number(1, "--cuts")?.unwrap_or(chosen.cuts);
    chosen.kills = number(2, "--kills")?.unwrap_or(chosen.kills);
    if let Some(time) = &own[3] {
        chosen.return_within =
            humantime::parse_duration(time).map_err(|error| format!("--return-within is {time:?}: {error}"))?;
    }
    match acceptance_arguments::parse(others.into_iter())? {
        CargoRequest::Help => Ok(Request::Say(HELP)),
        CargoRequest::Run(cargo) if !cargo.choose(name) => Ok(Request::Say("")),
        CargoRequest::Run(cargo) if cargo.list => Ok(Request::Say("soak: test")),
        CargoRequest::Run(_) => Ok(Request::Run(chosen)),
    }
}
