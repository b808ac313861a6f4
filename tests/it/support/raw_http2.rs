//! HTTP/2 written by hand, for what no library would send. <https://www.rfc-editor.org/rfc/rfc9113>

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const WITH_PRIORITY: u8 = 32;

/// Identifiers of SETTINGS.
pub const HEADER_TABLE_SIZE: u16 = 1;
pub const INITIAL_WINDOW: u16 = 4;
pub const MAX_FRAME_SIZE: u16 = 5;

/// The default of the largest payload.
pub const FRAME: usize = 16 * 1024;

/// How long a write waits for a peer that does not read.
pub const STUCK: Duration = Duration::from_secs(3);

/// The outcome of an attack for its own connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The connection stays open, and all bytes are read.
    Lives,
    /// The server closes the connection.
    Ends,
    /// The server resets a stream, and the connection stays open.
    Resets,
}

/// Encodes a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        values.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(SETTINGS, 0, 0, &payload)
}

pub fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

pub fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

/// An HPACK header that is not added to the table.
pub fn header(name: &str, value: &str) -> Vec<u8> {
    [&[0][..], &string(name), &string(value)].concat()
}

/// An HPACK string: its length, seven bits first, and its bytes.
pub fn string(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    if text.len() < 127 {
        bytes.push(text.len() as u8);
    } else {
        bytes.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            bytes.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        bytes.push(rest as u8);
    }
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// The identifiers of client streams, which are odd.
pub fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| 2 * number + 1)
}

/// Random bytes from a fixed seed.
pub fn noise(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7540);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

/// The headers of a call.
pub fn call(method: &str) -> Vec<u8> {
    [
        // `:method: POST`, `:scheme: http`
        vec![0x83, 0x86],
        header(":path", &format!("/mes_grpc.MessengerServer/{method}")),
        header(":authority", "localhost"),
        header("content-type", "application/grpc"),
        header("te", "trailers"),
    ]
    .concat()
}

/// Begins a call without its message.
pub fn begin(stream: u32, method: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &call(method))
}

/// A whole `ReadMessages`.
pub fn read_messages(stream: u32) -> Vec<u8> {
    [begin(stream, "ReadMessages"), frame(DATA, END_STREAM, stream, &[0; 5])].concat()
}

/// A whole `SendMessage`.
pub fn send_message(stream: u32, text: &str) -> Vec<u8> {
    [begin(stream, "SendMessage"), frame(DATA, END_STREAM, stream, &super::http2::message(text))].concat()
}

/// What the peer has sent.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// The number of frames of each kind.
    pub frames: [usize; 10],
    /// The payload of the last ping acknowledgement.
    pub answered: Option<[u8; 8]>,
    /// Whether a stream was reset.
    pub reset: bool,
    pub closed: bool,
}

/// A connection that can send any bytes.
#[derive(Debug)]
pub struct Raw {
    write: OwnedWriteHalf,
    /// The read half, as long as nothing reads it.
    unread: Option<OwnedReadHalf>,
    seen: watch::Receiver<Seen>,
}

impl Raw {
    /// Connects, sends nothing, and reads nothing.
    pub async fn connect(address: SocketAddr) -> Self {
        let (unread, write) = TcpStream::connect(address).await.expect("a connection").into_split();
        Self { write, unread: Some(unread), seen: watch::channel(Seen::default()).1 }
    }

    /// Connects, sends the preface and these settings, and reads in a task.
    pub async fn open(address: SocketAddr, values: &[(u16, u32)]) -> Self {
        let mut raw = Self::connect(address).await.listening();
        assert!(raw.write(&[PREFACE, &settings(values)].concat()).await);
        raw
    }

    /// Reads in a task from now on.
    pub fn listening(mut self) -> Self {
        let (sender, seen) = watch::channel(Seen::default());
        tokio::spawn(listen(self.unread.take().expect("not listening yet"), sender));
        self.seen = seen;
        self
    }

    /// Writes all bytes. Returns `false` if the peer has closed the connection or does not read.
    pub async fn write(&mut self, bytes: &[u8]) -> bool {
        matches!(tokio::time::timeout(STUCK, self.write.write_all(bytes)).await, Ok(Ok(())))
    }

    /// Writes pieces until the peer stops reading, and returns the number of written pieces.
    pub async fn pour(&mut self, pieces: impl IntoIterator<Item = Vec<u8>>) -> usize {
        let (mut buffer, mut count, mut poured) = (Vec::new(), 0, 0);
        for piece in pieces {
            buffer.extend_from_slice(&piece);
            count += 1;
            if buffer.len() >= 64 * 1024 {
                if !self.write(&buffer).await {
                    return poured;
                }
                poured = count;
                buffer.clear();
            }
        }
        if self.write(&buffer).await { count } else { poured }
    }

    /// Waits until the peer has sent what `so` asks for.
    pub async fn until(&mut self, what: &str, so: impl FnMut(&Seen) -> bool) -> Seen {
        super::soon(what, self.seen.wait_for(so)).await.unwrap_or_else(|_| panic!("the end before {what}")).clone()
    }

    /// What the peer has sent so far.
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits for this outcome of an attack, or fails.
    pub async fn comes_to(&mut self, attack: &str, outcome: Outcome) {
        let awaited = |seen: &Seen| match outcome {
            Outcome::Ends => seen.closed,
            Outcome::Resets => seen.closed || seen.reset,
            Outcome::Lives => true,
        };
        let seen = self.until(attack, awaited).await;
        if outcome == Outcome::Ends {
            return;
        }
        assert!(!seen.closed, "{attack}: {seen:?}");
        // The first answer shows that all bytes before were read, the second that the calls in them
        // were handled.
        for _ in 0..2 {
            let ping = fastrand::u64(..).to_be_bytes();
            self.write(&frame(PING, 0, 0, &ping)).await;
            let seen = self.until(attack, |seen| seen.answered == Some(ping) || seen.closed).await;
            assert!(!seen.closed && seen.reset == (outcome == Outcome::Resets), "{attack}: {seen:?}");
        }
    }
}

async fn listen(stream: OwnedReadHalf, sender: watch::Sender<Seen>) {
    let mut stream = tokio::io::BufReader::with_capacity(64 * 1024, stream);
    let mut head = [0; 9];
    let mut payload = Vec::new();
    while stream.read_exact(&mut head).await.is_ok() {
        payload.resize(u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize, 0);
        if stream.read_exact(&mut payload).await.is_err() {
            break;
        }
        sender.send_modify(|seen| {
            if let Some(count) = seen.frames.get_mut(usize::from(head[3])) {
                *count += 1;
            }
            match head[3] {
                PING => seen.answered = payload.first_chunk().copied(),
                RST_STREAM => seen.reset = true,
                _ => {}
            }
        });
    }
    sender.send_modify(|seen| seen.closed = true);
}
