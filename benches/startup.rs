//! From the start of the whole chat to its first answered send, as somebody with a terminal would see it.
//!
//! `cargo bench --bench startup`
#![allow(missing_docs, clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const RUNS: usize = 21;

fn main() {
    let mut times: Vec<Duration> = (0..RUNS).map(|_| first_answer()).collect();
    times.sort();
    println!(
        "start to first answered send: median {:.1?}, fastest {:.1?}, slowest {:.1?} of {RUNS}",
        times[RUNS / 2],
        times[0],
        times[RUNS - 1]
    );
}

/// Starts `messenger` on free ports, sends one message over HTTP, and ends it.
fn first_answer() -> Duration {
    let start = Instant::now();
    let mut chat = Command::new(env!("CARGO_BIN_EXE_messenger"))
        .args(["--server-port", "0", "--http-port", "0", "--log", "warn"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(chat.stdout.take().unwrap()).lines().map(Result::unwrap);
    let address = lines.into_iter().find_map(|line| line.strip_prefix("  HTTP  http://").map(str::to_owned)).unwrap();
    let mut stream = TcpStream::connect(&address).unwrap();
    let body = r#"{"author": "alice", "text": "hey"}"#;
    write!(stream, "POST /sendMessage HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .unwrap();
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).unwrap();
    let time = start.elapsed();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    chat.kill().unwrap();
    chat.wait().unwrap();
    time
}
