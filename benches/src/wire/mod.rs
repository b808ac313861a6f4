//! The protocols of the load generator, written to cost less than the servers that are measured.
//!
//! They use non-blocking sockets in one thread, parse frames in the read buffer, and use no
//! library.

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

/// The receive buffer of a slow reader's socket, in bytes.
const SMALL_BUFFER: usize = 64 * 1024;

/// The protocol of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC, service `mes_grpc.MessengerServer`.
    Grpc,
    /// nats-server: publish and subscribe on one subject.
    Nats,
}

impl Protocol {
    /// The number of messages that are acknowledged together.
    pub fn group(self) -> u64 {
        match self {
            Self::Grpc => 1,
            Self::Nats => nats::ACKNOWLEDGE as u64,
        }
    }
}

/// Something that arrived on a connection.
#[derive(Debug)]
pub enum Event<'a> {
    /// The stream of a reader is open.
    Opened,
    /// A message for a reader, given by its index on the connection. `time` is the sendTime in ns,
    /// or 0 if there is none.
    Message { reader: usize, text: &'a [u8], time: u64 },
    /// The server has accepted this number of messages.
    Acknowledged(usize),
    /// The server has refused a message, with this status.
    Refused(&'static str),
    /// A failure, which makes the measurement invalid.
    Failed(String),
}

/// The client's side of a protocol on one connection. It turns requests into bytes, and bytes into
/// events.
pub trait Wire: Send {
    /// Writes the first bytes of the connection.
    fn hello(&mut self, out: &mut Vec<u8>);
    /// Opens one more reader on this connection.
    fn subscribe(&mut self, out: &mut Vec<u8>);
    /// Sends a message, or returns false if the server's flow control does not allow it now.
    fn publish(&mut self, text: &[u8], out: &mut Vec<u8>) -> bool;
    /// Handles complete frames of `input`, and gives the number of bytes that they took.
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

    /// Opens a connection with the small buffers of a usual client. With larger ones the kernel
    /// would read megabytes for a reader that does not read.
    pub fn open_small(address: SocketAddr, protocol: Protocol) -> io::Result<Self> {
        let wire: Box<dyn Wire> = match protocol {
            Protocol::Grpc => Box::new(Http2::small()),
            Protocol::Nats => Box::new(Nats::default()),
        };
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(address),
            socket2::Type::STREAM,
            None,
        )?;
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

    /// Writes pending output until the socket blocks.
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

    /// Reads available input, handles it, and flushes the output. All connections of a thread share
    /// `scratch`, because a buffer for each would cause cache misses.
    pub fn receive(&mut self, scratch: &mut [u8], on: &mut dyn FnMut(Event<'_>)) -> io::Result<()> {
        loop {
            // An incomplete frame of the last read comes first.
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
