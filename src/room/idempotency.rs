//! Messages that may be sent again: the keys under which they came.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crate::room::message::Draft;
use crate::send_time::SendTime;

/// How long a key is remembered at least, unless there are too many.
pub const KEY_LIFETIME: Duration = Duration::from_mins(5);
/// When there are too many of them, the oldest go earlier, but none before this: who sends again within it is safe. Our client does not
/// send again later.
pub const KEY_LIFETIME_AT_LEAST: Duration = Duration::from_secs(15);
/// A generation takes keys for so long. Its last key decides when it is forgotten, so its first one may
/// be remembered for so much longer.
const GENERATION: Duration = Duration::from_mins(2);
/// A generation takes at most the limit's part of one in so many: when there are too many keys, no more
/// than this part is forgotten early.
const GENERATIONS: usize = 3;
/// Tables in a generation. With the default limit each has 650 keys and grows within 20 microseconds.
const TABLES: usize = 256;

/// A message's key and what it stands for, as hashes that nobody outside can aim at: a key takes the same little memory whatever its
/// length, and the lock is not held while it is computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    key: u128,
    message: u64,
}

/// What is known of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing: the message is new.
    New,
    /// This very message came with it, and got this time.
    Same(SendTime),
    /// Another message came with it.
    Other,
    /// Nothing, and it could not be remembered: there are too many keys that must not be forgotten yet.
    Full,
}

/// Keys in generations, oldest first. A generation is forgotten as a whole.
///
/// The room's lock is held meanwhile, so no step may take long. A table that grows moves all its keys,
/// so a generation has many small tables.
#[derive(Debug)]
pub(super) struct Keys {
    generations: VecDeque<Generation>,
    len: usize,
    limit: usize,
}

/// Keys that came one after the other.
#[derive(Debug)]
struct Generation {
    began: Instant,
    newest: Instant,
    len: usize,
    tables: Box<[HashMap<u128, (SendTime, u64)>]>,
}

/// Makes [`Key`]s.
#[derive(Debug, Default)]
pub(super) struct KeyHasher {
    one: RandomState,
    other: RandomState,
}

impl KeyHasher {
    pub(super) fn key(&self, key: &str, draft: &Draft) -> Key {
        let key = u128::from(self.one.hash_one(key)) << 64 | u128::from(self.other.hash_one(key));
        Key { key, message: self.one.hash_one(draft.message()) }
    }
}

impl Keys {
    /// No keys yet, and never more than `limit`.
    pub(super) fn new(limit: usize) -> Self {
        Self { generations: VecDeque::new(), len: 0, limit }
    }

    /// What is known of `key`, and room for it if it is new.
    pub(super) fn look(&mut self, key: Key, now: Instant) -> Known {
        while self.oldest_age(now).is_some_and(|age| age >= KEY_LIFETIME) {
            self.forget_oldest();
        }
        if let Some((time, message)) = self.generations.iter().rev().find_map(|keys| keys.get(key.key)) {
            return if *message == key.message { Known::Same(*time) } else { Known::Other };
        }
        if self.len < self.limit {
            return Known::New;
        }
        if self.oldest_age(now).is_some_and(|age| age < KEY_LIFETIME_AT_LEAST) {
            return Known::Full;
        }
        self.forget_oldest();
        Known::New
    }

    /// How many keys are known.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Remembers a message that was new.
    pub(super) fn remember(&mut self, key: Key, time: SendTime, now: Instant) {
        let most = self.limit.div_ceil(GENERATIONS);
        let takes_more = |keys: &Generation| keys.len < most && now.saturating_duration_since(keys.began) < GENERATION;
        if !self.generations.back().is_some_and(takes_more) {
            self.generations.push_back(Generation::new(now));
        }
        if let Some(newest) = self.generations.back_mut() {
            newest.insert(key.key, (time, key.message), now);
            self.len += 1;
        }
    }

    /// How long ago the last key of the oldest generation came.
    fn oldest_age(&self, now: Instant) -> Option<Duration> {
        self.generations.front().map(|oldest| now.saturating_duration_since(oldest.newest))
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.generations.pop_front() {
            self.len -= oldest.len;
        }
    }
}

impl Generation {
    fn new(now: Instant) -> Self {
        Self { began: now, newest: now, len: 0, tables: (0..TABLES).map(|_| HashMap::new()).collect() }
    }

    fn get(&self, key: u128) -> Option<&(SendTime, u64)> {
        self.tables[table(key)].get(&key)
    }

    fn insert(&mut self, key: u128, known: (SendTime, u64), now: Instant) {
        self.tables[table(key)].insert(key, known);
        self.newest = now;
        self.len += 1;
    }
}

/// Which table of a generation a key is in: it is a hash, so they fill evenly.
fn table(key: u128) -> usize {
    (key % TABLES as u128) as usize
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn draft(text: &str) -> Draft {
        Draft::new("alice".to_owned(), text.to_owned())
    }

    fn time() -> SendTime {
        SendTime::default().next(SystemTime::now()).expect("a time")
    }

    #[test]
    fn a_key_stands_for_one_message_until_it_expires() {
        let (mut keys, hasher, start, time) = (Keys::new(10), KeyHasher::default(), Instant::now(), time());
        let key = hasher.key("a", &draft("hey"));
        assert_eq!(keys.look(key, start), Known::New);
        keys.remember(key, time, start);
        let late = start + KEY_LIFETIME.saturating_sub(Duration::from_millis(1));
        assert_eq!(keys.look(key, late), Known::Same(time));
        assert_eq!(keys.look(hasher.key("a", &draft("ho")), late), Known::Other);
        assert_eq!(keys.look(hasher.key("b", &draft("hey")), late), Known::New);
        assert_eq!(keys.look(key, start + KEY_LIFETIME), Known::New);
        assert!(keys.len() == 0 && keys.generations.is_empty());
    }

    #[test]
    fn a_key_is_remembered_a_generation_longer_at_most() {
        let (mut keys, hasher, start, time) = (Keys::new(1000), KeyHasher::default(), Instant::now(), time());
        let key = |second: u64| hasher.key(&second.to_string(), &draft("hey"));
        for second in 0..1000 {
            let now = start + Duration::from_secs(second);
            assert_eq!(keys.look(key(second), now), Known::New);
            keys.remember(key(second), time, now);
            assert!(keys.len() as u64 <= (KEY_LIFETIME + GENERATION).as_secs(), "{}", keys.len());
            let oldest = second.saturating_sub(KEY_LIFETIME.as_secs() - 1);
            assert_eq!(keys.look(key(oldest), now), Known::Same(time));
        }
    }

    #[test]
    fn no_table_is_so_large_that_others_wait_while_it_grows() {
        let limit = 500_000;
        let (mut keys, start, time) = (Keys::new(limit), Instant::now(), time());
        let hasher = RandomState::new();
        for number in 0..limit {
            let key = u128::from(hasher.hash_one(number)) << 64 | u128::from(hasher.hash_one((number, 1)));
            keys.remember(Key { key, message: 0 }, time, start);
        }
        let tables = || keys.generations.iter().flat_map(|generation| &generation.tables);
        let largest = tables().map(HashMap::len).max();
        assert!(largest.is_some_and(|keys| keys < 1000), "{largest:?}");
        // Of eight places that a table has for keys it fills seven, and one byte beside each.
        let place = size_of::<(u128, (SendTime, u64))>() + 1;
        let bytes = tables().map(|table| table.capacity() * 8 / 7 * place).sum::<usize>();
        assert!(bytes <= 80 * limit, "the 80 bytes for a key are promised, not {}", bytes / limit);
    }

    #[test]
    fn too_many_keys_drive_out_old_ones_and_never_young_ones() {
        let limit = 9;
        let (mut keys, hasher, start, time) = (Keys::new(limit), KeyHasher::default(), Instant::now(), time());
        let key = |number: usize| hasher.key(&number.to_string(), &draft("hey"));
        for number in 0..limit {
            assert_eq!(keys.look(key(number), start), Known::New);
            keys.remember(key(number), time, start);
        }
        let young = start + KEY_LIFETIME_AT_LEAST.saturating_sub(Duration::from_millis(1));
        assert_eq!(keys.look(key(limit), young), Known::Full);
        assert_eq!(keys.look(key(0), young), Known::Same(time), "none was forgotten");
        let old = start + KEY_LIFETIME_AT_LEAST;
        assert_eq!(keys.look(key(limit), old), Known::New);
        let still_known = (0..limit).filter(|number| keys.look(key(*number), old) == Known::Same(time));
        assert_eq!(still_known.count(), limit - limit / GENERATIONS, "no more than a generation was forgotten");
    }
}
