//! Idempotency keys: the messages that may be sent again.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::message::EncodedMessage;
use crate::send_time::SendTime;

/// How long a key is remembered at least, unless there are too many keys.
pub const KEY_LIFETIME: Duration = Duration::from_mins(5);
/// How long a key is remembered at least if there are too many keys: a repeat within this time is
/// always recognized. Our client does not repeat a send later.
pub const KEY_LIFETIME_AT_LEAST: Duration = Duration::from_secs(15);
/// How long a generation takes new keys. A generation is forgotten when its last key expires, so
/// its first key may be remembered this much longer.
const GENERATION: Duration = Duration::from_mins(2);
/// A generation takes at most `1 / GENERATIONS` of the limit. When there are too many keys, at most
/// one generation is forgotten early.
const GENERATIONS: usize = 3;
/// The hash tables of a generation. With the default limit each has 650 keys and grows within 20
/// microseconds.
const TABLES: usize = 256;

/// The hashes of a key and of its message. Nobody outside can find collisions, because the hasher
/// is random. A hashed key takes the same little memory whatever the key's length, and the hashes
/// are computed before the room's lock is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct HashedKey {
    key: u128,
    message: u64,
}

/// The result of looking a key up.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeyLookup {
    /// Nothing: the message is new.
    New,
    /// The same message, which has this time.
    Repeat(SendTime),
    /// Another message.
    OtherMessage,
    /// Nothing, and the key can't be remembered: all keys are too young to be forgotten.
    Full,
}

/// The keys in generations, oldest first. A generation is forgotten as a whole.
///
/// All steps run under the room's lock, so none may take long. A table that grows moves all its
/// keys, so a generation has many small tables.
#[derive(Debug)]
pub(super) struct Keys {
    generations: VecDeque<Generation>,
    len: usize,
    limit: usize,
}

/// Keys that were first seen one after the other.
#[derive(Debug)]
struct Generation {
    began: Instant,
    newest: Instant,
    len: usize,
    tables: Box<[HashMap<u128, (SendTime, u64)>]>,
}

/// Hashes keys.
#[derive(Debug, Default)]
pub(super) struct KeyHasher {
    low: RandomState,
    high: RandomState,
}

impl KeyHasher {
    pub(super) fn hash(&self, key: &str, message: &EncodedMessage) -> HashedKey {
        let hash = u128::from(self.high.hash_one(key)) << 64 | u128::from(self.low.hash_one(key));
        HashedKey { key: hash, message: self.high.hash_one(message.author_and_text()) }
    }
}

impl Keys {
    /// No keys, and never more than `limit`.
    pub(super) fn new(limit: usize) -> Self {
        Self { generations: VecDeque::new(), len: 0, limit }
    }

    /// Looks a key up, and makes room for it if it is new.
    pub(super) fn look_up(&mut self, key: HashedKey, now: Instant) -> KeyLookup {
        while self.oldest_age(now).is_some_and(|age| age >= KEY_LIFETIME) {
            self.forget_oldest();
        }
        let found = self.generations.iter().rev().find_map(|generation| generation.get(key.key));
        if let Some(&(time, message)) = found {
            return if message == key.message { KeyLookup::Repeat(time) } else { KeyLookup::OtherMessage };
        }
        if self.len < self.limit {
            return KeyLookup::New;
        }
        if self.oldest_age(now).is_some_and(|age| age < KEY_LIFETIME_AT_LEAST) {
            return KeyLookup::Full;
        }
        self.forget_oldest();
        KeyLookup::New
    }

    /// The number of keys.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Remembers a key that was new.
    pub(super) fn remember(&mut self, key: HashedKey, time: SendTime, now: Instant) {
        let most = self.limit.div_ceil(GENERATIONS);
        let takes_more = |generation: &Generation| {
            generation.len < most && now.saturating_duration_since(generation.began) < GENERATION
        };
        if !self.generations.back().is_some_and(takes_more) {
            self.generations.push_back(Generation::new(now));
        }
        if let Some(newest) = self.generations.back_mut() {
            newest.insert(key.key, (time, key.message), now);
            self.len += 1;
        }
    }

    /// The age of the newest key of the oldest generation.
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
        let tables = (0..TABLES).map(|_| HashMap::new()).collect();
        Self { began: now, newest: now, len: 0, tables }
    }

    fn get(&self, key: u128) -> Option<&(SendTime, u64)> {
        self.tables[table(key)].get(&key)
    }

    fn insert(&mut self, key: u128, value: (SendTime, u64), now: Instant) {
        self.tables[table(key)].insert(key, value);
        self.newest = now;
        self.len += 1;
    }
}

/// The index of a key's table. A key is a hash, so the tables fill evenly.
fn table(key: u128) -> usize {
    (key % TABLES as u128) as usize
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn message(text: &str) -> EncodedMessage {
        EncodedMessage::new("alice".to_owned(), text.to_owned())
    }

    fn time() -> SendTime {
        SendTime::default().next(SystemTime::now()).expect("a time")
    }

    #[test]
    fn a_key_stands_for_one_message_until_it_expires() {
        let (mut keys, hasher, start, time) = (Keys::new(10), KeyHasher::default(), Instant::now(), time());
        let key = hasher.hash("a", &message("hey"));
        assert_eq!(keys.look_up(key, start), KeyLookup::New);
        keys.remember(key, time, start);
        let late = start + KEY_LIFETIME.saturating_sub(Duration::from_millis(1));
        assert_eq!(keys.look_up(key, late), KeyLookup::Repeat(time));
        assert_eq!(keys.look_up(hasher.hash("a", &message("ho")), late), KeyLookup::OtherMessage);
        assert_eq!(keys.look_up(hasher.hash("b", &message("hey")), late), KeyLookup::New);
        assert_eq!(keys.look_up(key, start + KEY_LIFETIME), KeyLookup::New);
        assert!(keys.len() == 0 && keys.generations.is_empty());
    }

    #[test]
    fn a_key_is_remembered_at_most_a_generation_longer() {
        let (mut keys, hasher, start, time) = (Keys::new(1000), KeyHasher::default(), Instant::now(), time());
        let key = |second: u64| hasher.hash(&second.to_string(), &message("hey"));
        for second in 0..1000 {
            let now = start + Duration::from_secs(second);
            assert_eq!(keys.look_up(key(second), now), KeyLookup::New);
            keys.remember(key(second), time, now);
            assert!(keys.len() as u64 <= (KEY_LIFETIME + GENERATION).as_secs(), "{}", keys.len());
            let oldest = second.saturating_sub(KEY_LIFETIME.as_secs() - 1);
            assert_eq!(keys.look_up(key(oldest), now), KeyLookup::Repeat(time));
        }
    }

    #[test]
    fn all_tables_stay_small() {
        let limit = 500_000;
        let (mut keys, start, time) = (Keys::new(limit), Instant::now(), time());
        let hasher = RandomState::new();
        for number in 0..limit {
            let key = u128::from(hasher.hash_one(number)) << 64 | u128::from(hasher.hash_one((number, 1)));
            keys.remember(HashedKey { key, message: 0 }, time, start);
        }
        let tables = || keys.generations.iter().flat_map(|generation| &generation.tables);
        let largest = tables().map(HashMap::len).max();
        assert!(largest.is_some_and(|keys| keys < 1000), "{largest:?}");
        // A hash table fills seven of its eight slots, and has one byte more for each slot.
        let slot = size_of::<(u128, (SendTime, u64))>() + 1;
        let bytes = tables().map(|table| table.capacity() * 8 / 7 * slot).sum::<usize>();
        assert!(bytes <= 80 * limit, "docs/limits.md promises 80 bytes, not {}", bytes / limit);
    }

    #[test]
    fn too_many_keys_push_out_old_ones_and_never_young_ones() {
        let limit = 9;
        let (mut keys, hasher, start, time) = (Keys::new(limit), KeyHasher::default(), Instant::now(), time());
        let key = |number: usize| hasher.hash(&number.to_string(), &message("hey"));
        for number in 0..limit {
            assert_eq!(keys.look_up(key(number), start), KeyLookup::New);
            keys.remember(key(number), time, start);
        }
        let young = start + KEY_LIFETIME_AT_LEAST.saturating_sub(Duration::from_millis(1));
        assert_eq!(keys.look_up(key(limit), young), KeyLookup::Full);
        assert_eq!(keys.look_up(key(0), young), KeyLookup::Repeat(time), "none was forgotten");
        let old = start + KEY_LIFETIME_AT_LEAST;
        assert_eq!(keys.look_up(key(limit), old), KeyLookup::New);
        let still_known = (0..limit).filter(|number| keys.look_up(key(*number), old) == KeyLookup::Repeat(time));
        assert_eq!(still_known.count(), limit - limit / GENERATIONS, "no more than a generation was forgotten");
    }
}
