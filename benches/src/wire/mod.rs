//! Talking to a server with as little work as possible: what is measured must cost more than the measuring.
//!
//! One thread, non-blocking sockets, frames looked at where they lie in the read buffer, no library in between.

mod http2;
mod nats;
mod status;

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

pub use self::http2::Http2;
pub use self::nats::Nats;

/// Bytes of a slow reader's socket.
const SMALL_BUFFER: usize = 64 * 1024;

/// How the server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC, service `mes_grpc.MessengerServer`.
    Grpc,
    /// nats-server: publish and subscribe on one subject.
    Nats,
}

impl Protocol {
    /// How many messages are acknowledged together.
    pub fn group(self) -> u64 {
        match self {
            Self::Grpc => 1,
            Self::Nats => nats::ACKNOWLEDGE as u64,
        }
    }
}

/// What a connection has brought.
#[derive(Debug)]
pub enum Event<'a> {
    /// A reader's stream is open.
    Opened,
    /// A message for the reader with this number on its connection: its text, and its sendTime in ns (0 where there is none).
    Message { reader: usize, text: &'a [u8], time: u64 },
    /// The server has taken so many of our messages.
    Acknowledged(usize),
    /// The server has not taken one of our messages, and says why.
    Refused(&'static str),
    /// Something that must not happen while it is measured.
    Failed(String),
}

/// One side of a protocol over one connection: turns bytes into events, and requests into bytes.
pub trait Wire: Send {
    /// What is sent first.
    fn hello(&mut self, out: &mut Vec<u8>);
    /// Opens one more reader on this connection.
    fn subscribe(&mut self, out: &mut Vec<u8>);
    /// Sends a message; false if the server's flow control has no room for it now.
    fn publish(&mut self, text: &[u8], out: &mut Vec<u8>) -> bool;
    /// Takes whole frames from `input`, and says how many bytes they were.
    fn receive(&mut self, input: &[u8], out: &mut Vec<u8>, on: &mut dyn FnMut(Event<'_>)) -> usize;
}

/// A non-blocking connection with its buffers.
pub struct Connection {
    stream: TcpStream,
    wire: Box<dyn Wire>,
    input: Vec<u8>,
    filled: usize,
    output: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr, protocol: Protocol) -> io::Result<Self> {
        let wire: Box<dyn Wire> = match protocol {
            Protocol::Grpc => Box::new(Http2::default()),
            Protocol::Nats => Box::new(Nats::default()),
        };
        Self::new(std::net::TcpStream::connect(address)?, wire)
    }

    /// With as little room for what is not read as a usual client has: else the kernel would read megabytes in its place.
    pub fn open_small(address: SocketAddr, protocol: Protocol) -> io::Result<Self> {
        let wire: Box<dyn Wire> = match protocol {
            Protocol::Grpc => Box::new(Http2::small()),
            Protocol::Nats => Box::new(Nats::default()),
        };
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_recv_buffer_size(SMALL_BUFFER)?;
        socket.connect(&address.into())?;
        Self::new(socket.into(), wire)
    }

    fn new(stream: std::net::TcpStream, mut wire: Box<dyn Wire>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut output = Vec::new();
        wire.hello(&mut output);
        let stream = TcpStream::from_std(stream);
        Ok(Self { stream, wire, input: Vec::new(), filled: 0, output })
    }

    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.stream.register(registry, token, Interest::READABLE | Interest::WRITABLE)
    }

    pub fn subscribe(&mut self) {
        self.wire.subscribe(&mut self.output);
    }

    pub fn publish(&mut self, text: &[u8]) -> bool {
        self.wire.publish(text, &mut self.output)
    }

    /// Writes what waits to be written, as far as the socket takes it.
    pub fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => drop(self.output.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what there is, and flushes what that leads to. `scratch` is shared by all connections of a thread: a thousand idle
    /// buffers would be a thousand cache misses.
    pub fn receive(&mut self, scratch: &mut [u8], on: &mut dyn FnMut(Event<'_>)) -> io::Result<()> {
        loop {
            // A frame that was cut comes first, then what is new.
            scratch[..self.filled].copy_from_slice(&self.input[..self.filled]);
            let read = match self.stream.read(&mut scratch[self.filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            let end = self.filled + read;
            let used = self.wire.receive(&scratch[..end], &mut self.output, on);
            self.input.clear();
            self.input.extend_from_slice(&scratch[used..end]);
            self.filled = self.input.len();
            if end < scratch.len() {
                break;
            }
        }
        self.flush()
    }
}
