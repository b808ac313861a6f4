//! The ledger of the room and of every reader, with all checks of the soak and without sockets.
//!
//! - *One order*: a text has one time and a time has one text in all records, and times increase in
//!   each record.
//! - *No repeat*: texts are unique, so one order implies this.
//! - *No loss*: a message that was acknowledged or received is in each record that begins before it
//!   and continues after it. The end of a life may lose messages, and then the reader must have
//!   been told of a gap between the last message of that life and the first of the next.
//! - *Nothing invented*: refused messages and messages without a sender are in no record.
//! - *No false alarm*: there are at most as many gaps as lives that have ended.
//! - *One epoch per life*: there are at most as many epochs as lives, and no reader returns to an
//!   earlier one.
//!
//! With a room in Redis, a life ends when Redis loses messages.

use std::collections::{BTreeMap, HashMap, HashSet};

pub use crate::message::{Id, Time};
use crate::violation::Violation;

/// The record of one reader. A client that is killed begins a new record.
#[derive(Debug)]
struct Record {
    name: String,
    /// The record must have every message later than this.
    begin: Time,
    /// The life of the server that `last` belongs to.
    life: usize,
    last: Time,
    /// The index of the latest epoch of the reader.
    epoch: usize,
    gaps: u64,
    /// The number of lives whose end the record contains.
    ends: u64,
    /// The times of the messages since the last check, in order.
    fresh: Vec<Time>,
}

/// A record in the [`Ledger`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderId(usize);

/// The totals of a ledger.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    pub acknowledged: u64,
    pub unknown: u64,
    pub refused: u64,
    pub received: u64,
    pub gaps: u64,
    /// Acknowledged messages that were lost with a life of the server before any reader had them.
    pub gone: u64,
}

#[derive(Debug)]
pub struct Ledger {
    records: Vec<Record>,
    /// The beginning of each life of the server. None of its messages is earlier.
    lives: Vec<Time>,
    /// The epochs, in the order in which readers first reported them.
    epochs: Vec<String>,
    sent: HashMap<u16, u32>,
    refused: HashSet<Id>,
    acknowledged: HashMap<Id, Time>,
    /// The latest acknowledged time of each sender.
    told: HashMap<u16, Time>,
    times: HashMap<Id, Time>,
    /// The messages that at least one reader has.
    seen: HashSet<Id>,
    /// The latest time in each life that at least one reader has.
    newest: Vec<Time>,
    /// The messages that are known to be in the room, since the last check.
    room: BTreeMap<Time, Id>,
    /// The time up to which everything has been checked.
    checked: Time,
    pub counts: Counts,
    pub violation: Option<Violation>,
}

impl Ledger {
    pub fn new() -> Self {
        Self {
            records: Vec::new(),
            lives: Vec::new(),
            epochs: Vec::new(),
            sent: HashMap::new(),
            refused: HashSet::new(),
            acknowledged: HashMap::new(),
            told: HashMap::new(),
            times: HashMap::new(),
            seen: HashSet::new(),
            newest: Vec::new(),
            room: BTreeMap::new(),
            checked: Time::new(),
            counts: Counts::default(),
            violation: None,
        }
    }

    /// Begins a life of the server, whose messages are all later than `start`.
    pub fn life(&mut self, start: Time) {
        self.lives.push(start);
        self.newest.push(Time::new());
    }

    /// Begins a record, which must have every message later than `begin`.
    pub fn reader(&mut self, name: &str, begin: Time) -> ReaderId {
        let id = ReaderId(self.records.len());
        let life = self.life_of(&begin);
        self.records.push(Record {
            name: name.to_owned(),
            life,
            last: Time::new(),
            begin,
            epoch: 0,
            gaps: 0,
            ends: 0,
            fresh: Vec::new(),
        });
        id
    }

    /// Begins a new record for a reader that was killed.
    pub fn begin_anew(&mut self, reader: ReaderId, begin: Time) {
        let life = self.life_of(&begin);
        let record = &mut self.records[reader.0];
        (record.begin, record.life, record.last) = (begin, life, Time::new());
        (record.gaps, record.ends) = (0, 0);
        record.fresh.clear();
    }

    /// Records that the reader has opened a stream in this epoch.
    pub fn opened(&mut self, reader: ReaderId, epoch: &str) {
        let known = self.epochs.iter().position(|known| known == epoch);
        let place = known.unwrap_or_else(|| {
            self.epochs.push(epoch.to_owned());
            self.epochs.len() - 1
        });
        let (epochs, lives) = (self.epochs.len(), self.lives.len());
        let record = &mut self.records[reader.0];
        let (reader, epoch) = (record.name.clone(), epoch.to_owned());
        if place < record.epoch {
            return self.violated(Violation::OldEpoch { reader, epoch });
        }
        record.epoch = place;
        if epochs > lives {
            self.violated(Violation::NewEpoch { reader, epoch, epochs, lives });
        }
    }

    /// Records a message before it is sent. Each sender counts from 0.
    pub fn sending(&mut self, sender: u16) -> Id {
        let next = self.sent.entry(sender).or_default();
        let id = Id { sender, number: *next };
        *next += 1;
        id
    }

    /// Records that the sender was told that the message is in the room.
    pub fn acknowledged(&mut self, message: Id, time: Time) {
        self.counts.acknowledged += 1;
        if let Some(is) = self.times.get(&message).filter(|is| **is != time) {
            let is = is.clone();
            return self.violated(Violation::WrongTime { message, told: time, is });
        }
        match self.told.insert(message.sender, time.clone()) {
            // A sender sends its messages one after the other.
            Some(before) if before >= time => {
                return self.violated(Violation::WrongTime { message, told: time, is: before });
            }
            _ => {}
        }
        self.acknowledged.insert(message, time.clone());
        // All readers are past this message, and none has it. If none has a later message of the
        // same life, the message was lost with that life, and the readers were told.
        if time <= self.checked && !self.times.contains_key(&message) {
            if time < self.newest[self.life_of(&time)] {
                let reader = "every reader".to_owned();
                return self.violated(Violation::Loss { reader, message, time, acknowledged: true });
            }
            self.counts.gone += 1;
            return;
        }
        self.place("the answer to its sender", message, time);
    }

    /// Records that the sender was told that the message is surely not in the room.
    pub fn refused(&mut self, message: Id) {
        self.counts.refused += 1;
        self.refused.insert(message);
        if let Some(time) = self.times.get(&message).cloned() {
            self.violated(Violation::Refused { reader: "some reader".to_owned(), message, time });
        }
    }

    /// Records that the sender does not know the outcome.
    pub fn unknown(&mut self) {
        self.counts.unknown += 1;
    }

    /// Records that the reader was told that messages may be missing before the next one.
    pub fn gap(&mut self, reader: ReaderId, count: u64) {
        self.counts.gaps += count;
        let now = self.lives.len() as u64 - 1;
        let lives = now - self.life_of(&self.records[reader.0].begin) as u64;
        let record = &mut self.records[reader.0];
        record.gaps += count;
        if record.gaps > lives {
            let (reader, gaps) = (record.name.clone(), record.gaps);
            self.violated(Violation::FalseGap { reader, gaps, lives });
        }
    }

    /// Records that the reader got a message.
    pub fn received(&mut self, reader: ReaderId, message: Id, time: Time) {
        self.counts.received += 1;
        let life = self.life_of(&time);
        let record = &mut self.records[reader.0];
        let name = record.name.clone();
        let (last, last_life) = (record.last.clone(), record.life);
        if !self.times.contains_key(&message)
            && self.sent.get(&message.sender).is_none_or(|next| message.number >= *next)
        {
            return self.violated(Violation::Invented { reader: name, message, time });
        }
        if self.refused.contains(&message) {
            return self.violated(Violation::Refused { reader: name, message, time });
        }
        if time <= last {
            if time == last || record.fresh.binary_search(&time).is_ok() {
                return self.violated(Violation::Repeat { reader: name, message, time });
            }
            if self.times.get(&message).is_none_or(|first| *first == time) {
                return self.violated(Violation::Inversion { reader: name, message, time, after: last });
            }
        }
        if !self.place(&name, message, time.clone()) {
            return;
        }
        self.seen.insert(message);
        if self.newest[life] < time {
            self.newest[life].clone_from(&time);
        }
        let record = &mut self.records[reader.0];
        if life > last_life {
            record.ends += 1;
            if record.gaps < record.ends {
                return self.violated(Violation::UnflaggedGap { reader: name, last, next: time });
            }
            record.life = life;
        }
        record.last.clone_from(&time);
        record.fresh.push(time);
    }

    /// Records the time of a message, and returns whether the message can have it.
    fn place(&mut self, reader: &str, message: Id, time: Time) -> bool {
        let reader = reader.to_owned();
        if let Some(first) = self.times.get(&message).filter(|first| **first != time) {
            let first = first.clone();
            self.violated(Violation::Twice { reader, message, first, again: time });
            return false;
        }
        if let Some(other) = self.room.get(&time).filter(|other| **other != message) {
            let other = *other;
            self.violated(Violation::TwoAtOnce { reader, message, other, time });
            return false;
        }
        self.times.insert(message, time.clone());
        // Checked messages are no longer needed.
        if time > self.checked {
            self.room.insert(time, message);
        }
        true
    }

    /// The names of the readers that have not reached this time.
    pub fn behind(&self, mark: &Time) -> Vec<&str> {
        self.records.iter().filter(|record| record.last < *mark).map(|record| record.name.as_str()).collect()
    }

    /// The time of a reader's last message.
    pub fn last(&self, reader: ReaderId) -> &Time {
        &self.records[reader.0].last
    }

    /// Checks that each record has everything up to `mark`, a message that is in all of them.
    pub fn check(&mut self, mark: &Time) {
        let mut found = None;
        for record in &mut self.records {
            let end = record.fresh.partition_point(|time| time <= mark);
            let fresh: Vec<Time> = record.fresh.drain(..end).collect();
            for (time, message) in self.room.range::<Time, _>(..=mark) {
                if *time <= record.begin || fresh.binary_search(time).is_ok() {
                    continue;
                }
                // If the next message in the record is of the same life, this one is missing. If it
                // is of a later life, this one may have been lost with the server; `received` has
                // checked that the reader was told of a gap.
                let Some(next) = fresh.get(fresh.partition_point(|other| other < time)) else { break };
                if life_of(&self.lives, next) == life_of(&self.lives, time) {
                    let acknowledged = self.acknowledged.contains_key(message);
                    let (reader, message, time) = (record.name.clone(), *message, time.clone());
                    found = found.or(Some(Violation::Loss { reader, message, time, acknowledged }));
                    break;
                }
            }
        }
        let later = self.room.split_off(mark);
        let past = std::mem::replace(&mut self.room, later);
        self.counts.gone += past.values().filter(|message| !self.seen.contains(*message)).count() as u64;
        self.room.remove(mark);
        self.checked.clone_from(mark);
        if let Some(violation) = found {
            self.violated(violation);
        }
    }

    fn life_of(&self, time: &Time) -> usize {
        life_of(&self.lives, time)
    }

    /// Keeps the first violation, because later ones may only follow from it.
    fn violated(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }
}

/// The index of the life of the server that a time belongs to.
fn life_of(lives: &[Time], time: &Time) -> usize {
    lives.partition_point(|start| start <= time).saturating_sub(1)
}
