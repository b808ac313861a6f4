//! The servers that are compared. A peer takes part if it has been built; the others are named with
//! the reason.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::machine::first_line;
use crate::wire::Protocol;

/// A server to compare.
pub struct Peer {
    pub name: &'static str,
    /// The versions of its main parts.
    pub version: String,
    pub command: String,
    pub protocol: Protocol,
    /// The peer cannot take the work of the others, and gets less.
    pub gentle: bool,
}

/// A peer that is left out.
pub struct Absent {
    pub name: &'static str,
    pub why: String,
}

/// The messenger, then the peers that are built, and the peers that are missing. With `wanted` only
/// the peers of these names.
pub fn find(messenger: &str, wanted: &[String]) -> Result<(Vec<Peer>, Vec<Absent>)> {
    let version = first_line(messenger, &["--version"]);
    let version = version.with_context(|| format!("can't start {messenger}"))?;
    let rust = first_line("rustc", &["--version"]).unwrap_or_else(|| "an unknown rustc".to_owned());
    let own = |version: &str| format!("{version}, {rust}");
    let crates = |names: [&str; 2]| {
        let [one, other] = names.map(|name| format!("{name} {}", locked(name)));
        own(&format!("{one}, {other}"))
    };
    let found = [
        rust_peer(
            "tonic + broadcast",
            "peer-tonic-broadcast",
            own(&format!("tonic {}", locked("tonic"))),
        ),
        rust_peer("hybrid", "peer-hybrid", crates(["hyper", "tonic"])),
        rust_peer("hybrid-tasks", "peer-hybrid", crates(["hyper", "tonic"]))
            .map(|peer| Peer { command: peer.command + " tasks", ..peer }),
        built_peer("Go grpc-go", "go"),
        built_peer("C++ gRPC", "cpp"),
        python(),
        nats(),
        rust_peer("floor", "peer-floor", own(&format!("mio {}", locked("mio")))),
    ];
    for name in wanted {
        let name_of = |peer: &Result<Peer, Absent>| match peer {
            Ok(peer) => peer.name,
            Err(absent) => absent.name,
        };
        let known: Vec<_> = found.iter().map(name_of).collect();
        ensure!(known.contains(&name.as_str()), "no peer {name:?}: there are {}", known.join(", "));
    }
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let (mut peers, mut absent) = (vec![grpc("messenger", own(&version), messenger)], Vec::new());
    for peer in found {
        match peer {
            Ok(peer) if is_wanted(peer.name) => peers.push(peer),
            Err(missing) if is_wanted(missing.name) => absent.push(missing),
            _ => {}
        }
    }
    Ok((peers, absent))
}

/// The version of a crate in `Cargo.lock`, with which the peers in Rust are built.
fn locked(name: &str) -> &'static str {
    let start = format!("name = \"{name}\"\nversion = \"");
    let lock = include_str!("../../Cargo.lock");
    lock.split(&start).nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default()
}

fn grpc(name: &'static str, version: String, command: &str) -> Peer {
    let command = format!("MESSENGER_SERVER_PORT={{port}} {command}");
    Peer { name, version, command, protocol: Protocol::Grpc, gentle: false }
}

/// A peer that is a program of this crate.
fn rust_peer(name: &'static str, program: &str, version: String) -> Result<Peer, Absent> {
    let path = std::env::current_exe().unwrap_or_default().with_file_name(program);
    if !path.is_file() {
        return Err(Absent {
            name,
            why:
                "not built: cargo build --release --all-features --manifest-path benches/Cargo.toml"
                    .to_owned(),
        });
    }
    Ok(grpc(name, version, &path.display().to_string()))
}

/// A peer with a Makefile, which also writes a file with the versions.
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
    let versions = "import sys, grpc, grpc_tools; \
                    print('grpcio', grpc.__version__ + ', Python', sys.version.split()[0])";
    let Some(version) = first_line("python3", &["-c", versions]) else {
        return Err(Absent {
            name,
            why: "python3 can't import it: pip install grpcio grpcio-tools".to_owned(),
        });
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
