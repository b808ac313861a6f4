//! Enough of the NATS client protocol for a load generator.
//!
//! <https://docs.nats.io/reference/reference-protocols/nats-protocol>

use super::{Event, Wire};

/// The number of messages after which a sender sends a PING. NATS does not answer a PUB; the PONG
/// shows that it has processed the messages, so it bounds the unacknowledged ones. A PING after
/// each message would be an unfair load.
pub const ACKNOWLEDGE: usize = 16;

#[derive(Debug, Default)]
pub struct Nats {
    readers: usize,
    unacknowledged: usize,
    /// The PONG to the PING of `hello` has arrived. Each later one acknowledges messages.
    hello_answered: bool,
}

impl Wire for Nats {
    fn hello(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n");
    }

    fn subscribe(&mut self, out: &mut Vec<u8>) {
        self.readers += 1;
        out.extend_from_slice(format!("SUB chat {}\r\n", self.readers).as_bytes());
    }

    fn publish(&mut self, text: &[u8], out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(format!("PUB chat {}\r\n", text.len()).as_bytes());
        out.extend_from_slice(text);
        out.extend_from_slice(b"\r\n");
        self.unacknowledged += 1;
        if self.unacknowledged == ACKNOWLEDGE {
            self.unacknowledged = 0;
            out.extend_from_slice(b"PING\r\n");
        }
        true
    }

    fn receive(&mut self, input: &[u8], out: &mut Vec<u8>, on: &mut dyn FnMut(Event<'_>)) -> usize {
        let mut used = 0;
        while let Some(length) = input[used..].iter().position(|byte| *byte == b'\n') {
            let line = &input[used..used + length + 1];
            let after = used + line.len();
            match line[0] {
                // MSG chat <sid> <size>
                b'M' => {
                    let line = line.trim_ascii_end();
                    let mut words = line.rsplit(|byte| *byte == b' ').map(number);
                    let (size, sid) = (words.next().unwrap_or(0), words.next().unwrap_or(1));
                    let Some(text) = input.get(after..after + size) else { break };
                    if input.len() < after + size + 2 {
                        break;
                    }
                    on(Event::Message { reader: sid - 1, text, time: 0 });
                    used = after + size + 2;
                    continue;
                }
                b'P' if line.starts_with(b"PING") => out.extend_from_slice(b"PONG\r\n"),
                b'P' if self.hello_answered => on(Event::Acknowledged(ACKNOWLEDGE)),
                b'P' => {
                    self.hello_answered = true;
                    for _ in 0..self.readers {
                        on(Event::Opened);
                    }
                }
                b'-' => on(Event::Failed(format!(
                    "nats-server answered {}",
                    line.trim_ascii_end().escape_ascii()
                ))),
                _ => {}
            }
            used = after;
        }
        used
    }
}

fn number(digits: &[u8]) -> usize {
    digits.iter().fold(0, |number, digit| number * 10 + usize::from(digit.wrapping_sub(b'0')))
}
