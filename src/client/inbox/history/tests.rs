use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::proto::ReadMessagesResponse;

const MIB: usize = 1024 * 1024;

fn time(nanos: u64) -> SendTime {
    let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000) + Duration::from_nanos(nanos);
    SendTime::default().next(now).expect("a time")
}

/// Adds a message, and returns its event.
fn push(history: &History, nanos: u64, text: &str) -> String {
    let send_time = Some(time(nanos).into());
    let mut json = MessageJson::default();
    json.write(&ReadMessagesResponse { author: "alice".to_owned(), text: text.to_owned(), send_time });
    history.push(&json);
    let json = serde_json::json!({"author": "alice", "text": text, "sendTime": time(nanos).to_string()});
    let text = serde_json::to_string(&json["text"]).expect("JSON");
    let id = time(nanos);
    format!("id: {id}\ndata: {{\"author\":\"alice\",\"text\":{text},\"sendTime\":\"{id}\"}}\n\n")
}

/// All events that `reader` can read now, and the number of gaps before them.
async fn rest(reader: &mut HistoryReader) -> (String, usize) {
    let (mut all, mut gaps) = (Vec::new(), 0);
    loop {
        tokio::select! {
            biased;
            part = reader.next() => match part {
                HistoryPart::Events(events) => all.extend_from_slice(&events),
                HistoryPart::Gap => {
                    gaps += 1;
                    all.clear();
                }
            },
            () = std::future::ready(()) => return (String::from_utf8(all).expect("text"), gaps),
        }
    }
}

#[tokio::test]
async fn a_page_resumes_after_any_event_that_is_kept() {
    let history = Arc::new(History::new(64 * MIB));
    history.begin(time(1));
    let mut all = vec![(time(1), format!("id: {}\n\n", time(1)))];
    for number in 2..600 {
        if number == 300 {
            // The next server has a clock that is behind.
            history.note_gap(Some(time(2)));
            all.push((time(2), format!("id: {}\nevent: gap\ndata: messages may be missing here\n\n", time(2))));
            continue;
        }
        // Some messages fill most of a segment, some more than one.
        let size = [0, 3, 40_000, 0, 0, 0, 90_000][number % 7];
        let hostile = format!("id: {}\n\ndata: x{}", time(3003), "x".repeat(size));
        let nanos = number as u64 * 1001 - if number > 300 { 200_000 } else { 0 };
        all.push((time(nanos), push(&history, nanos, &hostile)));
    }
    let (everything, gaps) = rest(&mut history.read(None)).await;
    assert_eq!((everything == all.iter().map(|(_, event)| event.as_str()).collect::<String>(), gaps), (true, 0));
    for (index, (id, _)) in all.iter().enumerate() {
        let (rest, gaps) = rest(&mut history.read(Some(&id.to_string()))).await;
        let expected: String = all[index + 1..].iter().map(|(_, event)| event.as_str()).collect();
        assert_eq!((rest == expected, gaps), (true, 0), "after {index}");
    }
}

#[tokio::test]
async fn a_page_with_an_unknown_id_gets_one_gap() {
    let history = Arc::new(History::new(MIB));
    assert_eq!(rest(&mut history.read(None)).await, (String::new(), 0));
    for id in ["", "now", &time(5).to_string()] {
        assert_eq!(rest(&mut history.read(Some(id))).await, (String::new(), 1), "{id}");
    }
    let event = push(&history, 10, "hey");
    for id in ["", "now", &time(5).to_string(), &time(9).to_string(), &time(12).to_string()] {
        let mut reader = history.read(Some(id));
        assert_eq!(rest(&mut reader).await, (event.clone(), 1), "{id}");
        assert_eq!(rest(&mut reader).await, (String::new(), 0));
    }
}

#[tokio::test]
async fn a_search_for_an_event_is_bounded() {
    let history = Arc::new(History::new(64 * MIB));
    let text = "x".repeat(SEGMENT / 3);
    // The clock jumps back and forth, so each segment may contain any time in between.
    for number in 1..200 {
        push(&history, number * 1001, &text);
        push(&history, (1_000_000 - number) * 1001, &text);
    }
    let nowhere = time(500_000 * 1001).to_string();
    let search = Search::new(&history.lock(), &nowhere).expect("an id");
    assert_eq!(search.closed.len(), MAX_SEARCHED);
    let (everything, _) = rest(&mut history.read(None)).await;
    assert!(rest(&mut history.read(Some(&nowhere))).await == (everything, 1), "from the oldest, with a gap");
}

#[tokio::test]
async fn keeps_no_more_than_the_limit_and_reports_the_gap() {
    let history = Arc::new(History::new(MIB));
    let mut slow = history.read(None);
    let mut last = String::new();
    let first = push(&history, 1, "first");
    for number in 2..10_000 {
        let size = if number % 500 == 0 { 300_000 } else { 300 };
        last = push(&history, number * 1001, &"x".repeat(size));
        assert!(history.lock().bytes() <= MIB);
    }
    let (kept, gaps) = rest(&mut slow).await;
    assert!(gaps == 1 && kept.len() > MIB / 2 && kept.len() <= MIB, "{gaps}, {}", kept.len());
    assert!(!kept.contains(&first) && kept.starts_with("id: ") && kept.ends_with(&last));
    assert_eq!(rest(&mut history.read(Some(&time(1).to_string()))).await, (kept, 1));
    // A message over the limit still reaches the pages that are there.
    let mut page = history.read(Some(&time(9_999 * 1001).to_string()));
    let large = push(&history, 10_000 * 1001, &"x".repeat(2 * MIB));
    assert!(rest(&mut page).await == (large, 0));
}

#[tokio::test]
async fn pages_at_one_position_share_one_copy() {
    let history = Arc::new(History::new(MIB));
    push(&history, 1, "one");
    let (mut one, mut other) = (history.read(None), history.read(None));
    let (HistoryPart::Events(first), HistoryPart::Events(second)) = (one.next().await, other.next().await) else {
        panic!()
    };
    assert_eq!(first.as_ptr(), second.as_ptr());
    push(&history, 1001, "two");
    let (HistoryPart::Events(third), HistoryPart::Events(fourth)) = (one.next().await, history.read(None).next().await)
    else {
        panic!()
    };
    assert!(third.len() < fourth.len(), "and the next event is in the next copy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_event_is_missed_between_a_read_and_a_wait() {
    const PAGES: usize = 3;
    let history = Arc::new(History::new(MIB));
    let (sender, mut parts) = tokio::sync::mpsc::channel(PAGES);
    for _ in 0..PAGES {
        let (mut reader, sender) = (history.read(None), sender.clone());
        tokio::spawn(async move {
            loop {
                let part = reader.next().await;
                if sender.send(part).await.is_err() {
                    return;
                }
            }
        });
    }
    // Each event arrives right after all pages have read the one before, while they check for
    // more or start to wait.
    for number in 0..20_000 {
        let event = HistoryPart::Events(push(&history, number * 1001 + 1, "hey").into());
        for _ in 0..PAGES {
            let part = tokio::time::timeout(Duration::from_secs(30), parts.recv()).await;
            assert_eq!(part.expect("a page missed an event"), Some(event.clone()), "{number}");
        }
    }
}
