//! Strict parsers for the answers to a send and to a flush.

use anyhow::{Context, Result, ensure};

use crate::text;

/// The author of all messages.
pub const AUTHOR: &str = "bench";

/// A time as text, which is compared byte by byte.
pub type Time = [u8; 30];

/// One message: its time, its sender, and its number among the messages of that sender. Messages
/// are ordered by their times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Message {
    pub time: Time,
    pub sender: usize,
    pub number: u64,
}

/// Parses the answer to `POST /sendMessage`.
pub fn send_time(body: &[u8]) -> Result<Time> {
    let (time, rest) = time(body.strip_prefix(br#"{"sendTime":""#).context("no sendTime")?)?;
    ensure!(rest == br#""}"#, "more than a sendTime");
    Ok(time)
}

/// Parses the answer to a flush, in which every text has `size` bytes. Each message must have
/// exactly the three fields, and the times must increase.
pub fn messages(body: &[u8], size: usize) -> Result<Vec<Message>> {
    let (mut messages, mut rest) = (Vec::<Message>::new(), body);
    if rest == b"[]" {
        return Ok(messages);
    }
    while rest != b"]" {
        let before = if messages.is_empty() { "[" } else { "," };
        let place = || format!("message {} is not as it should be", messages.len());
        let (message, end) = message(rest, before, size).with_context(place)?;
        let in_order = messages.last().is_none_or(|last| last.time < message.time);
        ensure!(in_order, "message {} is out of order", messages.len());
        messages.push(message);
        rest = end;
    }
    Ok(messages)
}

fn message<'a>(input: &'a [u8], before: &str, size: usize) -> Result<(Message, &'a [u8])> {
    let rest = input.strip_prefix(before.as_bytes()).context("no bracket or comma")?;
    let rest =
        rest.strip_prefix(br#"{"author":"bench","text":""#).context("no author, or another one")?;
    let (text, rest) = rest.split_at_checked(size).context("a text that is cut")?;
    let (time, rest) = time(rest.strip_prefix(br#"","sendTime":""#).context("no sendTime")?)?;
    let rest = rest.strip_prefix(br#""}"#).context("more than the three fields")?;
    let (sender, number, _) = text::read(text).context("a text that nobody has sent")?;
    Ok((Message { time, sender, number }, rest))
}

fn time(input: &[u8]) -> Result<(Time, &[u8])> {
    let (time, rest) = input.split_first_chunk().context("a time that is cut")?;
    ensure!(time[10] == b'T' && time[29] == b'Z', "not a time with nine digits");
    Ok((*time, rest))
}
