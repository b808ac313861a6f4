//! Programs that see other names, another resolver or other addresses than this machine has. Needs
//! root.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::program::{self, Program};
use super::suite;

fn run(command: &str) -> bool {
    let run = Command::new("sh").args(["-c", command]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}

fn require_root() {
    if !run("unshare -m true && ip netns list") {
        suite::missing("root, `ip` and `unshare` (Debian: iproute2, util-linux)");
    }
}

/// A replacement of /etc/hosts for some programs.
#[derive(Debug)]
pub struct Hosts(PathBuf);

impl Hosts {
    pub fn new(lines: &str) -> Self {
        require_root();
        let file = std::env::temp_dir().join(format!("messenger-hosts-{}-{}", std::process::id(), fastrand::u64(..)));
        fs::write(&file, lines).expect("a file");
        Self(file)
    }

    pub fn start(&self, program: &str, variables: &[(&str, &str)]) -> Program {
        let mount = format!("mount --bind {} /etc/hosts", self.0.display());
        program::start_after(&format!("exec unshare -m sh -c '{mount} && exec \"$0\"' \"$0\""), program, variables)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A network namespace with only a loopback device.
#[derive(Debug)]
pub struct Space(String);

impl Space {
    pub fn new() -> Self {
        require_root();
        let space = Self(format!("messenger-{:x}", fastrand::u64(..)));
        assert!(run(&format!("ip netns add {}", space.0)), "a namespace");
        space.ip("link set lo up");
        space
    }

    pub fn ip(&self, arguments: &str) {
        assert!(run(&format!("ip -n {} {arguments}", self.0)), "ip {arguments}");
    }

    /// Points the resolver at a name server that never answers.
    pub fn resolver_hangs(&self) {
        self.ip("link add out type veth peer name sink");
        self.ip("link set out up");
        self.ip("link set sink up");
        self.ip("address add 10.231.0.1/24 dev out");
        // Packets to this address leave, and nothing receives them.
        self.ip("neighbour add 10.231.0.9 lladdr 02:00:00:00:00:09 dev out nud permanent");
        let directory = self.files();
        fs::create_dir_all(&directory).expect("a directory");
        fs::write(directory.join("resolv.conf"), "nameserver 10.231.0.9\n").expect("a file");
    }

    /// The files that `ip netns exec` mounts over those in /etc.
    fn files(&self) -> PathBuf {
        PathBuf::from("/etc/netns").join(&self.0)
    }

    pub fn start(&self, program: &str, variables: &[(&str, &str)]) -> Program {
        self.start_with("", program, variables)
    }

    pub fn start_with(&self, arguments: &str, program: &str, variables: &[(&str, &str)]) -> Program {
        program::start_after(&format!("exec ip netns exec {} \"$0\" {arguments}", self.0), program, variables)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        run(&format!("ip netns delete {}", self.0));
        let _ = fs::remove_dir_all(self.files());
    }
}
