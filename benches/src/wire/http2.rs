//! Enough HTTP/2 (RFC 9113) and gRPC for a load generator: constant headers, large windows, and
//! frames that are parsed in place.

use std::collections::HashSet;

use super::{Event, Wire, status};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const PADDED: u8 = 8;
const FRAME_HEADER: usize = 9;
/// The largest window there is.
const WINDOW: u32 = (1 << 31) - 1;
const DEFAULT_WINDOW: u32 = 65_535;

/// The HTTP/2 state of one connection, with readers and calls.
#[derive(Debug)]
pub struct Http2 {
    next_stream: u32,
    /// The receive window of the connection and of each stream. It is refilled when half is used.
    offered: u32,
    /// The streams of readers, in the order in which they were opened.
    readers: Vec<ReaderStream>,
    /// The streams of calls that have an answer and no trailers yet. A failed call has no answer.
    answered: HashSet<u32>,
    received: u32,
    /// The send window of the connection.
    window: i64,
}

#[derive(Debug)]
struct ReaderStream {
    stream: u32,
    received: u32,
    /// The first part of a message that continues in the next frame.
    partial: Vec<u8>,
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            next_stream: 1,
            offered: WINDOW,
            readers: Vec::new(),
            answered: HashSet::new(),
            received: 0,
            window: i64::from(DEFAULT_WINDOW),
        }
    }
}

impl Wire for Http2 {
    fn hello(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frame(
            out,
            SETTINGS,
            0,
            0,
            &[&[0, 2, 0, 0, 0, 0][..], &[0, 4], &self.offered.to_be_bytes()].concat(),
        );
        if self.offered > DEFAULT_WINDOW {
            window_update(out, 0, self.offered - DEFAULT_WINDOW);
        }
    }

    fn subscribe(&mut self, out: &mut Vec<u8>) {
        let stream = self.request(b"/mes_grpc.MessengerServer/ReadMessages", &[0; 5], out);
        self.readers.push(ReaderStream { stream, received: 0, partial: Vec::new() });
    }

    fn publish(&mut self, text: &[u8], out: &mut Vec<u8>) -> bool {
        // author = "bench", then the text. The length of the text always takes two bytes.
        let text_length = [
            (text.len() & 0x7f) as u8 | 0x80,
            u8::try_from(text.len() >> 7).expect("a short text"),
        ];
        let length = u32::try_from(7 + 3 + text.len()).expect("a short text").to_be_bytes();
        let body = &[&[0], &length[..], b"\x0a\x05bench\x12", &text_length, text].concat();
        if self.window < body.len() as i64 {
            return false;
        }
        self.window -= body.len() as i64;
        self.request(b"/mes_grpc.MessengerServer/SendMessage", body, out);
        true
    }

    fn receive(&mut self, input: &[u8], out: &mut Vec<u8>, on: &mut dyn FnMut(Event<'_>)) -> usize {
        let mut used = 0;
        while let Some(header) = input.get(used..used + FRAME_HEADER) {
            let length =
                usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
            let (kind, flags) = (header[3], header[4]);
            let stream = u32::from_be_bytes([header[5] & 0x7f, header[6], header[7], header[8]]);
            let Some(payload) = input.get(used + FRAME_HEADER..used + FRAME_HEADER + length) else {
                break;
            };
            used += FRAME_HEADER + length;
            match kind {
                DATA => self.data(stream, flags, payload, out, on),
                HEADERS if self.reader(stream).is_some() => {
                    on(if flags & END_STREAM == 0 {
                        Event::Opened
                    } else {
                        ended(status::grpc(payload))
                    });
                }
                HEADERS if flags & END_STREAM == 0 => {}
                HEADERS if self.answered.remove(&stream) => on(Event::Acknowledged(1)),
                HEADERS => on(Event::Refused(status::grpc(payload).unwrap_or("a status"))),
                SETTINGS if flags & ACK == 0 => frame(out, SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => frame(out, PING, ACK, 0, payload),
                WINDOW_UPDATE if stream == 0 => self.window += i64::from(u32_at(payload, 0)),
                // NO_ERROR means that the server does not need the rest of the request.
                RST_STREAM if u32_at(payload, 0) == 0 => {}
                RST_STREAM => {
                    on(Event::Failed(format!(
                        "a stream was reset with {}",
                        status::http2(u32_at(payload, 0))
                    )));
                }
                GOAWAY => {
                    on(Event::Failed(format!(
                        "the server sent GOAWAY with {}",
                        status::http2(u32_at(payload, 4))
                    )));
                }
                _ => {}
            }
        }
        used
    }
}

impl Http2 {
    /// A connection with the default windows of HTTP/2.
    pub fn small() -> Self {
        Self { offered: DEFAULT_WINDOW, ..Self::default() }
    }

    fn request(&mut self, path: &[u8], body: &[u8], out: &mut Vec<u8>) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        // HPACK (RFC 7541): two indexed fields of the static table, and literals without indexing.
        let mut block = vec![0x83, 0x86];
        literal(&mut block, Name::Indexed(4), path);
        literal(&mut block, Name::Indexed(1), b"bench");
        literal(&mut block, Name::Literal(b"te"), b"trailers");
        literal(&mut block, Name::Literal(b"content-type"), b"application/grpc");
        frame(out, HEADERS, 4, stream, &block);
        frame(out, DATA, END_STREAM, stream, body);
        stream
    }

    /// The index of the reader with this stream.
    fn reader(&self, stream: u32) -> Option<usize> {
        self.readers.binary_search_by_key(&stream, |reader| reader.stream).ok()
    }

    fn data(
        &mut self,
        stream: u32,
        flags: u8,
        payload: &[u8],
        out: &mut Vec<u8>,
        on: &mut dyn FnMut(Event<'_>),
    ) {
        self.received += u32::try_from(payload.len()).expect("a frame");
        if self.received > self.offered / 2 {
            window_update(out, 0, self.received);
            self.received = 0;
        }
        let Some(number) = self.reader(stream) else {
            self.answered.insert(stream);
            return;
        };
        let reader = &mut self.readers[number];
        reader.received += u32::try_from(payload.len()).expect("a frame");
        if reader.received > self.offered / 2 {
            window_update(out, stream, reader.received);
            reader.received = 0;
        }
        let payload = if flags & PADDED == 0 {
            payload
        } else {
            &payload[1..payload.len() - usize::from(payload[0])]
        };
        if reader.partial.is_empty() {
            let used = messages(number, payload, on);
            reader.partial.extend_from_slice(&payload[used..]);
        } else {
            reader.partial.extend_from_slice(payload);
            let used = messages(number, &reader.partial, on);
            reader.partial.drain(..used);
        }
        if flags & END_STREAM != 0 {
            on(ended(None));
        }
    }
}

fn ended(status: Option<&str>) -> Event<'static> {
    Event::Failed(format!("a stream ended with {}", status.unwrap_or("no status")))
}

/// Handles complete gRPC messages, and gives the number of bytes that they took.
fn messages(reader: usize, bytes: &[u8], on: &mut dyn FnMut(Event<'_>)) -> usize {
    let mut used = 0;
    while let Some(prefix) = bytes.get(used..used + 5) {
        let length = u32_at(prefix, 1) as usize;
        let Some(message) = bytes.get(used + 5..used + 5 + length) else { break };
        used += 5 + length;
        let (text, time) = decode(message);
        on(Event::Message { reader, text, time });
    }
    used
}

/// Decodes the text of a `ReadMessagesResponse`, and its time in nanoseconds.
fn decode(mut message: &[u8]) -> (&[u8], u64) {
    let (mut text, mut time) = (&[][..], 0);
    while let [tag, rest @ ..] = message {
        let (length, rest) = varint(rest);
        let (field, rest) = rest.split_at(usize::try_from(length).expect("a length"));
        match tag >> 3 {
            2 => text = field,
            3 => time = timestamp(field),
            _ => {}
        }
        message = rest;
    }
    (text, time)
}

fn timestamp(mut bytes: &[u8]) -> u64 {
    let mut time = 0;
    while let [tag, rest @ ..] = bytes {
        let (value, rest) = varint(rest);
        time += if tag >> 3 == 1 { value * 1_000_000_000 } else { value };
        bytes = rest;
    }
    time
}

fn varint(bytes: &[u8]) -> (u64, &[u8]) {
    let (mut value, mut shift) = (0, 0);
    for (index, byte) in bytes.iter().enumerate() {
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return (value, &bytes[index + 1..]);
        }
    }
    (value, &[])
}

enum Name {
    Indexed(u8),
    Literal(&'static [u8]),
}

fn literal(block: &mut Vec<u8>, name: Name, value: &[u8]) {
    match name {
        Name::Indexed(index) => block.push(index),
        Name::Literal(name) => {
            block.extend_from_slice(&[0, u8::try_from(name.len()).expect("short")]);
            block.extend_from_slice(name);
        }
    }
    block.push(u8::try_from(value.len()).expect("short"));
    block.extend_from_slice(value);
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&u32::try_from(payload.len()).expect("a frame").to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

fn window_update(out: &mut Vec<u8>, stream: u32, by: u32) {
    frame(out, WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
