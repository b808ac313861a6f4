//! Tests of the assignment's requirements, for any server and clients of the interface.
//!
//! The variables `MESSENGER_TEST_SERVER_ADDR`, `MESSENGER_TEST_CLIENT1_ADDR` and
//! `MESSENGER_TEST_CLIENT2_ADDR` (host:port) name the room under test. With none of them set, this
//! program starts its own room. It has its own `main`, because it also runs in an image without
//! cargo. It accepts cargo's arguments for tests, and `-k PATTERN`.
#![allow(missing_docs, unreachable_pub, clippy::pedantic, clippy::unwrap_used)]

mod arguments;
mod client_tests;
mod room;
mod server_tests;

use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;

use self::arguments::Request;
use self::room::Room;

/// The outcome of a test. The error says what is wrong.
pub type Outcome = anyhow::Result<()>;

pub struct Test {
    pub name: &'static str,
    pub run: fn(Room) -> Pin<Box<dyn Future<Output = Outcome> + Send>>,
}

/// A list of tests from the names of their functions.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        [$($crate::Test { name: stringify!($name), run: |room| Box::pin($name(room)) }),*]
    };
}

/// The limit for one test, so that a test that hangs does not block the others. All tests are much
/// faster.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let arguments = match arguments::parse(std::env::args().skip(1)) {
        Ok(Request::Run(arguments)) => arguments,
        Ok(Request::Help) => {
            println!("{}", arguments::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => return unusable(&error),
    };
    let all: Vec<Test> = server_tests::all().into_iter().chain(client_tests::all()).collect();
    let count = all.len();
    let chosen: Vec<Test> = all.into_iter().filter(|test| arguments.choose(test.name)).collect();
    if arguments.list {
        chosen.iter().for_each(|test| println!("{}: test", test.name));
        return ExitCode::SUCCESS;
    }
    let addresses = match room::addresses(&chosen) {
        Ok(addresses) => addresses,
        Err(error) => return unusable(&error),
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        println!("\nrunning {} test{}", chosen.len(), if chosen.len() == 1 { "" } else { "s" });
        let start = Instant::now();
        let failures = if chosen.is_empty() {
            Vec::new()
        } else {
            match room::find(addresses, &chosen).await {
                Ok(room) => run_all(&chosen, &room).await,
                Err(error) => chosen.iter().map(|test| (test.name, format!("not run: {error:#}"))).collect(),
            }
        };
        report(&failures, chosen.len(), count - chosen.len(), start.elapsed())
    })
}

fn unusable(error: &str) -> ExitCode {
    eprintln!("acceptance: {error}");
    ExitCode::from(2)
}

/// Runs the tests one after the other, because a flush takes the messages of all tests.
async fn run_all(tests: &[Test], room: &Room) -> Vec<(&'static str, String)> {
    let mut failures = Vec::new();
    for test in tests {
        // In a task of its own, so that a panic fails one test and not all.
        let task = tokio::spawn((test.run)(room.clone()));
        let abort = task.abort_handle();
        let outcome = match tokio::time::timeout(TEST_TIMEOUT, task).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => Err(panic).context("it panicked"),
            Err(_) => Err(anyhow::anyhow!("no end after {TEST_TIMEOUT:?}")),
        };
        abort.abort();
        match outcome {
            Ok(()) => println!("test {} ... ok", test.name),
            Err(error) => {
                println!("test {} ... FAILED", test.name);
                failures.push((test.name, format!("{error:#}")));
            }
        }
    }
    failures
}

fn report(failures: &[(&str, String)], run: usize, filtered: usize, time: Duration) -> ExitCode {
    if !failures.is_empty() {
        println!("\nfailures:\n");
        failures.iter().for_each(|(name, reason)| println!("---- {name} ----\n{reason}\n"));
        println!("failures:");
        failures.iter().for_each(|(name, _)| println!("    {name}"));
    }
    let (result, status) = if failures.is_empty() { ("ok", ExitCode::SUCCESS) } else { ("FAILED", ExitCode::FAILURE) };
    println!(
        "\ntest result: {result}. {} passed; {} failed; 0 ignored; 0 measured; {filtered} filtered out; finished in {:.2}s\n",
        run - failures.len(),
        failures.len(),
        time.as_secs_f64(),
    );
    status
}
