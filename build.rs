//! Compiles `messenger/proto/messenger.proto` without protoc, and records the commit.

use std::path::{Path, PathBuf};
use std::process::Command;

use protox::prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    compile_proto()?;
    record_version();
    Ok(())
}

/// Generates the messages and the client. The server side is written by hand
/// (`src/server/grpc/router.rs`), because generated code can't serve its stream of shared frames.
fn compile_proto() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=messenger/proto/messenger.proto");
    let descriptors = protox::compile(["messenger.proto"], ["messenger/proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("messenger.fds"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().build_server(false).build_transport(false).compile_fds(descriptors)?;
    Ok(())
}

/// Records the version for `--version`, with the commit if it is known: from `MESSENGER_COMMIT`,
/// for builds outside a repository, such as Nix builds, or from git.
fn record_version() {
    println!("cargo::rerun-if-env-changed=MESSENGER_COMMIT");
    // A new commit changes the file of the branch that HEAD names, and logs/HEAD, but not HEAD
    // itself.
    for file in ["HEAD", "logs/HEAD"] {
        let path = Path::new(".git").join(file);
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    let commit = std::env::var("MESSENGER_COMMIT").ok().or_else(git_head);
    let version = env!("CARGO_PKG_VERSION");
    match commit.filter(|commit| !commit.is_empty()) {
        Some(commit) => println!("cargo::rustc-env=MESSENGER_VERSION={version} ({commit})"),
        None => println!("cargo::rustc-env=MESSENGER_VERSION={version}"),
    }
}

fn git_head() -> Option<String> {
    // Sources that are unpacked inside another repository must not take that repository's commit.
    if !Path::new(".git").exists() {
        return None;
    }
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
