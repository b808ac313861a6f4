//! A real Redis. `MESSENGER_TEST_ENGINE` names another program, such as `valkey-server`.

use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{PATIENCE, fixed_port, program as processes, suite};

/// The name of the program.
pub fn program() -> String {
    std::env::var("MESSENGER_TEST_ENGINE").unwrap_or_else(|_| "redis-server".to_owned())
}

/// Requires the program.
pub fn require() {
    suite::require(&program(), "redis-server");
}

/// A Redis with its own directory. Both are removed on drop, and Redis also ends when this process
/// is killed.
#[derive(Debug)]
pub struct Engine {
    pub port: u16,
    options: Vec<String>,
    directory: PathBuf,
    process: Option<Process>,
    sentinel: bool,
}

/// A shell that kills Redis when its standard input ends, and ends after Redis: then the port is
/// free.
#[derive(Debug)]
struct Process {
    shell: Child,
    pid: u32,
}

/// Every message is on disk before it is acknowledged.
pub const ON_DISK: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

impl Engine {
    /// Starts Redis with these options, without snapshots.
    pub fn start(options: &[&str]) -> Self {
        let mut engine = Self::new(options);
        engine.start_again();
        engine
    }

    /// Starts a sentinel that watches this master under the name `room`, and fails over after half
    /// a second.
    pub fn sentinel(master: &Self) -> Self {
        let mut sentinel = Self::new(&[]);
        sentinel.sentinel = true;
        let config = format!(
            "port {}\nbind 127.0.0.1\nsentinel monitor room 127.0.0.1 {} 1\nsentinel down-after-milliseconds room 500\n\
             sentinel failover-timeout room 3000\n",
            sentinel.port, master.port
        );
        std::fs::write(sentinel.directory.join("sentinel.conf"), config).expect("a file");
        sentinel.start_again();
        sentinel
    }

    fn new(options: &[&str]) -> Self {
        require();
        let directory =
            std::env::temp_dir().join(format!("messenger-redis-{}-{}", std::process::id(), fastrand::u64(..)));
        std::fs::create_dir(&directory).expect("a directory");
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Self { port: fixed_port(), options, directory, process: None, sentinel: false }
    }

    /// Starts it with its data on disk.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none());
        let port = self.port.to_string();
        let arguments: &[&str] = if self.sentinel {
            &["sentinel.conf", "--sentinel"]
        } else {
            &["--bind", "127.0.0.1", "--port", &port, "--save", ""]
        };
        let mut shell = Command::new("sh")
            .args(["-c", "\"$0\" \"$@\" >log 2>&1 & echo $!; read -r end; kill -KILL $! 2>/dev/null; wait", &program()])
            .args(arguments)
            .args(&self.options)
            .current_dir(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut pid = String::new();
        let mut out = shell.stdout.take().expect("stdout");
        let mut byte = [0];
        while out.read_exact(&mut byte).is_ok() && byte[0] != b'\n' {
            pid.push(char::from(byte[0]));
        }
        self.process = Some(Process { shell, pid: pid.parse().expect("a process id") });
        let start = Instant::now();
        while !self.answers() {
            assert!(start.elapsed() < PATIENCE, "{}", std::fs::read_to_string(self.directory.join("log")).unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn answers(&self) -> bool {
        let connection = ::redis::Client::open(self.url()).expect("a URL").get_connection();
        connection.is_ok_and(|mut connection| ::redis::cmd("PING").query::<String>(&mut connection).is_ok())
    }

    /// Kills it without a shutdown.
    pub fn kill(&mut self) {
        self.signal("KILL");
        let mut process = self.process.take().expect("running");
        drop(process.shell.stdin.take());
        process.shell.wait().expect("the shell's end");
    }

    /// Sends a signal. Between STOP and CONT, Redis hangs.
    pub fn signal(&self, name: &str) {
        processes::signal(self.process.as_ref().expect("running").pid, name);
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Runs a command.
    pub fn run<T: ::redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let mut connection = ::redis::Client::open(self.url()).unwrap().get_connection().expect("a connection");
        let mut run = ::redis::cmd(command[0]);
        run.arg(&command[1..]).query(&mut connection).expect("done")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.shell.stdin.take());
            let _ = process.shell.wait();
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
