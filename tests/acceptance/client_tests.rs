//! The clients, over HTTP.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep};

use super::room::{Message, Room, tag};
use super::server_tests::{ensure_now, ensure_order};
use super::{Outcome, Test};

pub fn all() -> Vec<Test> {
    crate::tests![
        test_client_send_returns_the_time,
        test_client_own_messages_come_back,
        test_client_the_other_client_gets_the_messages,
        test_client_flush_gives_all_and_empties,
        test_client_flush_of_nothing_is_an_empty_array,
        test_client_body_is_json_whatever_its_type,
        test_client_keys_are_exact,
        test_client_any_text_comes_unchanged,
        test_client_gets_what_others_send_by_grpc,
        test_client_grpc_readers_get_what_is_sent_by_http,
        test_client_both_see_one_order,
        test_client_concurrent_flushes_share_nothing,
    ]
    .into()
}

async fn test_client_send_returns_the_time(room: Room) -> Outcome {
    for client in &room.clients {
        // Every send checks that the time is RFC 3339 and the only key.
        ensure_now(client.send(&tag(), "what time is it?").await?.time)?;
    }
    Ok(())
}

async fn test_client_own_messages_come_back(room: Room) -> Outcome {
    for client in &room.clients {
        let tag = tag();
        let sent = client.send(&tag, "to myself").await?;
        let seen = client.collect(&tag, 1).await?;
        ensure!(seen == [sent], "the client's own message comes back as {seen:?}");
    }
    Ok(())
}

async fn test_client_the_other_client_gets_the_messages(room: Room) -> Outcome {
    let [first, second] = &room.clients;
    for (from, to) in [(first, second), (second, first)] {
        let tag = tag();
        let sent = from.send(&tag, "hey").await?;
        let seen = to.collect(&tag, 1).await?;
        ensure!(seen == [sent], "the other client gets {seen:?}");
    }
    Ok(())
}

async fn test_client_flush_gives_all_and_empties(room: Room) -> Outcome {
    let ([client, other], tag) = (&room.clients, tag());
    let mut sent = Vec::new();
    for number in 0..20 {
        sent.push(client.send(&tag, &number.to_string()).await?);
    }
    ensure!(client.collect(&tag, sent.len()).await? == sent, "the flushes do not give what was sent");
    ensure!(client.flush().await?.iter().all(|message| message.author != tag), "a message came twice");
    ensure!(other.collect(&tag, sent.len()).await? == sent, "a flush of one client has emptied the other");
    Ok(())
}

async fn test_client_flush_of_nothing_is_an_empty_array(room: Room) -> Outcome {
    // The last messages of other tests may still arrive, and other people may use the room.
    let end = Instant::now() + Duration::from_secs(10);
    for client in &room.clients {
        while !client.flush().await?.is_empty() {
            ensure!(Instant::now() < end, "no flush is empty, though nobody sends");
            sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

async fn test_client_body_is_json_whatever_its_type(room: Room) -> Outcome {
    let ([client, _], tag) = (&room.clients, tag());
    // curl -d declares every body as a form.
    for content_type in ["application/x-www-form-urlencoded", "application/json", "text/plain"] {
        let body = json!({"author": tag, "text": content_type}).to_string();
        client.post("/sendMessage", content_type, body).await?;
    }
    let seen = client.collect(&tag, 3).await?;
    let texts: Vec<&str> = seen.iter().map(|message| message.text.as_str()).collect();
    ensure!(texts == ["application/x-www-form-urlencoded", "application/json", "text/plain"], "came as {texts:?}");
    Ok(())
}

async fn test_client_keys_are_exact(room: Room) -> Outcome {
    let ([client, _], tag) = (&room.clients, tag());
    let form = "application/x-www-form-urlencoded";
    // An empty text must be there too, although protobuf's own JSON leaves it out.
    let answer = client.post("/sendMessage", form, json!({"author": tag, "text": ""}).to_string()).await?;
    let keys = |json: &Value| json.as_object().map(|object| object.keys().cloned().collect::<Vec<_>>());
    ensure!(keys(&answer) == Some(vec!["sendTime".to_owned()]), "the answer to a send is {answer}");
    for _ in 0..500 {
        let messages = client.post("/getAndFlushMessages", form, String::new()).await?;
        let messages = messages.as_array().context("a flush answers no array")?;
        if let Some(message) = messages.iter().find(|message| message["author"] == tag.as_str()) {
            let expected = json!({"author": tag, "text": "", "sendTime": answer["sendTime"]});
            ensure!(*message == expected, "{message} is not {expected}");
            return Ok(());
        }
        sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("the message never came")
}

async fn test_client_any_text_comes_unchanged(room: Room) -> Outcome {
    let ([client, other], tag) = (&room.clients, tag());
    let long = "я".repeat(50_000);
    let texts = ["", "Привет, мир!", "👋🏽 family: 👨‍👩‍👧", "\0 \u{1} \t \r\n \u{7f} \u{2028}", "\"quotes\" and \\", &long];
    let mut sent = Vec::new();
    for text in texts {
        sent.push(client.send(&format!("{tag} Вася \"🦀\""), text).await?);
    }
    let seen = other.collect(&tag, texts.len()).await?;
    ensure!(seen == sent, "sent {sent:?}, seen {seen:?}");
    Ok(())
}

async fn test_client_gets_what_others_send_by_grpc(room: Room) -> Outcome {
    let tag = tag();
    let sent = room.server.send(&tag, "from a program").await?;
    for client in &room.clients {
        let seen = client.collect(&tag, 1).await?;
        ensure!(seen == [sent.clone()], "sent {sent:?}, seen {seen:?}");
    }
    Ok(())
}

async fn test_client_grpc_readers_get_what_is_sent_by_http(room: Room) -> Outcome {
    let tag = tag();
    let mut reader = room.server.reader(&tag).await?;
    for client in &room.clients {
        let sent = client.send(&tag, "from a person").await?;
        let seen = reader.take(1).await?;
        ensure!(seen == [sent.clone()], "sent {sent:?}, seen {seen:?}");
    }
    Ok(())
}

const SENDERS: usize = 8;
const EACH: usize = 25;

/// Sends from many senders at the same time, half of them through each client.
async fn send_concurrently(room: &Room, tag: &str) -> anyhow::Result<Vec<Vec<Message>>> {
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let (author, client) = (format!("{tag} {sender}"), room.clients[sender % 2].clone());
        senders.spawn(async move {
            let mut sent = Vec::new();
            for number in 0..EACH {
                sent.push(client.send(&author, &number.to_string()).await?);
            }
            anyhow::Ok(sent)
        });
    }
    let mut sent = Vec::new();
    while let Some(sender) = senders.join_next().await {
        sent.push(sender??);
    }
    Ok(sent)
}

async fn test_client_both_see_one_order(room: Room) -> Outcome {
    let tag = tag();
    let sent = send_concurrently(&room, &tag).await?;
    let [first, second] = &room.clients;
    let order = first.collect(&tag, SENDERS * EACH).await?;
    ensure!(second.collect(&tag, SENDERS * EACH).await? == order, "the clients see different orders");
    ensure_order(&order, &sent)
}

async fn test_client_concurrent_flushes_share_nothing(room: Room) -> Outcome {
    let ([client, other], tag) = (&room.clients, tag());
    let send = tokio::spawn({
        let (room, tag) = (room.clone(), tag.clone());
        async move { send_concurrently(&room, &tag).await }
    });
    let mut seen = Vec::new();
    let end = Instant::now() + Duration::from_secs(20);
    while seen.len() < SENDERS * EACH {
        ensure!(Instant::now() < end, "only {} of {} messages came", seen.len(), SENDERS * EACH);
        let (a, b, c, d) = tokio::join!(client.flush(), client.flush(), client.flush(), client.flush());
        let answers = a?.into_iter().chain(b?).chain(c?).chain(d?);
        seen.extend(answers.filter(|message| message.author.starts_with(&tag)));
    }
    let sent = send.await??;
    seen.sort_by_key(|message| message.time);
    ensure_order(&seen, &sent)?;
    ensure!(other.collect(&tag, seen.len()).await? == seen, "the flushes together are not what the other client got");
    Ok(())
}
