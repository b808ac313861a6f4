//! The network of one user: a way to each server of the room.

use std::net::SocketAddr;

use crate::proxy::{Proxy, proxy};
use crate::world::World;

#[derive(Debug)]
pub struct Network {
    /// Where its user reaches each of the servers.
    pub servers: Vec<SocketAddr>,
    proxies: Vec<Proxy>,
}

impl World {
    /// A network of the user called `name` in which everything is broken now and then.
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
    /// One in which nothing is broken, to these servers.
    pub fn good(servers: Vec<SocketAddr>) -> Self {
        Self { servers, proxies: Vec::new() }
    }

    /// A number that stays the same as long as no fault begins; `None` while there is one.
    pub fn undisturbed(&self) -> Option<u64> {
        self.proxies.iter().map(Proxy::undisturbed).sum()
    }
}
