//! The network of one user, with a proxy to each server of the room.

use std::net::SocketAddr;

use crate::proxy::{Proxy, proxy};
use crate::world::World;

#[derive(Debug)]
pub struct Network {
    /// The addresses of the servers for this user.
    pub servers: Vec<SocketAddr>,
    proxies: Vec<Proxy>,
}

impl World {
    /// Creates a network with random faults for the user `name`.
    pub fn bad_network(&self, name: &str, random: &mut fastrand::Rng) -> Network {
        let way = |server: &SocketAddr| {
            let calm = self.calm.subscribe();
            proxy(name, *server, random.fork(), self.pace.peace, calm, &self.counters, &self.journal)
        };
        let proxies: Vec<Proxy> = self.servers.iter().map(way).collect();
        Network { servers: proxies.iter().map(|proxy| proxy.address).collect(), proxies }
    }
}

impl Network {
    /// Creates a network without faults.
    pub fn good(servers: Vec<SocketAddr>) -> Self {
        Self { servers, proxies: Vec::new() }
    }

    /// A number that changes with each fault; `None` during a fault.
    pub fn undisturbed(&self) -> Option<u64> {
        self.proxies.iter().map(Proxy::undisturbed).sum()
    }
}
