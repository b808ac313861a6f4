//! The command line: how much, and from which seed.

use std::time::Duration;

use crate::flags::{self, Request};

pub const HELP: &str = "\
Breaks a room of three servers and one engine at random, and checks that no message is lost unflagged, repeated, or out of order.

usage: soak_many [--seed N] [--readers N] [--kills N] [--engine-kills N] [--losses N] [--return-within TIME]

  --seed N              where the random numbers begin; a new one each time, and printed
  --readers N           of each server
  --kills N             goes on until servers were killed so many times ...
  --engine-kills N      ... and the engine so many times
  --losses N            then, with another engine, until it has lost messages so many times
  --return-within TIME  how soon after a kill or a return everybody must read again

Without any of them it is the short form, for cargo test; with one of them the others are 30 readers, 10 kills, 5 kills of the engine,
5 losses and 1s. cargo's own arguments for tests are taken too.";

#[derive(Debug, Clone)]
pub struct Arguments {
    pub seed: u64,
    pub readers: usize,
    pub kills: u64,
    pub engine_kills: u64,
    pub losses: u64,
    pub return_within: Duration,
}

/// For every change, on a small machine that is busy.
const SHORT: Arguments =
    Arguments { seed: 0, readers: 6, kills: 3, engine_kills: 2, losses: 2, return_within: Duration::from_secs(8) };
const SOAK: Arguments =
    Arguments { seed: 0, readers: 30, kills: 10, engine_kills: 5, losses: 5, return_within: Duration::from_secs(1) };

pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Request<Arguments>, String> {
    let names = ["--seed", "--readers", "--kills", "--engine-kills", "--losses", "--return-within"];
    let flags = match flags::parse(arguments, "soak_many", HELP, names)? {
        Request::Run(flags) => flags,
        Request::Say(what) => return Ok(Request::Say(what)),
    };
    let chosen = if flags.any() { SOAK } else { SHORT };
    Ok(Request::Run(Arguments {
        seed: flags.seed()?,
        readers: flags.number("--readers")?.unwrap_or(chosen.readers),
        kills: flags.number("--kills")?.unwrap_or(chosen.kills),
        engine_kills: flags.number("--engine-kills")?.unwrap_or(chosen.engine_kills),
        losses: flags.number("--losses")?.unwrap_or(chosen.losses),
        return_within: flags.time("--return-within")?.unwrap_or(chosen.return_within),
    }))
}
