//! A redis-server of our own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::process;

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// One with a directory of its own, and no snapshots. Both go with this, and if this process is killed the engine goes all the same: a
/// shell ends it when its standard input ends.
pub struct Redis {
    shell: Child,
    pid: u32,
    address: SocketAddr,
    directory: PathBuf,
}

/// What it has done so far.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// Processor time of all its threads.
    pub cpu: Duration,
    /// Messages in the stream, also those that it has trimmed.
    pub messages: u64,
    /// Calls of the script, also those without a message.
    pub scripts: u64,
}

impl Redis {
    /// Starts it on a free port, and waits until it answers.
    pub fn start(options: &[&str]) -> Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let directory = std::env::temp_dir().join(format!("messenger-bench-{}-{port}", std::process::id()));
        std::fs::create_dir(&directory)?;
        let mut shell = Command::new("sh")
            .args(["-c", "redis-server \"$@\" >log 2>&1 & echo $!; read -r end; kill -KILL $! 2>/dev/null; wait", "sh"])
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""])
            .args(options)
            .current_dir(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut pid = String::new();
        BufReader::new(shell.stdout.take().context("stdout")?).read_line(&mut pid)?;
        // From here on it ends with this value, also when what follows fails.
        let redis = Self { shell, pid: pid.trim().parse()?, address: (Ipv4Addr::LOCALHOST, port).into(), directory };
        let start = Instant::now();
        while redis.ask("PING").is_err() {
            let log = || std::fs::read_to_string(redis.directory.join("log")).unwrap_or_default();
            ensure!(
                start.elapsed() < PATIENCE,
                "redis-server does not answer (apt-get install redis-server): {}",
                log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(redis)
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub fn done(&self) -> Result<Done> {
        let statistics = self.ask("INFO commandstats")?;
        let calls = |command: &str| {
            let start = format!("cmdstat_{command}:calls=");
            let count = statistics.lines().find_map(|line| line.strip_prefix(&start)?.split(',').next()?.parse().ok());
            count.unwrap_or(0)
        };
        Ok(Done { cpu: process::cpu(self.pid), messages: calls("xadd"), scripts: calls("evalsha") })
    }

    /// The answer to a command, of those that answer with one string.
    fn ask(&self, command: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{command}\r\n").as_bytes())?;
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line)?;
        if let Some(length) = line.strip_prefix('$') {
            let mut answer = vec![0; length.trim().parse()?];
            stream.read_exact(&mut answer)?;
            return Ok(String::from_utf8(answer)?);
        }
        ensure!(line.starts_with('+'), "redis-server says {line}");
        Ok(line)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
