//! The promises of a room in Redis. `MESSENGER_TEST_ENGINE=valkey-server` runs them with Valkey.

mod away;
mod failover;
mod further_back;
mod hangs;
mod idle;
mod many_servers;
mod on_disk;
mod partition;
mod refuses;
mod tls;

use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    [
        away::tests(),
        failover::tests(),
        further_back::tests(),
        hangs::tests(),
        idle::tests(),
        many_servers::tests(),
        on_disk::tests(),
        partition::tests(),
        refuses::tests(),
        tls::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
