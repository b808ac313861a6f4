//! `POST /sendMessage` over several connections, one call at a time on each.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::answer::{self, AUTHOR, Message};
use super::http1::{self, Blocking};
use super::{Chat, Measurement};
use crate::text;

/// Larger than any answer to a send.
const ANSWER: usize = 4 * 1024;

/// One connection and its running call.
struct Caller {
    stream: TcpStream,
    /// The number of the running call on this connection.
    number: u64,
    called: Instant,
    answer: [u8; ANSWER],
    filled: usize,
}

/// All callers, and their results so far.
struct Callers {
    poll: Poll,
    callers: Vec<Caller>,
    text: Vec<u8>,
    request: Vec<u8>,
    sent: Vec<Message>,
    latency: Histogram<u64>,
}

/// Calls for the given time, fetches all messages, and compares them with the sent ones.
pub fn measure(
    chat: &Chat,
    connections: usize,
    time: Duration,
    text: usize,
) -> Result<Vec<Measurement>> {
    let mut callers = Callers::connect(chat, connections, text)?;
    callers.call(time / 4)?;
    callers.latency.clear();
    let (before, start) = (callers.sent.len(), Instant::now());
    let (client, server) = (chat.client.cpu(), chat.server.cpu());
    callers.call(time)?;
    let elapsed = start.elapsed();
    let (client, server) = (chat.client.cpu() - client, chat.server.cpu() - server);
    let calls = (callers.sent.len() - before) as f64;

    chat.wait_until_quiet();
    let mut sent = callers.sent;
    sent.sort_unstable();
    let mut connection = Blocking::open(chat.client.address)?;
    let (body, _) = connection.post("/getAndFlushMessages", b"")?;
    ensure!(answer::messages(body, text)? == sent, "what was fetched is not what was sent");

    let name = |what| format!("sendMessage, {connections} connections, {what}");
    let micros = |cpu: Duration| cpu.as_nanos() as f64 / 1000.0 / calls;
    let latency = |quantile| callers.latency.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(vec![
        Measurement::new(name("rate"), "calls/s", calls / elapsed.as_secs_f64()),
        Measurement::new(name("client's CPU"), "µs/call", micros(client)),
        Measurement::new(name("server's CPU"), "µs/call", micros(server)),
        Measurement::new(name("p50"), "µs", latency(0.5)),
        Measurement::new(name("p99"), "µs", latency(0.99)),
        Measurement::new(name("p99.9"), "µs", latency(0.999)),
    ])
}

impl Callers {
    fn connect(chat: &Chat, count: usize, text: usize) -> Result<Self> {
        let poll = Poll::new()?;
        let mut callers = Vec::new();
        for index in 0..count {
            let stream = std::net::TcpStream::connect(chat.client.address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
            callers.push(Caller {
                stream,
                number: 0,
                called: Instant::now(),
                answer: [0; ANSWER],
                filled: 0,
            });
        }
        let latency = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
        Ok(Self {
            poll,
            callers,
            text: vec![0; text],
            request: Vec::new(),
            sent: Vec::new(),
            latency,
        })
    }

    /// Each connection calls again as soon as it has its answer, until the time is over. Returns
    /// when all answers are there.
    fn call(&mut self, time: Duration) -> Result<()> {
        let start = Instant::now();
        let mut running = self.callers.len();
        for index in 0..running {
            self.begin(index)?;
        }
        let mut events = Events::with_capacity(64);
        while running > 0 {
            self.poll.poll(&mut events, Some(Duration::from_secs(10)))?;
            if events.is_empty() {
                bail!("{running} calls have no answer");
            }
            for event in &events {
                let Token(index) = event.token();
                if self.receive(index)? {
                    if start.elapsed() < time {
                        self.begin(index)?;
                    } else {
                        running -= 1;
                    }
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, index: usize) -> Result<()> {
        let caller = &mut self.callers[index];
        text::write(&mut self.text, index, caller.number, 0);
        let text = std::str::from_utf8(&self.text)?;
        self.request.clear();
        let body = format!(r#"{{"author":"{AUTHOR}","text":"{text}"}}"#);
        http1::request("/sendMessage", body.as_bytes(), &mut self.request);
        caller.called = Instant::now();
        // The buffer of the socket is empty, and larger than any request.
        let written = caller.stream.write(&self.request)?;
        ensure!(written == self.request.len(), "a request was cut");
        Ok(())
    }

    /// Reads from a connection, and says whether its answer is complete.
    fn receive(&mut self, index: usize) -> Result<bool> {
        let caller = &mut self.callers[index];
        match caller.stream.read(&mut caller.answer[caller.filled..]) {
            Ok(0) => bail!("a connection closed"),
            Ok(read) => caller.filled += read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let answer = &caller.answer[..caller.filled];
        let Some(head) = http1::head(answer)?.filter(|head| head.end <= answer.len()) else {
            return Ok(false);
        };
        self.latency.record(u64::try_from(caller.called.elapsed().as_nanos())?)?;
        let body = &answer[head.body..head.end];
        ensure!(head.status == 200, "status {}: {}", head.status, String::from_utf8_lossy(body));
        self.sent.push(Message {
            time: answer::send_time(body)?,
            sender: index,
            number: caller.number,
        });
        caller.filled = 0;
        caller.number += 1;
        Ok(true)
    }
}
