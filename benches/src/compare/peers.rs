//! Who is compared. A peer takes part when its program is there; who does not is named with the reason.

use std::path::Path;

use anyhow::{Context, Result};

use crate::machine::first_line;
use crate::wire::Protocol;

/// A server to compare.
pub struct Peer {
    pub name: &'static str,
    /// What it is made of.
    pub version: String,
    pub command: String,
    pub protocol: Protocol,
    /// It can't take the work of the others, and gets less.
    pub gentle: bool,
}

/// A peer that takes no part.
pub struct Absent {
    pub name: &'static str,
    pub why: String,
}

/// Everybody: the messenger first, then who is there, and who is not.
pub fn find(messenger: &str) -> Result<(Vec<Peer>, Vec<Absent>)> {
    let version = first_line(messenger, &["--version"]).with_context(|| format!("can't start {messenger}"))?;
    let rust = first_line("rustc", &["--version"]).unwrap_or_else(|| "an unknown rustc".to_owned());
    let own = |version: &str| format!("{version}, {rust}");
    let found = [
        Ok(grpc("messenger", own(&version), messenger)),
        rust_peer("tonic + broadcast", "peer-tonic-broadcast", own(&format!("tonic {}", locked("tonic")))),
        built_peer("Go grpc-go", "go"),
        built_peer("C++ gRPC", "cpp"),
        python(),
        nats(),
        rust_peer("floor", "peer-floor", own(&format!("mio {}", locked("mio")))),
    ];
    let (mut peers, mut absent) = (Vec::new(), Vec::new());
    for peer in found {
        match peer {
            Ok(peer) => peers.push(peer),
            Err(missing) => absent.push(missing),
        }
    }
    Ok((peers, absent))
}

/// The version of a crate that the peers in Rust are built with.
fn locked(name: &str) -> &'static str {
    let start = format!("name = \"{name}\"\nversion = \"");
    let lock = include_str!("../../Cargo.lock");
    lock.split(&start).nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default()
}

fn grpc(name: &'static str, version: String, command: &str) -> Peer {
    let command = format!("MESSENGER_SERVER_PORT={{port}} {command}");
    Peer { name, version, command, protocol: Protocol::Grpc, gentle: false }
}

/// One of this crate's programs.
fn rust_peer(name: &'static str, program: &str, version: String) -> Result<Peer, Absent> {
    let path = std::env::current_exe().unwrap_or_default().with_file_name(program);
    if !path.is_file() {
        return Err(Absent { name, why: "not built: cargo build --release in benches/".to_owned() });
    }
    Ok(grpc(name, version, &path.display().to_string()))
}

/// One with a Makefile, which writes down the versions that it builds with.
fn built_peer(name: &'static str, folder: &str) -> Result<Peer, Absent> {
    let built = format!("{}/peers/{folder}/target", env!("CARGO_MANIFEST_DIR"));
    let program = format!("{built}/peer-{folder}");
    if !Path::new(&program).is_file() {
        return Err(Absent { name, why: format!("not built: make -C benches/peers/{folder}") });
    }
    let version = std::fs::read_to_string(format!("{built}/versions")).unwrap_or_default();
    Ok(grpc(name, version.trim().to_owned(), &program))
}

fn python() -> Result<Peer, Absent> {
    let name = "Python grpcio";
    let versions =
        "import sys, grpc, grpc_tools; print('grpcio', grpc.__version__ + ', Python', sys.version.split()[0])";
    let Some(version) = first_line("python3", &["-c", versions]) else {
        return Err(Absent { name, why: "python3 can't import it: pip install grpcio grpcio-tools".to_owned() });
    };
    let command = format!("python3 {}/peers/python.py", env!("CARGO_MANIFEST_DIR"));
    Ok(Peer { gentle: true, ..grpc(name, version, &command) })
}

fn nats() -> Result<Peer, Absent> {
    let name = "nats-server";
    let Some(version) = first_line(name, &["--version"]) else {
        return Err(Absent { name, why: "not installed: apt-get install nats-server".to_owned() });
    };
    let command = "nats-server -a 127.0.0.1 -p {port}".to_owned();
    let version = version.trim_start_matches("nats-server: ").to_owned();
    Ok(Peer { name, version, command, protocol: Protocol::Nats, gentle: false })
}
