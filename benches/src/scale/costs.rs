//! What things cost, as measured, and what the machines have. Each is a flag.

use clap::Args;

/// Readers of a server up to which a round has the cost of a warm cache, and from which it has that of a cold one. Between them it
/// grows evenly.
const WARM_READERS: f64 = 1000.0;
const COLD_READERS: f64 = 5000.0;

/// Bytes of a message in a stream beside its text, with an author of five letters: gRPC's prefix, fields, time. One more with a text of
/// 128 bytes or more.
const MESSAGE_OVERHEAD: u64 = 28;
/// Bytes of an HTTP/2 frame beside what is in it.
const FRAME_OVERHEAD: u64 = 9;
/// Bytes of an entry beside its text, as Redis sends it.
const ENTRY_OVERHEAD: u64 = 126;
/// Bytes of an answer to XREAD beside its entries.
const ANSWER_OVERHEAD: u64 = 27;
/// Bytes of a TCP segment at most, and what Ethernet, IP and TCP put around it.
const SEGMENT: u64 = 1448;
const SEGMENT_OVERHEAD: u64 = 90;

/// Processor times are those of one core.
#[derive(Debug, Clone, Args)]
pub struct Costs {
    /// A wake-up and a write for one reader, whatever is in it, in ns, on a server with up to 1,000 readers: `bench one --readers 1000
    /// --rate 60`.
    #[arg(long, default_value = "8000")]
    pub round_ns: u64,
    /// The same on a server with 5,000 readers or more, whose cache is cold each time: `bench one --readers 5000 --rate 10`.
    #[arg(long, default_value = "14000")]
    pub cold_round_ns: u64,
    /// Each message in such a write, in ns: `bench one --readers 1000`.
    #[arg(long, default_value = "120")]
    pub delivery_ns: u64,
    /// A `SendMessage`, in ns, of a server with no other under way: `bench engine`, one at a time, embedded.
    #[arg(long, default_value = "12000")]
    pub send_ns: u64,
    /// What a message costs a server because it comes from the engine, in ns, at most: `bench engine`, one at a time, the Redis in
    /// memory less embedded.
    #[arg(long, default_value = "78000")]
    pub follow_ns: u64,
    /// A call of the engine, the script or XREAD, in ns of the engine's one thread. From `bench engine`, where a message takes a call
    /// of each: (the engine one at a time - the engine 64 in flight) / 2 / (1 - 1 / messages at once).
    #[arg(long, default_value = "23000")]
    pub engine_call_ns: u64,
    /// A message in a call of the engine, in ns: half of the engine 64 in flight, less the call's share.
    #[arg(long, default_value = "1400")]
    pub engine_message_ns: u64,
    /// One way between a server and the engine, in µs. Assumed: two machines of one data center.
    #[arg(long, default_value = "100")]
    pub hop_us: u64,
    /// Memory of a reader with a connection of its own, in KiB: `bench one --work idle --readers 1000`.
    #[arg(long, default_value = "24")]
    pub reader_kib: u64,
    /// Memory of a server without readers, in MiB: 3, and 5/4 of the 64 that it keeps of the room.
    #[arg(long, default_value = "83")]
    pub server_mib: u64,
    /// Cores of a server.
    #[arg(long, default_value = "8", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub cores: u32,
    /// Memory of a server, in GiB.
    #[arg(long, default_value = "16")]
    pub memory_gib: u64,
    /// What a server, and the engine, can send, in Gbit/s.
    #[arg(long, default_value = "10")]
    pub network_gbit: u64,
    /// Connections of a server: the default of `MESSENGER_MAX_CONNECTIONS`.
    #[arg(long, default_value = "100000")]
    pub connections: u64,
}

impl Costs {
    /// A wake-up and a write for one of so many readers, with so many messages in it, in ns.
    pub fn round(&self, readers: u64, messages: u64) -> u64 {
        let cold = ((readers as f64 - WARM_READERS) / (COLD_READERS - WARM_READERS)).clamp(0.0, 1.0);
        let (warm_ns, cold_ns) = (self.round_ns as f64, self.cold_round_ns as f64);
        (warm_ns + (cold_ns - warm_ns) * cold) as u64 + messages * self.delivery_ns
    }

    /// What a server does for its readers' messages besides delivering them, in ns: it takes its share of them, and has all of them
    /// from the engine.
    pub fn messages(&self, sent: u64, followed: u64) -> u64 {
        sent * self.send_ns + followed * self.follow_ns
    }

    /// A call of the engine with so many messages in it, in ns.
    pub fn engine(&self, messages: u64) -> u64 {
        self.engine_call_ns + messages * self.engine_message_ns
    }

    /// In ns.
    pub fn hop(&self) -> u64 {
        self.hop_us * 1000
    }

    /// Bytes.
    pub fn memory(&self, readers: u64) -> u64 {
        (self.server_mib << 20) + readers * (self.reader_kib << 10)
    }

    /// The most readers that a server has memory and connections for.
    pub fn most_readers(&self) -> u64 {
        let memory = (self.memory_gib << 30).saturating_sub(self.server_mib << 20);
        self.connections.min(memory / (self.reader_kib.max(1) << 10))
    }
}

/// Bytes on the wire of one write to one reader.
pub fn delivery_bytes(messages: u64, text: u64) -> u64 {
    segments(FRAME_OVERHEAD + messages * (text + MESSAGE_OVERHEAD))
}

/// Bytes on the wire of an answer to XREAD.
pub fn read_bytes(messages: u64, text: u64) -> u64 {
    segments(ANSWER_OVERHEAD + messages * (text + ENTRY_OVERHEAD))
}

fn segments(bytes: u64) -> u64 {
    bytes + bytes.div_ceil(SEGMENT) * SEGMENT_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_the_bytes_that_redis_sends() {
        let string = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        let (micros, epoch, text) = ("1764113415123456", "021b9ce8a0103a65", "x".repeat(100));
        let fields = ["e", epoch, "p", micros, "a", "alice", "t", &text].map(string).concat();
        let entry = format!("*2\r\n{}*8\r\n{fields}", string(&format!("{micros}-0")));
        assert_eq!(entry.len() as u64, 100 + ENTRY_OVERHEAD);
        let answer = format!("*1\r\n*2\r\n{}*1\r\n{entry}", string("messenger"));
        assert_eq!(answer.len() as u64, 100 + ENTRY_OVERHEAD + ANSWER_OVERHEAD);
    }

    #[test]
    fn a_write_that_does_not_fit_one_segment_takes_more() {
        assert_eq!(delivery_bytes(1, 100), 9 + 128 + 90);
        assert_eq!(delivery_bytes(20, 100), 9 + 20 * 128 + 2 * 90);
    }
}
