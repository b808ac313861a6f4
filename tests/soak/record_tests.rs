//! Tests of the checks: they find each violation in the records, and report nothing that is
//! allowed.

use crate::message::Id;
use crate::record::{Ledger, ReaderId};
use crate::support::suite::tests;
use crate::violation::Violation;
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    tests![
        a_correct_room_has_no_violation,
        a_message_that_only_another_reader_has_is_lost,
        an_acknowledged_message_that_no_reader_has_is_lost,
        an_answer_that_arrives_in_the_next_life_counts,
        messages_that_end_with_the_server_must_be_reported_as_a_gap,
        a_gap_excuses_no_loss_within_a_life,
        a_gap_within_a_life_is_false,
        repeats_and_inversions_are_found,
        a_message_in_two_lives_is_found,
        wrong_answers_to_senders_are_found,
        a_killed_reader_begins_a_new_record,
        a_life_has_one_epoch,
        a_new_epoch_without_an_excuse_is_found,
        a_changed_text_is_found
    ]
}

/// The time at this second of a minute.
fn at(second: u32) -> String {
    format!("2026-01-01T00:00:{second:02}.000000001Z")
}

/// A ledger with two readers, and a first life with this many messages at the seconds from 1 on.
fn room(messages: u32) -> (Ledger, [ReaderId; 2], Vec<Id>) {
    let mut ledger = Ledger::new();
    ledger.life(at(0));
    let readers = [ledger.reader("one", at(0)), ledger.reader("other", at(0))];
    let ids = (0..messages).map(|_| ledger.sending(1)).collect();
    (ledger, readers, ids)
}

/// Records these messages for a reader, each at the second of its place.
fn gets(ledger: &mut Ledger, reader: ReaderId, ids: &[Id], places: &[u32]) {
    for place in places {
        ledger.received(reader, ids[*place as usize - 1], at(*place));
    }
}

fn both_get(ledger: &mut Ledger, readers: [ReaderId; 2], ids: &[Id], places: &[u32]) {
    for reader in readers {
        gets(ledger, reader, ids, places);
    }
}

fn kind(ledger: &Ledger) -> String {
    let violation = ledger.violation.as_ref().map_or("none".to_owned(), |violation| format!("{violation:?}"));
    violation.split(' ').next().unwrap_or_default().to_owned()
}

async fn a_correct_room_has_no_violation() {
    let (mut ledger, readers, ids) = room(4);
    both_get(&mut ledger, readers, &ids, &[1, 2]);
    ledger.acknowledged(ids[0], at(1));
    ledger.unknown();
    ledger.check(&at(2));
    both_get(&mut ledger, readers, &ids, &[3, 4]);
    ledger.acknowledged(ids[2], at(3));
    assert_eq!(ledger.behind(&at(4)), [""; 0]);
    ledger.check(&at(4));
    assert_eq!(ledger.violation, None);
}

async fn a_message_that_only_another_reader_has_is_lost() {
    let (mut ledger, [one, other], ids) = room(3);
    gets(&mut ledger, one, &ids, &[1, 2, 3]);
    gets(&mut ledger, other, &ids, &[1]);
    assert_eq!(ledger.behind(&at(3)), ["other"]);
    gets(&mut ledger, other, &ids, &[3]);
    ledger.check(&at(3));
    let lost = Violation::Loss { reader: "other".to_owned(), message: ids[1], time: at(2), acknowledged: false };
    assert_eq!(ledger.violation, Some(lost));
}

async fn an_acknowledged_message_that_no_reader_has_is_lost() {
    for late in [false, true] {
        let (mut ledger, readers, ids) = room(3);
        both_get(&mut ledger, readers, &ids, &[1, 3]);
        // Before or after the records are compared.
        if late {
            ledger.check(&at(3));
        }
        ledger.acknowledged(ids[1], at(2));
        if !late {
            ledger.check(&at(3));
        }
        assert_eq!(kind(&ledger), "Loss", "late: {late}");
    }
}

async fn an_answer_that_arrives_in_the_next_life_counts() {
    for (place, found) in [(2, "Loss"), (4, "none")] {
        let (mut ledger, readers, ids) = room(6);
        both_get(&mut ledger, readers, &ids, &[1, 3]);
        ledger.life(at(5));
        for reader in readers {
            ledger.gap(reader, 1);
        }
        both_get(&mut ledger, readers, &ids, &[6]);
        ledger.check(&at(6));
        // Sent in the first life: between messages that all have, or after the last of them.
        ledger.acknowledged(ids[place as usize - 1], at(place));
        assert_eq!(kind(&ledger), found);
    }
}

async fn messages_that_end_with_the_server_must_be_reported_as_a_gap() {
    for told in [true, false] {
        let (mut ledger, readers, ids) = room(4);
        both_get(&mut ledger, readers, &ids, &[1]);
        ledger.received(readers[0], ids[1], at(2));
        ledger.acknowledged(ids[2], at(3));
        ledger.life(at(4));
        if told {
            for reader in readers {
                ledger.gap(reader, 1);
            }
        }
        both_get(&mut ledger, readers, &ids, &[4]);
        ledger.check(&at(4));
        assert_eq!(kind(&ledger), if told { "none" } else { "UnflaggedGap" });
        assert_eq!(ledger.counts.gone, 1, "the third");
    }
}

async fn a_gap_excuses_no_loss_within_a_life() {
    // In the life before the gap, and in the one after it.
    for missing in [2, 5] {
        let (mut ledger, [one, other], ids) = room(6);
        for place in [1, 2, 3, 5, 6] {
            if place == 5 {
                ledger.life(at(4));
                ledger.gap(one, 1);
                ledger.gap(other, 1);
            }
            gets(&mut ledger, one, &ids, &[place]);
            if place != missing {
                gets(&mut ledger, other, &ids, &[place]);
            }
        }
        ledger.check(&at(6));
        assert_eq!(kind(&ledger), "Loss", "{missing}");
    }
}

async fn a_gap_within_a_life_is_false() {
    let (mut ledger, [one, _], _) = room(1);
    ledger.gap(one, 1);
    assert_eq!(kind(&ledger), "FalseGap");
    let (mut ledger, [one, _], _) = room(1);
    ledger.life(at(2));
    ledger.gap(one, 1);
    assert_eq!(ledger.violation, None, "a life without a message");
    ledger.gap(one, 1);
    assert_eq!(kind(&ledger), "FalseGap");
}

async fn repeats_and_inversions_are_found() {
    let (mut ledger, readers, ids) = room(3);
    both_get(&mut ledger, readers, &ids, &[1, 2]);
    ledger.received(readers[0], ids[0], at(1));
    assert_eq!(kind(&ledger), "Repeat");

    // Also the last one before a check, and one from before it.
    for (again, found) in [(2, "Repeat"), (1, "Inversion")] {
        let (mut ledger, readers, ids) = room(3);
        both_get(&mut ledger, readers, &ids, &[1, 2]);
        ledger.check(&at(2));
        ledger.received(readers[0], ids[again as usize - 1], at(again));
        assert_eq!(kind(&ledger), found);
    }

    let (mut ledger, [one, other], ids) = room(3);
    gets(&mut ledger, one, &ids, &[1, 2]);
    gets(&mut ledger, other, &ids, &[2, 1]);
    assert_eq!(kind(&ledger), "Inversion");
}

async fn a_message_in_two_lives_is_found() {
    let (mut ledger, [one, other], ids) = room(3);
    ledger.received(one, ids[0], at(1));
    ledger.life(at(4));
    ledger.gap(other, 1);
    ledger.received(other, ids[0], at(5));
    assert_eq!(kind(&ledger), "Twice");

    let (mut ledger, [one, other], ids) = room(3);
    ledger.received(one, ids[0], at(1));
    ledger.received(other, ids[1], at(1));
    assert_eq!(kind(&ledger), "TwoAtOnce");
}

async fn wrong_answers_to_senders_are_found() {
    let (mut ledger, [one, _], ids) = room(3);
    ledger.received(one, ids[0], at(1));
    ledger.acknowledged(ids[0], at(2));
    assert_eq!(kind(&ledger), "WrongTime");

    let (mut ledger, _, ids) = room(3);
    ledger.acknowledged(ids[0], at(2));
    ledger.acknowledged(ids[1], at(1));
    assert_eq!(kind(&ledger), "WrongTime", "sent after the other");

    for first in [true, false] {
        let (mut ledger, [one, _], ids) = room(3);
        if first {
            ledger.refused(ids[0]);
        }
        ledger.received(one, ids[0], at(1));
        if !first {
            ledger.refused(ids[0]);
        }
        assert_eq!(kind(&ledger), "Refused");
    }

    let (mut ledger, [one, _], _) = room(3);
    ledger.received(one, Id { sender: 1, number: 3 }, at(1));
    assert_eq!(kind(&ledger), "Invented");
}

async fn a_killed_reader_begins_a_new_record() {
    let (mut ledger, [one, other], ids) = room(4);
    both_get(&mut ledger, [one, other], &ids, &[1]);
    ledger.received(one, ids[1], at(2));
    ledger.begin_anew(other, at(2));
    both_get(&mut ledger, [one, other], &ids, &[3]);
    ledger.check(&at(3));
    assert_eq!(ledger.violation, None);

    // Gaps of the earlier record do not count in the new one.
    ledger.life(at(4));
    ledger.gap(one, 1);
    ledger.gap(other, 1);
    let next = [ledger.sending(1)];
    both_get(&mut ledger, [one, other], &[next[0]; 5], &[5]);
    assert_eq!(ledger.violation, None);
    ledger.begin_anew(other, at(5));
    ledger.life(at(6));
    ledger.gap(other, 1);
    assert_eq!(ledger.violation, None);
    ledger.begin_anew(other, at(5));
    ledger.received(other, ids[3], at(7));
    assert_eq!(kind(&ledger), "UnflaggedGap");

    // Messages after its beginning belong to it.
    let (mut ledger, [one, other], ids) = room(4);
    ledger.begin_anew(other, at(1));
    gets(&mut ledger, one, &ids, &[1, 2, 3]);
    gets(&mut ledger, other, &ids, &[3]);
    ledger.check(&at(3));
    assert_eq!(kind(&ledger), "Loss");
}

async fn a_life_has_one_epoch() {
    let (mut ledger, [one, other], _) = room(1);
    for reader in [one, other, one] {
        ledger.opened(reader, "first");
    }
    // One reader is there before the other, and a reader may miss a whole life.
    ledger.life(at(2));
    ledger.opened(one, "second");
    ledger.opened(other, "first");
    ledger.life(at(3));
    ledger.opened(one, "third");
    ledger.opened(other, "third");
    assert_eq!(ledger.violation, None);
    ledger.opened(other, "second");
    assert_eq!(kind(&ledger), "OldEpoch");

    let (mut ledger, [one, other], _) = room(1);
    ledger.opened(one, "first");
    ledger.opened(other, "second");
    assert_eq!(kind(&ledger), "NewEpoch");
}

async fn a_new_epoch_without_an_excuse_is_found() {
    // A reader has a message that the next reader lacks, after the return of Redis.
    let (mut ledger, [one, other], ids) = room(4);
    both_get(&mut ledger, [one, other], &ids, &[1]);
    gets(&mut ledger, one, &ids, &[2, 3]);
    gets(&mut ledger, other, &ids, &[3]);
    ledger.check(&at(3));
    assert_eq!(kind(&ledger), "Loss");
    // A message that it still has comes again.
    let (mut ledger, readers, ids) = room(4);
    both_get(&mut ledger, readers, &ids, &[1, 2]);
    ledger.life(at(3));
    ledger.gap(readers[0], 1);
    gets(&mut ledger, readers[0], &ids, &[1]);
    assert_eq!(kind(&ledger), "Repeat");
}

async fn a_changed_text_is_found() {
    let id = Id { sender: 3, number: 4 };
    for padding in [0, 1, 70_000] {
        let text = id.text(padding);
        assert_eq!(Id::parse(&text), Some(id));
        assert_eq!(Id::parse(&format!("{text}x")), None);
        assert_eq!(Id::parse(&text[..text.len() - 1]), None);
    }
    assert_eq!(Id::parse("hey"), None);
}
