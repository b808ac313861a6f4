//! Senders that send as fast as the server acknowledges, or at a fixed rate.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};

use crate::readers::Shared;
use crate::text;
use crate::wire::{Connection, Event, Protocol};

/// How long senders wait for the readers to open, and for the last acknowledgements.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the warm-up waits for progress before it sends another message.
const STEP: Duration = Duration::from_millis(100);

/// How fast messages are sent.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// As fast as the server acknowledges, with `in_flight` unacknowledged messages per sender.
    Full { in_flight: usize },
    /// A fixed number of messages a second, from all senders together.
    Fixed { rate: u32 },
}

struct Sender {
    connection: Connection,
    sent: u64,
    /// The number of answers, refusals included.
    acknowledged: u64,
    /// When the last message left.
    since: Instant,
}

/// All senders, connected and ready.
pub struct Senders {
    poll: Poll,
    senders: Vec<Sender>,
    text: Vec<u8>,
    scratch: Vec<u8>,
    events: Events,
    failures: Vec<String>,
    /// The number of messages that the server refused, and the status of the first one.
    pub refused: u64,
    pub refusal: Option<&'static str>,
    /// The number of messages that are acknowledged together.
    group: u64,
    /// Each sender has one message in flight, so the latency of each answer is known.
    alone: bool,
    /// Microseconds from sending to the answer, of senders with one message in flight.
    pub latency: Histogram<u64>,
}

impl Senders {
    pub fn connect(
        address: SocketAddr,
        protocol: Protocol,
        count: usize,
        text: usize,
    ) -> Result<Self> {
        let poll = Poll::new()?;
        let mut senders = Vec::new();
        for index in 0..count {
            let mut connection = Connection::open(address, protocol)?;
            connection.register(poll.registry(), Token(index))?;
            connection.flush()?;
            senders.push(Sender { connection, sent: 0, acknowledged: 0, since: Instant::now() });
        }
        Ok(Self {
            poll,
            senders,
            text: vec![0; text],
            scratch: vec![0; 1 << 20],
            events: Events::with_capacity(64),
            failures: Vec::new(),
            refused: 0,
            refusal: None,
            group: protocol.group(),
            alone: false,
            latency: Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds"),
        })
    }

    /// Sends messages that do not count, until every reader has got one.
    ///
    /// The next message leaves only when there was no progress for a while, because many messages
    /// would delay the readers that are still opening.
    pub fn warm_up(&mut self, shared: &Shared, readers: usize) -> Result<()> {
        let progress =
            || (shared.opened.load(Ordering::Acquire), shared.warm.load(Ordering::Acquire));
        let (start, mut before, mut sent) = (Instant::now(), (usize::MAX, 0), 0);
        while shared.warm.load(Ordering::Acquire) < readers {
            if start.elapsed() > PATIENCE {
                let (opened, warm) = progress();
                bail!(
                    "{opened} of {readers} readers opened and {warm} got a message within {} s",
                    PATIENCE.as_secs()
                );
            }
            if before == progress() || before.0 >= readers && sent == 0 {
                text::write(&mut self.text, text::WARM_UP, 0, 0);
                for _ in 0..self.group {
                    self.senders[0].connection.publish(&self.text);
                }
                self.senders[0].connection.flush()?;
                sent += self.group;
            }
            before = progress();
            self.receive_for(STEP)?;
        }
        // Acknowledgements of the warm-up must not be counted as later ones.
        while self.senders[0].acknowledged < sent && start.elapsed() < 2 * PATIENCE {
            self.receive_for(STEP)?;
        }
        for sender in &mut self.senders {
            sender.acknowledged = 0;
        }
        (self.refused, self.refusal) = (0, None);
        self.failure()
    }

    /// Sends for the given time, and waits for all answers. Gives the number of accepted messages.
    pub fn send(
        &mut self,
        pace: Pace,
        time: Duration,
        epoch: Instant,
        shared: &Shared,
    ) -> Result<u64> {
        let start = Instant::now();
        match pace {
            Pace::Full { in_flight } => {
                self.alone = in_flight == 1;
                while start.elapsed() < time {
                    for index in 0..self.senders.len() {
                        while self.senders[index].sent - self.senders[index].acknowledged
                            < in_flight as u64
                        {
                            if !self.publish(index, epoch.elapsed()) {
                                break;
                            }
                        }
                        self.senders[index].connection.flush()?;
                    }
                    self.receive(Duration::from_millis(10))?;
                }
            }
            Pace::Fixed { rate } => {
                let interval = Duration::from_secs(1) / rate;
                let mut intended = start;
                let mut index = 0;
                while intended < start + time {
                    let now = Instant::now();
                    if intended > now {
                        std::thread::sleep(intended - now);
                    }
                    while intended <= Instant::now() && intended < start + time {
                        if !self.publish(index, intended - epoch) {
                            // The server's flow control allows no more. The latency counts from
                            // when the message should have been sent, so the wait is part of it.
                            if intended.elapsed() > PATIENCE {
                                bail!("the server accepts fewer than {rate} messages a second");
                            }
                            self.receive(Duration::from_millis(1))?;
                            continue;
                        }
                        self.senders[index].connection.flush()?;
                        index = (index + 1) % self.senders.len();
                        intended += interval;
                    }
                    self.receive(Duration::ZERO)?;
                }
            }
        }
        let stopped = Instant::now();
        let sent: u64 = self.senders.iter().map(|sender| sender.sent).sum();
        // NATS acknowledges in groups, and the last group may be incomplete.
        let unanswered = (self.group - 1) * self.senders.len() as u64;
        while self.senders.iter().map(|sender| sender.acknowledged).sum::<u64>() + unanswered < sent
        {
            if stopped.elapsed() > PATIENCE {
                bail!("not all messages were acknowledged");
            }
            self.receive(Duration::from_millis(10))?;
        }
        let sent = sent - self.refused;
        shared.published.store(sent, Ordering::Release);
        shared.done.store(true, Ordering::Release);
        self.failure()?;
        Ok(sent)
    }

    fn failure(&self) -> Result<()> {
        match self.failures.first() {
            Some(why) => bail!("a sender: {why}"),
            None => Ok(()),
        }
    }

    fn publish(&mut self, index: usize, intended: Duration) -> bool {
        let sender = &mut self.senders[index];
        let intended = u64::try_from(intended.as_nanos()).unwrap_or(u64::MAX);
        text::write(&mut self.text, index, sender.sent, intended);
        let taken = sender.connection.publish(&self.text);
        sender.sent += u64::from(taken);
        sender.since = Instant::now();
        taken
    }

    /// Receives for the whole given time.
    fn receive_for(&mut self, time: Duration) -> Result<()> {
        let start = Instant::now();
        while let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            self.receive(left)?;
        }
        Ok(())
    }

    fn receive(&mut self, wait: Duration) -> Result<()> {
        self.poll.poll(&mut self.events, Some(wait))?;
        for event in &self.events {
            let sender = &mut self.senders[event.token().0];
            sender.connection.receive(&mut self.scratch, &mut |event| match event {
                Event::Acknowledged(count) => {
                    sender.acknowledged += count as u64;
                    if self.alone {
                        let micros =
                            u64::try_from(sender.since.elapsed().as_micros()).unwrap_or(u64::MAX);
                        self.latency.saturating_record(micros.max(1));
                    }
                }
                Event::Refused(status) => {
                    sender.acknowledged += 1;
                    self.refused += 1;
                    self.refusal.get_or_insert(status);
                }
                Event::Failed(why) => self.failures.push(why),
                _ => {}
            })?;
        }
        Ok(())
    }
}
