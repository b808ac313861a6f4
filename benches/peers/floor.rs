//! The floor: the cost of writing the same framed bytes into the same number of sockets.
//!
//! It uses one thread and epoll. It parses HTTP/2 frames only to tell the two calls apart, answers
//! every `SendMessage` with the same bytes, and copies each message with a time to every reader,
//! one frame and one write each. It has no flow control, no limits and no checks, so it is no
//! usable server. A server that does not batch messages cannot cost less.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// The `ReadMessages` streams of this connection.
    readers: Vec<u32>,
    greeted: bool,
}

const LISTENER: Token = Token(usize::MAX);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::var("MESSENGER_SERVER_PORT")?.parse()?;
    rlimit::increase_nofile_limit(u64::MAX)?;
    let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port).into())?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut peers: HashMap<usize, Peer> = HashMap::new();
    let (mut events, mut next, mut last) = (Events::with_capacity(1024), 0, 0);
    let mut scratch = vec![0; 1 << 16];
    loop {
        poll.poll(&mut events, None)?;
        let mut posted = Vec::new();
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    poll.registry().register(
                        &mut stream,
                        Token(next),
                        Interest::READABLE | Interest::WRITABLE,
                    )?;
                    peers.insert(
                        next,
                        Peer {
                            stream,
                            input: Vec::new(),
                            output: Vec::new(),
                            readers: Vec::new(),
                            greeted: false,
                        },
                    );
                    next += 1;
                }
                continue;
            }
            let Some(peer) = peers.get_mut(&event.token().0) else { continue };
            if !receive(peer, &mut scratch, &mut posted, &mut last) {
                peers.remove(&event.token().0);
            }
        }
        for message in posted {
            for peer in peers.values_mut() {
                for index in 0..peer.readers.len() {
                    frame(&mut peer.output, 0, 0, peer.readers[index], &message);
                    flush(peer);
                }
            }
        }
    }
}

/// Reads requests and answers them. Returns false when the connection has ended.
fn receive(peer: &mut Peer, scratch: &mut [u8], posted: &mut Vec<Vec<u8>>, last: &mut u64) -> bool {
    loop {
        match peer.stream.read(scratch) {
            Ok(0) => return false,
            Ok(read) => peer.input.extend_from_slice(&scratch[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(_) => return false,
        }
    }
    let mut used = 0;
    if !peer.greeted && peer.input.len() >= 24 {
        peer.greeted = true;
        used = 24;
        frame(&mut peer.output, 4, 0, 0, &[]);
    }
    while let Some(header) = peer.input.get(used..used + 9) {
        let length =
            usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        let (kind, flags) = (header[3], header[4]);
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        let Some(payload) = peer.input.get(used + 9..used + 9 + length) else { break };
        used += 9 + length;
        match kind {
            4 if flags & 1 == 0 => frame(&mut peer.output, 4, 1, 0, &[]),
            6 if flags & 1 == 0 => frame(&mut peer.output, 6, 1, 0, payload),
            // The request of ReadMessages is empty, and that of SendMessage never is.
            0 if payload.len() == 5 => {
                peer.readers.push(stream);
                frame(&mut peer.output, 1, 4, stream, &[0x88]);
            }
            0 => {
                let message = message(payload, last);
                let window = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
                frame(&mut peer.output, 8, 0, 0, &window);
                frame(&mut peer.output, 1, 4, stream, &[0x88]);
                let time = &message[message.len() - 14..];
                let mut answer = vec![0, 0, 0, 0, 14];
                answer.extend_from_slice(time);
                frame(&mut peer.output, 0, 0, stream, &answer);
                frame(&mut peer.output, 1, 5, stream, b"\x00\x0bgrpc-status\x010");
                posted.push(message);
            }
            _ => {}
        }
    }
    peer.input.drain(..used);
    flush(peer);
    true
}

/// The message with a time appended: field 3, with 5 bytes of seconds and 5 of nanoseconds.
fn message(request: &[u8], last: &mut u64) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    *last = u64::try_from(now.as_nanos()).unwrap_or_default().max(*last + 1);
    let mut message = request.to_vec();
    message.extend_from_slice(&[0x1a, 12, 0x08]);
    varint(&mut message, *last / 1_000_000_000);
    message.push(0x10);
    varint(&mut message, *last % 1_000_000_000);
    let length = u32::try_from(message.len() - 5).unwrap_or_default();
    message[1..5].copy_from_slice(&length.to_be_bytes());
    message
}

/// Writes a varint of five bytes, whatever the number. A varint may end with zeros.
fn varint(out: &mut Vec<u8>, mut number: u64) {
    for byte in 0..5 {
        out.push((number & 0x7f) as u8 | if byte < 4 { 0x80 } else { 0 });
        number >>= 7;
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap_or_default().to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

fn flush(peer: &mut Peer) {
    while let Ok(written @ 1..) = peer.stream.write(&peer.output) {
        peer.output.drain(..written);
        if peer.output.is_empty() {
            return;
        }
    }
}
