//! Messages that may be sent again: the keys under which they came.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::draft::Draft;
use crate::send_time::SendTime;

/// How long a key is remembered.
pub const KEY_LIFETIME: Duration = Duration::from_mins(5);
/// When there are too many of them, the oldest go earlier, but none before this: who sends again within it is safe. Our client does not
/// send again later.
pub const KEY_LIFETIME_AT_LEAST: Duration = Duration::from_secs(15);
/// Expired keys that go for each new one: more than one, so that they become fewer, and few, so that nobody waits for it.
const SWEEP: usize = 4;

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

#[derive(Debug)]
pub(super) struct Keys {
    known: HashMap<u128, (SendTime, u64)>,
    /// When each of them came, oldest first.
    order: VecDeque<(Instant, u128)>,
    limit: usize,
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
    pub(super) fn new(limit: usize) -> Self {
        Self { known: HashMap::new(), order: VecDeque::new(), limit }
    }

    /// What is known of `key`, and room for it if it is new.
    pub(super) fn look(&mut self, key: Key, now: Instant) -> Known {
        self.forget(now);
        match self.known.get(&key.key) {
            Some((time, message)) if *message == key.message => Known::Same(*time),
            Some(_) => Known::Other,
            None if self.known.len() < self.limit => Known::New,
            None => Known::Full,
        }
    }

    /// How many keys are known.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Remembers a message that was new.
    pub(super) fn remember(&mut self, key: Key, time: SendTime, now: Instant) {
        self.known.insert(key.key, (time, key.message));
        self.order.push_back((now, key.key));
    }

    fn forget(&mut self, now: Instant) {
        for _ in 0..SWEEP {
            let Some((came, key)) = self.order.front() else { return };
            let age = now.saturating_duration_since(*came);
            if age < KEY_LIFETIME && (age < KEY_LIFETIME_AT_LEAST || self.known.len() < self.limit) {
                return;
            }
            self.known.remove(key);
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn draft(text: &str) -> Draft {
        Draft::new("alice".to_owned(), text.to_owned())
    }

    fn time() -> SendTime {
        SendTime::default().next(SystemTime::now())
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
        assert!(keys.known.is_empty() && keys.order.is_empty());
    }

    #[test]
    fn too_many_keys_drive_out_old_ones_and_never_young_ones() {
        let (mut keys, hasher, start, time) = (Keys::new(10), KeyHasher::default(), Instant::now(), time());
        let key = |number: usize| hasher.key(&number.to_string(), &draft("hey"));
        for number in 0..10 {
            assert_eq!(keys.look(key(number), start), Known::New);
            keys.remember(key(number), time, start);
        }
        let young = start + KEY_LIFETIME_AT_LEAST.saturating_sub(Duration::from_millis(1));
        assert_eq!(keys.look(key(10), young), Known::Full);
        assert_eq!(keys.look(key(0), young), Known::Same(time), "none was forgotten");
        let old = start + KEY_LIFETIME_AT_LEAST;
        assert_eq!(keys.look(key(10), old), Known::New);
        assert_eq!(keys.look(key(9), old), Known::Same(time), "no more than was needed");
    }
}
