//! Network namespaces whose links can be cut: packets vanish without an error. Needs root and `ip`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU8, Ordering};

use super::program::SERVER;
use super::{Grpc, grpc, redis, suite, until};

/// The port of the server in each namespace.
const PORT: u16 = 50_051;

/// Namespaces on a network that can be cut, and on another network for the test itself. The
/// namespaces and their programs end on drop.
#[derive(Debug)]
pub struct Lab {
    tag: String,
    net: u8,
    names: Vec<String>,
    programs: Vec<Child>,
    directory: PathBuf,
}

fn ip(arguments: &str) -> bool {
    let run = Command::new("ip").args(arguments.split(' ')).stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}

fn must(arguments: &str) {
    assert!(ip(arguments), "ip {arguments}");
}

/// Finds a network that no other test uses, in this process or in another.
fn free_net() -> u8 {
    static NEXT: LazyLock<AtomicU8> = LazyLock::new(|| AtomicU8::new(fastrand::u8(..)));
    loop {
        let net = NEXT.fetch_add(1, Ordering::Relaxed);
        let used = Command::new("ip").args(["-4", "-o", "address"]).output().expect("ip").stdout;
        if !String::from_utf8_lossy(&used).contains(&format!(" 10.231.{net}.")) {
            return net;
        }
    }
}

impl Lab {
    /// Namespaces with these names. Needs root.
    pub fn new(names: &[&str]) -> Self {
        redis::require();
        let tag = format!("m{:05x}", fastrand::u32(..0x10_0000));
        if !ip(&format!("netns add {tag}-hub")) {
            suite::missing("root and `ip` (Debian: iproute2)");
        }
        let directory = std::env::temp_dir().join(format!("messenger-netns-{}-{tag}", std::process::id()));
        std::fs::create_dir(&directory).expect("a directory");
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let lab = Self { tag, net: free_net(), names, programs: Vec::new(), directory };
        lab.build();
        lab
    }

    fn build(&self) {
        let Self { tag, net, .. } = self;
        // The firewall of this machine does not apply in a separate namespace.
        must(&format!("-n {tag}-hub link add data type bridge forward_delay 0"));
        must(&format!("-n {tag}-hub link set data up"));
        must(&format!("link add {tag}t type bridge forward_delay 0"));
        must(&format!("address add 10.231.{net}.129/25 dev {tag}t"));
        must(&format!("link set {tag}t up"));
        for (index, name) in self.names.iter().enumerate() {
            let (space, host) = (format!("{tag}-{name}"), index + 2);
            must(&format!("netns add {space}"));
            must(&format!("-n {space} link set lo up"));
            must(&format!("-n {space} link add data type veth peer name {name} netns {tag}-hub"));
            must(&format!("-n {tag}-hub link set {name} master data up"));
            must(&format!("link add {tag}{index} type veth peer name test netns {space}"));
            must(&format!("link set {tag}{index} master {tag}t up"));
            must(&format!("-n {space} address add 10.231.{net}.{host}/25 dev data"));
            must(&format!("-n {space} address add 10.231.{net}.{}/25 dev test", 128 + host));
            must(&format!("-n {space} link set data up"));
            must(&format!("-n {space} link set test up"));
        }
    }

    fn host(&self, name: &str) -> u8 {
        let index = self.names.iter().position(|other| other == name).expect("a namespace");
        u8::try_from(index + 2).unwrap()
    }

    /// The address of a namespace on the network that can be cut.
    pub fn data(&self, name: &str) -> Ipv4Addr {
        Ipv4Addr::new(10, 231, self.net, self.host(name))
    }

    /// The address of a namespace on the network of the test.
    fn test(&self, name: &str) -> Ipv4Addr {
        Ipv4Addr::new(10, 231, self.net, 128 + self.host(name))
    }

    /// Cuts a namespace off: all packets between it and the others are lost.
    pub fn cut(&self, name: &str) {
        must(&format!("-n {}-hub link set {name} nomaster", self.tag));
    }

    pub fn heal(&self, name: &str) {
        must(&format!("-n {}-hub link set {name} master data", self.tag));
    }

    fn spawn(&mut self, name: &str, program: &str, arguments: &[&str], variables: &[(&str, &str)]) {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("{}-{name}", self.tag), program]).args(arguments);
        command.envs(variables.iter().copied()).current_dir(&self.directory);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.programs.push(command.spawn().expect("it starts"));
    }

    /// Starts Redis in a namespace, and waits until it answers.
    pub async fn engine(&mut self, name: &str, port: u16, options: &[&str]) {
        let (data, test, port_) = (self.data(name).to_string(), self.test(name).to_string(), port.to_string());
        let mut arguments = vec!["--bind", &data, &test, "--port", &port_, "--save", "", "--protected-mode", "no"];
        // Otherwise the replica is known by the address that it happened to connect from.
        arguments.extend(["--replica-announce-ip", &data, "--repl-diskless-sync-delay", "0"]);
        arguments.extend(["--dbfilename", &data]);
        arguments.extend(options);
        self.spawn(name, &redis::program(), &arguments, &[]);
        until("the engine", async || self.try_run::<String>(name, port, &["PING"])).await;
    }

    /// Starts a sentinel in a namespace. Two sentinels that miss the master for a second promote a
    /// replica.
    pub async fn sentinel(&mut self, name: &str, port: u16, master: &str) {
        let file = self.directory.join(format!("{name}-{port}.conf"));
        let (own, test, master) = (self.data(name), self.test(name), self.data(master));
        let config = format!(
            "port {port}\nbind {own} {test}\nprotected-mode no\nsentinel announce-ip {own}\n\
             sentinel monitor room {master} 6379 2\nsentinel down-after-milliseconds room 1000\n\
             sentinel failover-timeout room 5000\n"
        );
        std::fs::write(&file, config).expect("a file");
        self.spawn(name, &redis::program(), &[file.to_str().unwrap(), "--sentinel"], &[]);
        until("the sentinel", async || self.try_run::<String>(name, port, &["PING"])).await;
    }

    /// Starts a server in a namespace, and connects to it over the network of the test.
    pub async fn server(&mut self, name: &str, variables: &[(&str, &str)]) -> Grpc {
        let port = PORT.to_string();
        let variables = [&[("MESSENGER_SERVER_PORT", port.as_str())], variables].concat();
        self.spawn(name, SERVER, &[], &variables);
        let address = SocketAddr::from((self.test(name), PORT));
        until("the server", async || tokio::net::TcpStream::connect(address).await.ok()).await;
        grpc(address).await
    }

    /// Runs a command at Redis or a sentinel.
    pub fn try_run<T: ::redis::FromRedisValue>(&self, name: &str, port: u16, command: &[&str]) -> Option<T> {
        let client = ::redis::Client::open(format!("redis://{}:{port}", self.test(name))).unwrap();
        let mut connection = client.get_connection_with_timeout(std::time::Duration::from_secs(1)).ok()?;
        ::redis::cmd(command[0]).arg(&command[1..]).query(&mut connection).ok()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for program in &mut self.programs {
            let _ = program.kill();
            let _ = program.wait();
        }
        for index in 0..self.names.len() {
            ip(&format!("link delete {}{index}", self.tag));
        }
        ip(&format!("link delete {}t", self.tag));
        for name in self.names.iter().map(String::as_str).chain(["hub"]) {
            ip(&format!("netns delete {}-{name}", self.tag));
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
