//! A redis-server that is started for the measurement.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::process;

/// Runs redis-server until the standard input ends.
const SCRIPT: &str =
    "redis-server \"$@\" >log 2>&1 & echo $!; read -r end; kill -KILL $! 2>/dev/null; wait";
/// How long redis-server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// A redis-server with a temporary directory and without snapshots. Dropping it ends the process
/// and removes the directory. A shell ends redis-server too if the load generator is killed,
/// because the standard input of the shell ends then.
pub struct Redis {
    shell: Child,
    pid: u32,
    address: SocketAddr,
    directory: PathBuf,
}

/// The work of redis-server so far.
#[derive(Debug, Clone, Copy)]
pub struct RedisUsage {
    /// The processor time of all threads.
    pub cpu: Duration,
    /// Messages that were added to the stream.
    pub messages: u64,
    /// Calls of the script, also without a message.
    pub scripts: u64,
}

impl Redis {
    /// Starts redis-server on a free port, and waits until it answers.
    pub fn start(options: &[&str]) -> Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let directory =
            std::env::temp_dir().join(format!("messenger-bench-{}-{port}", std::process::id()));
        std::fs::create_dir(&directory)?;
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""])
            .args(options)
            .current_dir(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut pid = String::new();
        BufReader::new(shell.stdout.take().context("stdout")?).read_line(&mut pid)?;
        // From here on redis-server ends with this value, also when starting fails.
        let redis = Self {
            shell,
            pid: pid.trim().parse()?,
            address: (Ipv4Addr::LOCALHOST, port).into(),
            directory,
        };
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

    pub fn usage(&self) -> Result<RedisUsage> {
        let statistics = self.ask("INFO commandstats")?;
        let calls = |command: &str| {
            let start = format!("cmdstat_{command}:calls=");
            let count = statistics
                .lines()
                .find_map(|line| line.strip_prefix(&start)?.split(',').next()?.parse().ok());
            count.unwrap_or(0)
        };
        Ok(RedisUsage {
            cpu: process::cpu(self.pid),
            messages: calls("xadd"),
            scripts: calls("evalsha"),
        })
    }

    /// Sends a command whose answer is one string, and gives the answer.
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
        ensure!(line.starts_with('+'), "redis-server answered {line}");
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
