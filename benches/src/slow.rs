//! A reader that stops reading and reads again at the end, to see what the server does meanwhile.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use mio::{Events, Poll, Token};

use crate::check::{Check, Received};
use crate::readers::{SILENCE, Shared};
use crate::wire::{Connection, Event, Protocol};

/// What the slow reader got.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The messages that were sent, and the number that arrived.
    sent: u64,
    received: u64,
    /// The messages that are missing before the last one that arrived.
    gaps: u64,
    disordered: u64,
    /// How the stream ended, if it did.
    ending: Option<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, received, gaps, disordered, ending } = self;
        match ending {
            Some(ending) => write!(f, "{ending} after {received} of {sent}")?,
            None if received < sent => write!(f, "silently lost {} of {sent}", sent - received)?,
            None => write!(f, "got all {sent} late")?,
        }
        // A stream may miss messages only at its end, and only with a status.
        if ending.is_some() && *gaps > 0 {
            write!(f, ", {gaps} missing before that")?;
        }
        if *disordered > 0 {
            write!(f, ", {disordered} out of order")?;
        }
        Ok(())
    }
}

struct SlowReader {
    connection: Connection,
    poll: Poll,
    events: Events,
    scratch: Vec<u8>,
    check: Check,
    warm: bool,
    disordered: u64,
    ending: Option<String>,
}

/// Starts the slow reader. It reads one message of the warm-up, stops reading, and reads again when
/// `shared.again` is set.
pub fn start(
    address: SocketAddr,
    protocol: Protocol,
    senders: usize,
    shared: Arc<Shared>,
) -> Result<JoinHandle<Result<Outcome>>> {
    let poll = Poll::new()?;
    let mut connection = Connection::open_small(address, protocol)?;
    connection.subscribe();
    connection.register(poll.registry(), Token(0))?;
    connection.flush()?;
    let mut reader = SlowReader {
        connection,
        poll,
        events: Events::with_capacity(4),
        scratch: vec![0; 1 << 20],
        check: Check::new(senders),
        warm: false,
        disordered: 0,
        ending: None,
    };
    Ok(std::thread::spawn(move || reader.run(&shared)))
}

impl SlowReader {
    fn run(&mut self, shared: &Arc<Shared>) -> Result<Outcome> {
        while !self.warm && self.ending.is_none() {
            self.poll.poll(&mut self.events, Some(Duration::from_millis(20)))?;
            self.read();
        }
        shared.warm.fetch_add(1, Ordering::Release);
        // If this is the last reference, the measurement has failed and nobody will set `again`.
        while !shared.again.load(Ordering::Acquire) && Arc::strong_count(shared) > 1 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let sent = shared.published.load(Ordering::Acquire);
        let mut last = Instant::now();
        while self.ending.is_none() && self.check.count() < sent && last.elapsed() < SILENCE {
            let before = self.check.count();
            // Read before polling, because the events of earlier messages are gone.
            self.read();
            if self.check.count() > before {
                last = Instant::now();
            } else {
                self.poll.poll(&mut self.events, Some(Duration::from_millis(20)))?;
            }
        }
        Ok(Outcome {
            sent,
            received: self.check.count(),
            gaps: self.check.gaps(),
            disordered: self.disordered,
            ending: self.ending.take(),
        })
    }

    fn read(&mut self) {
        let Self { connection, scratch, check, warm, disordered, ending, .. } = self;
        let result = connection.receive(scratch, &mut |event| match event {
            Event::Message { text, time, .. } => match check.take(text, time) {
                Received::WarmUp => *warm = true,
                Received::Counted { disordered: false, .. } => {}
                Received::Counted { disordered: true, .. } => *disordered += 1,
                Received::Foreign => *ending = Some("got a text that was never sent".to_owned()),
            },
            // The first failure is the cause of the others.
            Event::Failed(why) => drop(ending.get_or_insert(why)),
            Event::Opened | Event::Acknowledged(_) | Event::Refused(_) => {}
        });
        if result.is_err() {
            ending.get_or_insert_with(|| "its connection was closed".to_owned());
        }
    }
}
