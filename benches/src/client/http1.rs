//! Enough HTTP/1.1 (RFC 9112) for a load generator: constant requests, and answers with a
//! `Content-Length`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// The parsed head of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    pub status: u16,
    /// The offset of the body.
    pub body: usize,
    /// The offset of the end of the body.
    pub end: usize,
}

/// Appends a request to `out`.
pub fn request(path: &str, body: &[u8], out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = write!(
        out,
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(body);
}

/// Parses the head of the answer in `input`, or gives `None` if it is not complete.
pub fn head(input: &[u8]) -> Result<Option<Head>> {
    let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&input[..end])?;
    let status = head.get(9..12).context("no status")?.parse()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then_some(value)
    });
    let length: usize = length.context("an answer without a length")?.parse()?;
    Ok(Some(Head { status, body: end + 4, end: end + 4 + length }))
}

/// A connection that sends a request, waits for the answer, and sends the next one.
pub struct Blocking {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

/// How long an answer took.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    pub first_byte: Duration,
    pub last_byte: Duration,
}

impl Blocking {
    pub fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self { stream, request: Vec::new(), answer: vec![0; 64 * 1024] })
    }

    /// Sends a request and gives the body of the answer, whose status must be 200.
    pub fn post(&mut self, path: &str, body: &[u8]) -> Result<(&[u8], Times)> {
        self.request.clear();
        request(path, body, &mut self.request);
        let start = Instant::now();
        self.stream.write_all(&self.request)?;
        let (mut filled, mut head, mut first_byte) = (0, None::<Head>, None);
        while head.is_none_or(|head| filled < head.end) {
            let read = self.stream.read(&mut self.answer[filled..])?;
            if read == 0 {
                bail!("the connection closed in an answer");
            }
            first_byte.get_or_insert_with(|| start.elapsed());
            filled += read;
            if head.is_none() {
                head = self::head(&self.answer[..filled])?;
                if let Some(head) = head
                    && head.end > self.answer.len()
                {
                    self.answer.resize(head.end, 0);
                }
            }
        }
        let times =
            Times { first_byte: first_byte.unwrap_or_default(), last_byte: start.elapsed() };
        let head = head.context("no answer")?;
        let body = &self.answer[head.body..head.end];
        ensure!(head.status == 200, "status {}: {}", head.status, String::from_utf8_lossy(body));
        Ok((body, times))
    }
}
