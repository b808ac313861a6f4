//! Starts the measured server, and reads its processor time and memory.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process;

/// A server that this process has started. It is not possible to load a running server, so no chat
/// can be flooded by mistake.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Starts `command`, in which `{port}` is replaced by a free port, and waits until it listens.
    pub fn start(command: &str) -> Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let command = command.replace("{port}", &port.to_string());
        let mut words = command.split(' ').filter(|word| !word.is_empty()).peekable();
        let variables: Vec<_> = std::iter::from_fn(|| {
            words.next_if(|word| word.contains('=') && !word.starts_with('-'))
        })
        .filter_map(|word| word.split_once('='))
        .collect();
        let program = words.next().context("no command")?;
        let mut child = Command::new(program)
            .args(words)
            .envs(variables)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("can't start {program}"))?;
        let address = (Ipv4Addr::LOCALHOST, port).into();
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("`{command}` ended with {status}");
            }
            if start.elapsed() > Duration::from_secs(20) {
                let _ = child.kill();
                bail!("`{command}` does not listen on port {port}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { child, address })
    }

    /// Ends the server with SIGTERM, and waits for exit status 0. A dropped server is killed
    /// instead, and writes no results.
    pub fn end(mut self) -> Result<()> {
        // The standard library can send only SIGKILL.
        let kill =
            Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status()?;
        ensure!(kill.success(), "can't send SIGTERM");
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the server ended with {status}");
                return Ok(());
            }
            ensure!(start.elapsed() < Duration::from_secs(20), "the server does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The processor time of all threads so far.
    pub fn cpu(&self) -> Duration {
        process::cpu(self.child.id())
    }

    /// The resident memory in bytes.
    pub fn resident(&self) -> u64 {
        process::memory(self.child.id(), "VmRSS:")
    }

    /// The peak of the resident memory in bytes.
    pub fn peak(&self) -> u64 {
        process::memory(self.child.id(), "VmHWM:")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
