use prost_types::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::proto::ReadMessagesResponse;

fn message(author: &str, text: &str, nanos: i32) -> MessageJson {
    let send_time = Some(Timestamp { seconds: 1_758_365_922, nanos });
    json_of(&ReadMessagesResponse { author: author.to_owned(), text: text.to_owned(), send_time })
}

fn json_of(message: &ReadMessagesResponse) -> MessageJson {
    let mut json = MessageJson::default();
    json.write(message);
    json
}

fn flush(postbox: &Postbox) -> Value {
    serde_json::from_slice(&postbox.flush().pieces.concat()).expect("JSON")
}

#[test]
fn a_flush_is_exactly_the_array_that_the_interface_asks_for() {
    let postbox = Postbox::new(usize::MAX);
    assert_eq!(postbox.flush().pieces.concat(), b"[]");
    postbox.push(&message("alice", "hey", 665_193_557));
    postbox.push(&message("", "", 1));
    assert_eq!(
        String::from_utf8(postbox.flush().pieces.concat()).expect("text"),
        r#"[{"author":"alice","text":"hey","sendTime":"2025-09-20T10:58:42.665193557Z"},{"author":"","text":"","sendTime":"2025-09-20T10:58:42.000000001Z"}]"#
    );
    assert_eq!(postbox.flush().pieces.concat(), b"[]");
}

#[test]
fn any_text_comes_back_unchanged() {
    let postbox = Postbox::new(usize::MAX);
    let texts =
        ["\0\u{1}\u{1f}\u{7f}", "\"quoted\" \\ and / \n\r\t", "Привет 👋🏽 \u{2028}\u{202e}", &"я".repeat(MAX_CHUNK)];
    for text in texts {
        postbox.push(&message(text, text, 1));
    }
    let expected =
        texts.map(|text| json!({"author": text, "text": text, "sendTime": "2025-09-20T10:58:42.000000001Z"}));
    assert_eq!(flush(&postbox), json!(expected));
}

#[test]
fn a_chunk_is_no_larger_than_all_chunks_before_it() {
    let mut contents = Contents::default();
    for number in 0..20_000 {
        contents.push(&message("author", "text", number));
        let before: usize = contents.full.iter().map(|chunk| chunk.json.len()).sum();
        let most = before.clamp(MIN_CHUNK, MAX_CHUNK);
        assert_eq!((contents.open.capacity(), before + contents.open.len()), (most, contents.bytes));
    }
}

#[test]
fn chunks_join_into_one_array() {
    let postbox = Postbox::new(usize::MAX);
    for i in 0..20_000 {
        postbox.push(&message("author", &i.to_string(), i));
    }
    let pieces = postbox.flush().pieces;
    assert!(pieces.len() > 5, "several pieces");
    assert!(pieces.iter().all(|piece| piece.len() <= MAX_CHUNK));
    let all: Vec<Value> = serde_json::from_slice(&pieces.concat()).expect("JSON");
    assert_eq!(all.len(), 20_000);
    assert!(all.iter().enumerate().all(|(i, message)| message["text"].as_str() == Some(&i.to_string())));
}

#[test]
fn the_oldest_messages_are_dropped_and_counted() {
    const LIMIT: usize = 1024 * 1024;
    let postbox = Postbox::new(LIMIT);
    // Some texts take many chunks, or are as long as the limit, or longer.
    for (size, count) in [(10, 30_000), (MAX_CHUNK * 2, 10), (700, 5_000), (LIMIT, 3), (2 * LIMIT, 2), (1, 100)] {
        for number in 0..count {
            postbox.push(&message(&number.to_string(), &"x".repeat(size), 1));
        }
        let Flushed { pieces, dropped, .. } = postbox.flush();
        let json = pieces.concat();
        assert!(json.len() <= LIMIT + MAX_CHUNK + 2 || size >= LIMIT, "{size}: {}", json.len());
        let kept: Vec<Value> = serde_json::from_slice(&json).expect("JSON");
        assert_eq!(usize::try_from(dropped).expect("small") + kept.len(), usize::try_from(count).expect("small"));
        for (message, number) in kept.iter().rev().zip((0..count).rev()) {
            assert_eq!(message["author"], number.to_string(), "the newest messages, without a hole");
        }
    }
    assert_eq!(postbox.flush().pieces.concat(), b"[]");
}

#[test]
fn answers_on_their_way_count_too() {
    const LIMIT: usize = 1024 * 1024;
    let postbox = Postbox::new(LIMIT);
    let fill = || (0..1_500).for_each(|number| postbox.push(&message(&number.to_string(), &"x".repeat(500), 1)));
    fill();
    let stalled = postbox.flush();
    assert_eq!(stalled.dropped, 0);
    fill();
    let (first, second) = (stalled.pieces.concat().len(), postbox.flush());
    assert!(second.dropped > 0 && first + second.pieces.concat().len() <= LIMIT + MAX_CHUNK);
    drop((stalled, second));
    fill();
    assert_eq!(postbox.flush().dropped, 0);
}

#[test]
fn gaps_are_reported_once() {
    let postbox = Postbox::new(usize::MAX);
    postbox.note_gap();
    postbox.note_gap();
    let Flushed { pieces, gaps, dropped, .. } = postbox.flush();
    assert_eq!((pieces.concat().as_slice(), gaps, dropped), (&b"[]"[..], 2, 0));
    assert_eq!(postbox.flush().gaps, 0);
}

#[test]
fn a_message_without_a_send_time_still_has_the_field() {
    let postbox = Postbox::new(usize::MAX);
    postbox.push(&json_of(&ReadMessagesResponse::default()));
    assert_eq!(flush(&postbox)[0]["sendTime"], "1970-01-01T00:00:00.000000000Z");
}
