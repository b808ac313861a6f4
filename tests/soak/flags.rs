//! The command line of a soak: flags of its own with a value each, and what cargo gives to every test program.

use std::process::ExitCode;
use std::str::FromStr;

use crate::acceptance_arguments::{self, Request as CargoRequest};

/// What is to be done.
pub enum Request<T> {
    Run(T),
    /// Say this, and nothing else.
    Say(String),
}

impl<T> Request<T> {
    /// What is to be run, or the status to end with, everything said.
    pub fn to_run(name: &str, parsed: Result<Self, String>) -> Result<T, ExitCode> {
        match parsed {
            Ok(Self::Run(arguments)) => Ok(arguments),
            Ok(Self::Say(what)) => {
                println!("{what}");
                Err(ExitCode::SUCCESS)
            }
            Err(error) => {
                eprintln!("{name}: {error}");
                Err(ExitCode::from(2))
            }
        }
    }
}

/// The values of those flags that were given.
pub struct Flags<const N: usize> {
    names: [&'static str; N],
    values: [Option<String>; N],
}

/// Takes the flags with these names; the others are cargo's. `name` is that of the one test in this program.
pub fn parse<const N: usize>(
    arguments: impl Iterator<Item = String>,
    name: &str,
    help: &str,
    names: [&'static str; N],
) -> Result<Request<Flags<N>>, String> {
    let (mut values, mut others) = ([const { None }; N], Vec::new());
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        let (flag, value) = match argument.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        if flag == "-h" || flag == "--help" {
            return Ok(Request::Say(help.to_owned()));
        }
        match names.iter().position(|name| *name == flag) {
            Some(index) => {
                let value = value.or_else(|| arguments.next());
                values[index] = Some(value.ok_or_else(|| format!("{flag} needs a value"))?);
            }
            None => others.push(argument),
        }
    }
    match acceptance_arguments::parse(others.into_iter())? {
        CargoRequest::Help => Ok(Request::Say(help.to_owned())),
        CargoRequest::Run(cargo) if !cargo.choose(name) => Ok(Request::Say(String::new())),
        CargoRequest::Run(cargo) if cargo.list => Ok(Request::Say(format!("{name}: test"))),
        CargoRequest::Run(_) => Ok(Request::Run(Flags { names, values })),
    }
}

impl<const N: usize> Flags<N> {
    /// Whether there is one at all.
    pub fn any(&self) -> bool {
        self.values.iter().any(Option::is_some)
    }

    /// The number that a flag was given.
    pub fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        let parse = |value: &str| value.parse().map_err(|_| format!("{name} is {value:?}, a number is expected"));
        self.value(name).map(parse).transpose()
    }

    pub fn time(&self, name: &str) -> Result<Option<std::time::Duration>, String> {
        let parse =
            |value: &str| humantime::parse_duration(value).map_err(|error| format!("{name} is {value:?}: {error}"));
        self.value(name).map(parse).transpose()
    }

    /// Where the random numbers begin: a new seed each time, if none was given.
    pub fn seed(&self) -> Result<u64, String> {
        Ok(self.number("--seed")?.unwrap_or_else(|| fastrand::u64(..1_000_000_000)))
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.names.iter().zip(&self.values).find(|(own, _)| **own == name)?.1.as_deref()
    }
}
