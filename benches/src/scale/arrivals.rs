//! When messages are sent, and to which server.

/// One message of the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// In ns from the beginning.
    pub at: u64,
    pub server: usize,
}

/// How messages follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrivals {
    /// As the load generator sends them.
    Even,
    /// As people do, who don't know of each other: what comes between two messages has an exponential distribution.
    Random,
}

impl Arrivals {
    /// So many messages, `rate` a second on average, spread over the servers. The same seed gives the same messages.
    pub fn messages(self, count: u32, rate: f64, servers: usize, seed: u64) -> Vec<Sent> {
        let (mut random, mut at) = (SplitMix(seed), 0.0);
        let mean = 1e9 / rate;
        (0..count)
            .map(|_| {
                let pause = match self {
                    Self::Even => mean,
                    Self::Random => -mean * (1.0 - random.fraction()).ln(),
                };
                at += pause;
                let server = (random.fraction() * servers as f64) as usize;
                Sent { at: at as u64, server: server.min(servers - 1) }
            })
            .collect()
    }
}

/// Steele, Lea and Flood's generator: short, and good enough for pauses.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below 1.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_messages_at_the_rate_that_was_asked_for() {
        let messages = Arrivals::Random.messages(10_000, 60.0, 7, 1);
        assert_eq!(messages, Arrivals::Random.messages(10_000, 60.0, 7, 1));
        assert_ne!(messages, Arrivals::Random.messages(10_000, 60.0, 7, 2));
        let rate = 10_000.0 / (messages[9999].at as f64 / 1e9);
        assert!((57.0..63.0).contains(&rate), "{rate}");
        assert!((0..7).all(|server| messages.iter().any(|message| message.server == server)));
    }
}
