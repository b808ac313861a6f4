//! The real programs, as processes with an environment, signals and an exit status.

use std::net::SocketAddr;
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::{soon, until};

pub const SERVER: &str = env!("CARGO_BIN_EXE_messenger-server");
pub const CLIENT: &str = env!("CARGO_BIN_EXE_messenger-client");
pub const CHAT: &str = env!("CARGO_BIN_EXE_messenger");

#[derive(Debug)]
pub struct Program {
    child: Child,
    /// The lines from stdout and stderr.
    lines: mpsc::UnboundedReceiver<String>,
    /// The lines that were read so far.
    pub log: Vec<String>,
}

fn command(program: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(variables.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Sends a signal by its name. Every shell has `kill`, but not every system has a program of that
/// name.
pub fn signal(pid: u32, name: &str) {
    let status = std::process::Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status();
    assert!(status.expect("a shell").success());
    // The process stops a moment later, and may still answer until then.
    while name == "STOP" && is_running(pid) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether the process is running, neither stopped nor ended.
fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['T', 'Z']))
}

/// Runs a program to its end.
pub async fn output(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    soon("the program's end", command(program, variables).args(arguments).output()).await.expect("it runs")
}

/// Starts a program with nothing in its environment but these variables.
pub fn start(program: &str, variables: &[(&str, &str)]) -> Program {
    watch(command(program, variables))
}

/// Starts a program in a shell that runs `setup` first, such as `ulimit -n 40`.
pub fn start_after(setup: &str, program: &str, variables: &[(&str, &str)]) -> Program {
    let mut shell = command("sh", variables);
    shell.args(["-c", &format!("{setup} && exec \"$0\""), program]);
    watch(shell)
}

fn watch(mut command: Command) -> Program {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let (sender, lines) = mpsc::unbounded_channel();
    let (out, err) = (child.stdout.take().expect("stdout"), child.stderr.take().expect("stderr"));
    let (mut out, mut err) = (BufReader::new(out).lines(), BufReader::new(err).lines());
    let sender_of_err = sender.clone();
    tokio::spawn(async move {
        while let Ok(Some(line)) = out.next_line().await {
            let _ = sender.send(line);
        }
    });
    tokio::spawn(async move {
        while let Ok(Some(line)) = err.next_line().await {
            let _ = sender_of_err.send(line);
        }
    });
    Program { child, lines, log: Vec::new() }
}

impl Program {
    /// Waits for a line with `text` in it.
    pub async fn line(&mut self, text: &str) -> String {
        let log = &mut self.log;
        let lines = &mut self.lines;
        let wait = async {
            while let Some(line) = lines.recv().await {
                log.push(line.clone());
                if line.contains(text) {
                    return Some(line);
                }
            }
            None
        };
        match tokio::time::timeout(super::PATIENCE, wait).await {
            Ok(Some(line)) => line,
            _ => panic!("no line with {text:?} in {:#?}", self.log),
        }
    }

    /// All lines, once the program has ended.
    pub async fn whole_log(&mut self) -> &[String] {
        while let Some(line) = soon("the end of the log", self.lines.recv()).await {
            self.log.push(line);
        }
        &self.log
    }

    /// The last lines of the log.
    pub fn last_lines(&mut self, count: usize) -> String {
        while let Ok(line) = self.lines.try_recv() {
            self.log.push(line);
        }
        self.log[self.log.len().saturating_sub(count)..].join("\n")
    }

    /// The address in the log line that contains `what`.
    pub async fn address(&mut self, what: &str) -> SocketAddr {
        let line = self.line(what).await;
        // address=… in the text form, "address":"…" in JSON.
        let rest = line.split("address").nth(1).unwrap_or_default().trim_start_matches(['=', '"', ':']);
        let address = rest.split([' ', '"']).next().unwrap_or_default();
        let address: SocketAddr = address.parse().unwrap_or_else(|_| panic!("{line}"));
        messenger::net::reachable(address)
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("still running")
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    pub async fn exit(&mut self) -> ExitStatus {
        soon("the exit", self.child.wait()).await.expect("a status")
    }

    /// The status, if the program has ended.
    pub fn try_exit(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a status")
    }

    /// The status, if the program ends within this time.
    pub async fn exits_within(&mut self, time: Duration) -> Option<ExitStatus> {
        tokio::time::timeout(time, self.child.wait()).await.ok().map(|status| status.expect("a status"))
    }

    /// Resident memory in bytes (`VmRSS`).
    pub fn resident(&self) -> usize {
        self.memory("VmRSS:")
    }

    /// The peak of resident memory in bytes (`VmHWM`).
    pub fn peak(&self) -> usize {
        self.memory("VmHWM:")
    }

    /// The number of open files.
    pub fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("a process").count()
    }

    /// The processor time used so far.
    pub fn processor(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("a process");
        // The name in parentheses may contain spaces. utime and stime follow it, in hundredths of a
        // second.
        let fields = stat.rsplit(')').next().expect("fields").split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
        Duration::from_millis(ticks * 10)
    }

    fn memory(&self, field: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a process");
        let line = status.lines().find(|line| line.starts_with(field)).expect("a field");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number") * 1024
    }
}

/// Starts the server program on a free port.
pub async fn server(variables: &[(&str, &str)]) -> (Program, SocketAddr) {
    let variables = [&[("MESSENGER_SERVER_PORT", "0")], variables].concat();
    let mut program = start(SERVER, &variables);
    let address = program.address("server listening").await;
    (program, address)
}

/// Starts the server program on this port, which may take a moment to become free.
pub async fn server_at(address: SocketAddr) -> Program {
    server_with(address, &[]).await
}

/// Starts the server program on this port with these variables.
pub async fn server_with(address: SocketAddr, variables: &[(&str, &str)]) -> Program {
    let port = address.port().to_string();
    let variables = [&[("MESSENGER_SERVER_PORT", port.as_str())], variables].concat();
    until("the port", async || {
        let mut program = start(SERVER, &variables);
        let mut line = program.lines.recv().await?;
        while !line.contains("listening") {
            line = program.lines.recv().await?;
        }
        Some(program)
    })
    .await
}
