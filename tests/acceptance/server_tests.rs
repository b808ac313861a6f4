//! The server, over gRPC.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use tokio::task::JoinSet;

use super::room::{self, Message, Room, tag};
use super::{Outcome, Test};

pub fn all() -> Vec<Test> {
    crate::tests![
        test_server_send_returns_the_time,
        test_server_reader_gets_the_message,
        test_server_any_text_comes_unchanged,
        test_server_readers_see_one_order,
        test_server_older_messages_are_not_delivered,
        test_server_concurrent_senders_make_one_order,
        test_server_many_calls_are_handled_at_once,
        test_server_a_reader_that_leaves_disturbs_nobody,
    ]
    .into()
}

/// Fails unless the time is close to now. The clocks of two machines may differ a little.
pub fn ensure_now(time: SystemTime) -> Outcome {
    let now = SystemTime::now();
    let distance = now.duration_since(time).unwrap_or_else(|error| error.duration());
    ensure!(distance < Duration::from_secs(10), "sendTime is {distance:?} away from the present");
    Ok(())
}

/// Fails unless times strictly increase in the order of the stream, no message comes twice, and the
/// messages of each sender are in their order.
pub fn ensure_order(order: &[Message], sent: &[Vec<Message>]) -> Outcome {
    for pair in order.windows(2) {
        ensure!(pair[0].time < pair[1].time, "the times do not increase: {pair:?}");
    }
    ensure!(order.iter().collect::<HashSet<_>>().len() == order.len(), "a message came twice");
    for mine in sent {
        let places: Option<Vec<usize>> =
            mine.iter().map(|message| order.iter().position(|other| other == message)).collect();
        let places = places.context("a message is not in the stream with the sendTime that its sender was told")?;
        ensure!(places.is_sorted(), "the messages of {} are not in the order in which it sent them", mine[0].author);
    }
    Ok(())
}

async fn test_server_send_returns_the_time(room: Room) -> Outcome {
    // Decoding checks the type: another type than Timestamp would not give a time close to now.
    ensure_now(room.server.send(&tag(), "what time is it?").await?.time)
}

async fn test_server_reader_gets_the_message(room: Room) -> Outcome {
    let tag = tag();
    let mut reader = room.server.reader(&tag).await?;
    let sent = room.server.send(&tag, "hey").await?;
    let seen = reader.take(1).await?;
    ensure!(seen == [sent.clone()], "sent {sent:?}, seen {seen:?}");
    Ok(())
}

async fn test_server_any_text_comes_unchanged(room: Room) -> Outcome {
    let tag = tag();
    let mut reader = room.server.reader(&tag).await?;
    let long = "я".repeat(50_000);
    for text in ["", "Привет, мир!", "👋🏽 family: 👨‍👩‍👧", "\0 \u{1} \t \r\n \u{7f} \u{2028}", "\"quotes\" and \\", &long]
    {
        let sent = room.server.send(&format!("{tag} Вася \"🦀\""), text).await?;
        let seen = reader.take(1).await?;
        ensure!(seen == [sent], "{text:?} became {seen:?}");
    }
    Ok(())
}

async fn test_server_readers_see_one_order(room: Room) -> Outcome {
    let tag = tag();
    let (mut first, mut second) = (room.server.reader(&tag).await?, room.server.reader(&tag).await?);
    let mut sent = Vec::new();
    for number in 0..20 {
        sent.push(room.server.send(&tag, &number.to_string()).await?);
    }
    ensure!(first.take(sent.len()).await? == sent, "the first reader does not see what was sent");
    ensure!(second.take(sent.len()).await? == sent, "the second reader does not see what was sent");
    ensure_order(&sent, &[])
}

async fn test_server_older_messages_are_not_delivered(room: Room) -> Outcome {
    let tag = tag();
    room.server.send(&tag, "before").await?;
    let mut reader = room.server.reader(&tag).await?;
    let sent = room.server.send(&tag, "after").await?;
    let seen = reader.take(1).await?;
    ensure!(seen == [sent], "the first message that the reader gets is {seen:?}");
    Ok(())
}

async fn test_server_concurrent_senders_make_one_order(room: Room) -> Outcome {
    const SENDERS: usize = 8;
    const EACH: usize = 50;
    let tag = tag();
    let (mut first, mut second) = (room.server.reader(&tag).await?, room.server.reader(&tag).await?);
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let (author, mut grpc) = (format!("{tag} {sender}"), room.server.connect().await?);
        senders.spawn(async move {
            let mut sent = Vec::new();
            for number in 0..EACH {
                sent.push(room::send(&mut grpc, &author, &number.to_string()).await?);
            }
            anyhow::Ok(sent)
        });
    }
    let mut sent = Vec::new();
    while let Some(sender) = senders.join_next().await {
        sent.push(sender??);
    }
    let order = first.take(SENDERS * EACH).await?;
    ensure!(second.take(SENDERS * EACH).await? == order, "two readers see different orders");
    ensure_order(&order, &sent)
}

async fn test_server_many_calls_are_handled_at_once(room: Room) -> Outcome {
    let tag = tag();
    // No more streams than these, so that a server with ten threads and two clients passes.
    let mut readers = Vec::new();
    for _ in 0..4 {
        readers.push(room.server.reader(&tag).await?);
    }
    let grpc = room.server.connect().await?;
    let mut calls = JoinSet::new();
    for number in 0..100 {
        let (author, mut grpc) = (tag.clone(), grpc.clone());
        calls.spawn(async move { room::send(&mut grpc, &author, &number.to_string()).await });
    }
    let mut sent = Vec::new();
    while let Some(call) = calls.join_next().await {
        sent.push(call??);
    }
    sent.sort_by_key(|message| message.time);
    for reader in &mut readers {
        ensure!(
            reader.take(sent.len()).await? == sent,
            "a reader does not see the messages in the order of their times"
        );
    }
    Ok(())
}

async fn test_server_a_reader_that_leaves_disturbs_nobody(room: Room) -> Outcome {
    let tag = tag();
    let mut stays = room.server.reader(&tag).await?;
    let mut sent = Vec::new();
    for number in 0..10 {
        let mut leaves = room.server.reader(&tag).await?;
        sent.push(room.server.send(&tag, &number.to_string()).await?);
        ensure!(leaves.take(1).await? == sent[number..], "a new reader sees something else than the next message");
    }
    ensure!(stays.take(sent.len()).await? == sent, "the reader that stays does not see all");
    Ok(())
}
