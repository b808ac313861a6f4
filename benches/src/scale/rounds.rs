//! A server's rounds: when its readers are woken, and what its cores then do.

use std::collections::VecDeque;

use hdrhistogram::Histogram;

use super::costs::{Costs, delivery_bytes};
use super::hop::Arrived;

/// Rounds that follow each other are this far apart, in ns (`src/room/rounds.rs`).
const WINDOW: u64 = 2_500_000;
/// The readers of a core are followed in so many groups at most: one by one would take long, and tell no more.
const GROUPS: u64 = 32;

/// What a server did for its readers.
#[derive(Debug)]
pub struct Served {
    /// Processor time of all cores, in ns.
    pub busy: u64,
    /// Bytes on the wire.
    pub bytes: u64,
    pub deliveries: u64,
    /// When the last message was delivered, in ns.
    pub end: u64,
    /// From sending a message to writing it to a reader's socket, in µs.
    pub latency: Histogram<u64>,
}

/// A round: from then on readers see so many messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Round {
    at: u64,
    published: usize,
}

/// A number of readers that one core serves one after the other.
#[derive(Debug, Clone, Copy)]
struct Group {
    readers: u64,
    seen: usize,
    queued: bool,
}

/// Delivers messages, in the order of their arrival, to so many readers spread over all cores.
pub fn serve(costs: &Costs, readers: u64, text: u64, messages: &[Arrived]) -> Served {
    let latency = Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("bounds");
    let mut served = Served { busy: 0, bytes: 0, deliveries: 0, end: 0, latency };
    let (rounds, cores) = (rounds(messages), u64::from(costs.cores));
    for core in 0..cores {
        let mine = share(readers, cores, core);
        let count = mine.min(GROUPS);
        let groups = (0..count).map(|group| Group { readers: share(mine, count, group), seen: 0, queued: false });
        core_serves(costs, readers, text, messages, &rounds, groups.collect(), &mut served);
    }
    served
}

/// At once after a pause, else by the schedule.
fn rounds(messages: &[Arrived]) -> Vec<Round> {
    let (mut rounds, mut next, mut published) = (Vec::new(), 0, 0);
    while let Some(first) = messages.get(published) {
        let at = first.at.max(next);
        next = if at < next + WINDOW { next + WINDOW } else { at + WINDOW };
        published += messages[published..].partition_point(|message| message.at <= at);
        rounds.push(Round { at, published });
    }
    rounds
}

fn core_serves(
    costs: &Costs,
    readers: u64,
    text: u64,
    messages: &[Arrived],
    rounds: &[Round],
    mut groups: Vec<Group>,
    served: &mut Served,
) {
    let (mut now, mut published, mut queue) = (0, 0, VecDeque::new());
    let mut rounds = rounds.iter().peekable();
    loop {
        // Who is still to be served needs no second wake-up: it gets what is there when its turn comes.
        while let Some(round) = rounds.next_if(|round| round.at <= now) {
            published = round.published;
            for (number, group) in groups.iter_mut().enumerate() {
                if !std::mem::replace(&mut group.queued, true) {
                    queue.push_back(number);
                }
            }
        }
        let Some(number) = queue.pop_front() else {
            let Some(round) = rounds.peek() else { return };
            now = round.at;
            continue;
        };
        let group = &mut groups[number];
        let new = &messages[group.seen..published];
        (group.seen, group.queued) = (published, false);
        let count = new.len() as u64;
        let cost = group.readers * costs.round(readers, count);
        for message in new {
            // Its readers are served one after the other: the one in the middle stands for all.
            served.latency.saturating_record_n(((now + cost / 2 - message.sent) / 1000).max(1), group.readers);
        }
        now += cost;
        served.busy += cost;
        served.bytes += group.readers * delivery_bytes(count, text);
        served.deliveries += group.readers * count;
        served.end = served.end.max(now);
    }
}

/// What the one with this number has of `all`, spread evenly.
pub fn share(all: u64, among: u64, number: u64) -> u64 {
    all / among + u64::from(number < all % among)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(times: &[u64]) -> Vec<Arrived> {
        times.iter().map(|at| Arrived { sent: *at, at: *at }).collect()
    }

    #[test]
    fn a_round_comes_at_once_after_a_pause_and_by_the_schedule_under_load() {
        let at = |at, published| Round { at, published };
        let seen = rounds(&messages(&[10_000_000, 10_000_001, 12_000_000, 20_000_000]));
        assert_eq!(seen, [at(10_000_000, 1), at(12_500_000, 3), at(20_000_000, 4)]);
        let busy: Vec<u64> = (0..10_000).map(|number| number * 100_000).collect();
        assert_eq!(rounds(&messages(&busy)).len(), 401);
    }

    #[test]
    fn nobody_is_forgotten_when_shares_are_uneven() {
        assert_eq!((0..8).map(|number| share(1003, 8, number)).sum::<u64>(), 1003);
    }
}
