//! A server with a small retention runs in 64 MiB, with stopped readers and heavy senders.
//!
//! Needs root, and cgroups of version 1 or 2 with the memory controller.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::program::{self, SERVER};
use crate::support::suite::{self, tests};
use crate::support::{Message, assert_increasing, grpc, post, reader};
use libtest_mimic::Trial;
use tokio::task::JoinSet;
use tonic::Code;

pub fn tests() -> Vec<Trial> {
    tests![stopped_readers_and_heavy_senders_fit_in_64_mib]
}

const MIB: usize = 1024 * 1024;
const LIMIT: usize = 64 * MIB;
const TEXT: usize = 16 * 1024;
/// Twenty times the retention, and more than twice the limit.
const MESSAGES: usize = 20 * 8 * MIB / TEXT;
/// Half of the retention.
const ROUND: usize = 4 * MIB / TEXT;

/// A cgroup with a limit of memory.
#[derive(Debug)]
struct Group(PathBuf);

impl Group {
    fn new() -> Self {
        let roots = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].map(Path::new);
        let group = roots.into_iter().find_map(|root| Self::within(root).filter(Self::is_a_limit));
        group.unwrap_or_else(|| suite::missing("root and a memory cgroup"))
    }

    fn within(root: &Path) -> Option<Self> {
        let files = ["memory.max", "memory.limit_in_bytes"];
        // The root of version 2 has no such file, but lists the controllers of the groups below.
        let version_2 = fs::read_to_string(root.join("cgroup.subtree_control"));
        if !root.join(files[1]).exists() && !version_2.is_ok_and(|controllers| controllers.contains("memory")) {
            return None;
        }
        let path = root.join(format!("messenger-test-{}-{}", std::process::id(), fastrand::u32(..)));
        fs::create_dir(&path).ok()?;
        let group = Self(path);
        files.iter().any(|file| fs::write(group.0.join(file), LIMIT.to_string()).is_ok()).then_some(group)
    }

    /// A shell command that moves the shell into the group.
    fn enter(&self) -> String {
        format!("echo $$ > {}/cgroup.procs", self.0.display())
    }

    /// Whether a process above the limit is killed.
    fn is_a_limit(&self) -> bool {
        let hungry = format!("{} && head -c {} /dev/zero | tail -c {} | wc -c", self.enter(), 3 * LIMIT, 2 * LIMIT);
        let shell = std::process::Command::new("sh").args(["-c", &hungry]).output();
        shell.is_ok() && self.killed() > 0
    }

    /// The number of processes that were killed for their memory.
    fn killed(&self) -> usize {
        let read = |file| fs::read_to_string(self.0.join(file)).ok();
        let events = read("memory.events").or_else(|| read("memory.oom_control")).unwrap_or_default();
        let count = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.parse().ok()).unwrap_or_default()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A group can be removed once its last process has ended.
        for _ in 0..500 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

async fn stopped_readers_and_heavy_senders_fit_in_64_mib() {
    let group = Group::new();
    let killed = group.killed();
    let variables = [("MESSENGER_SERVER_PORT", "0"), ("MESSENGER_RETENTION_BYTES", "8MiB")];
    let mut server = program::start_after(&group.enter(), SERVER, &variables);
    let address = server.address("server listening").await;
    let mut stopped = Vec::new();
    for _ in 0..50 {
        stopped.push(reader(&mut grpc(address).await).await);
    }
    let mut reading = Vec::new();
    for _ in 0..4 {
        reading.push((reader(&mut grpc(address).await).await, Vec::<Message>::new()));
    }
    // At full speed, but in rounds, so that the readers cannot fall behind on a busy machine.
    for round in 0..MESSAGES / ROUND {
        let mut senders = JoinSet::new();
        for sender in 0..4 {
            let mut grpc = grpc(address).await;
            senders.spawn(async move {
                for number in 0..ROUND / 4 {
                    post(&mut grpc, &format!("sender {sender}"), &format!("{round}/{number:x<TEXT$}")).await;
                }
            });
        }
        senders.join_all().await;
        for (reader, got) in &mut reading {
            got.extend(reader.take(ROUND).await);
        }
    }
    let orders: Vec<Vec<Message>> = reading.into_iter().map(|(_, got)| got).collect();
    assert_increasing(&orders[0]);
    assert!(orders.iter().all(|order| *order == orders[0]), "one order");
    // The stopped readers are told why their streams ended, and the server still runs.
    for stopped in stopped {
        let (got, status) = stopped.rest().await;
        assert_eq!(got, orders[0][..got.len()]);
        assert_eq!(status.expect("not a clean end").code(), Code::ResourceExhausted);
    }
    post(&mut grpc(address).await, "alice", "still there").await;
    assert_eq!(group.killed(), killed, "the kernel has killed it");
    server.signal("TERM");
    assert!(server.exit().await.success());
}
