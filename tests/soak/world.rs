//! The state that all parts of the soak share.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use crate::journal::Journal;
use crate::proxy::Counters;
use crate::record::{Id, Ledger, ReaderId, Time};
use crate::support::PATIENCE;

#[derive(Debug)]
pub struct World {
    /// The addresses of the servers, the same in all their lives.
    pub servers: Vec<SocketAddr>,
    pub pace: Pace,
    /// The current epoch of the room.
    pub epoch: watch::Sender<String>,
    /// While it is true, networks have no faults.
    pub calm: watch::Sender<bool>,
    pub counters: Arc<Counters>,
    pub journal: Arc<Journal>,
    ledger: Mutex<Ledger>,
    /// The first failure with its journal.
    failure: watch::Sender<Option<String>>,
}

/// The rates of messages and faults.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The longest pause between two messages of a sender.
    pub pause: Duration,
    /// The mean time of a connection without a fault.
    pub peace: Duration,
}

impl World {
    pub fn new(servers: Vec<SocketAddr>, pace: Pace) -> Arc<Self> {
        Arc::new(Self {
            servers,
            pace,
            epoch: watch::Sender::default(),
            calm: watch::Sender::new(true),
            counters: Arc::default(),
            journal: Arc::new(Journal::new()),
            ledger: Mutex::new(Ledger::new()),
            failure: watch::Sender::default(),
        })
    }

    /// Records something in the ledger. A violation fails the soak.
    pub fn note<T>(&self, note: impl FnOnce(&mut Ledger) -> T) -> T {
        let mut ledger = self.ledger();
        let result = note(&mut ledger);
        let violation = ledger.violation.as_ref().map(ToString::to_string);
        drop(ledger);
        if let Some(violation) = violation {
            self.fail(&violation);
        }
        result
    }

    /// Waits, without faults, until everybody has the message at `mark`, and compares all records.
    /// `said` adds to the report of readers that do not get it.
    pub async fn compare(&self, mark: &Time, said: impl FnOnce() -> String) {
        let start = Instant::now();
        loop {
            let behind = self.note(|ledger| ledger.behind(mark).join(", "));
            if behind.is_empty() {
                break;
            }
            if start.elapsed() > PATIENCE {
                let said = said();
                return self
                    .fail(&format!("STUCK: nothing is broken any more, and these do not read: {behind}\n{said}"));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.note(|ledger| ledger.check(mark));
    }

    pub fn sending(&self, sender: u16) -> Id {
        self.note(|ledger| ledger.sending(sender))
    }

    /// Records a message of a reader by its text.
    pub fn received(&self, reader: ReaderId, text: &str, time: Time) {
        match Id::parse(text) {
            Some(id) => self.note(|ledger| ledger.received(reader, id, time)),
            None => self.fail(&format!("CHANGED: {reader:?} got a text that nobody sent: {text:.100?}")),
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no panic")
    }

    /// Fails the soak. Only the first failure counts.
    pub fn fail(&self, what: &str) {
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            if first {
                *failure = Some(format!("{what}\nwhat was done before:\n{}", self.journal.tell(what)));
            }
            first
        });
    }

    /// Fails the soak with any panic, because a task that has panicked is silent.
    pub fn fail_with_any_panic(self: &Arc<Self>) {
        let (world, usual) = (Arc::clone(self), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            usual(panic);
            world.fail(&format!("PANIC of the soak itself, or nothing came where something must: {panic}"));
        }));
    }

    /// Waits for a failure.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        failure.wait_for(Option::is_some).await.expect("a world").clone().unwrap_or_default()
    }
}

/// The current time, in the format of the server.
pub fn now() -> Time {
    humantime::format_rfc3339_nanos(SystemTime::now()).to_string()
}
