//! Properties of the metadata and the body of a call, for any bytes.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use tonic::{Code, Status};

use super::deadline::timeout;
use super::metadata;
use super::request::PartialRequest;
use crate::properties::assert_sentence;
use crate::proto::{EPOCH, IDEMPOTENCY_KEY, RESUME_AFTER, SendMessageRequest, WAITING};
use crate::room::Start;

/// Metadata is read as it is written, or the refusal names it. Each line of the input is a header,
/// `name: value`.
pub fn metadata(input: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        let Some(colon) = line.windows(2).position(|pair| pair == b": ") else { continue };
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(&line[colon + 2..]))
        {
            headers.append(name, value);
        }
    }
    let header = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    let text = |name: &str| header(name).and_then(|value| std::str::from_utf8(value).ok());

    match metadata::start(&headers) {
        Ok(Start::Now) => assert!(header(RESUME_AFTER).is_none() && header(WAITING).is_none()),
        Ok(Start::Ago(waiting)) => {
            let digits = text(WAITING).expect("digits");
            assert!(digits.bytes().all(|byte| byte.is_ascii_digit()), "{digits:?}");
            assert_eq!(digits.parse(), Ok(waiting.as_millis()));
            assert!(waiting.as_millis() <= 999_999_999_999);
            assert!(header(RESUME_AFTER).is_none());
        }
        Ok(Start::After(epoch, after)) => {
            assert_eq!(Some(&*epoch.to_string()), text(EPOCH));
            let written = text(RESUME_AFTER).expect("a time").trim_end_matches('Z');
            assert!(after.to_string().starts_with(written), "{written} became {after}");
        }
        Err(status) => assert_refusal(&status, &[RESUME_AFTER, EPOCH, WAITING]),
    }
    match metadata::epoch(&headers) {
        Ok(epoch) => assert_eq!(epoch.map(|epoch| epoch.to_string()).as_deref(), text(EPOCH)),
        Err(status) => assert_refusal(&status, &[EPOCH]),
    }
    match metadata::idempotency_key(&headers) {
        Ok(None) => assert!(header(IDEMPOTENCY_KEY).is_none()),
        Ok(Some(key)) => {
            assert_eq!(Some(key), text(IDEMPOTENCY_KEY));
            assert!((1..=128).contains(&key.len()) && key.bytes().all(|byte| (b'!'..=b'~').contains(&byte)), "{key:?}");
        }
        Err(status) => assert_refusal(&status, &[IDEMPOTENCY_KEY]),
    }
    match timeout(&headers) {
        Ok(None) => assert!(header("grpc-timeout").is_none()),
        Ok(Some(time)) => assert_timeout(time, text("grpc-timeout").expect("a timeout")),
        Err(status) => assert_refusal(&status, &["grpc-timeout"]),
    }
}

fn assert_refusal(status: &Status, names: &[&str]) {
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_sentence(status.message());
    assert!(names.iter().any(|name| status.message().contains(name)), "{status}");
    assert!(status.add_header(&mut HeaderMap::new()).is_ok(), "{status}");
}

fn assert_timeout(time: Duration, text: &str) {
    let (digits, unit) = text.split_at(text.len() - 1);
    assert!(matches!(digits.len(), 1..=8) && digits.bytes().all(|byte| byte.is_ascii_digit()), "{text:?}");
    let (_, of_unit) = [
        ("H", 3_600_000_000_000),
        ("M", 60_000_000_000),
        ("S", 1_000_000_000),
        ("m", 1_000_000),
        ("u", 1_000),
        ("n", 1_u128),
    ]
    .into_iter()
    .find(|(name, _)| *name == unit)
    .expect("a unit");
    assert_eq!(time.as_nanos(), digits.parse::<u128>().expect("a number") * of_unit, "{text:?}");
}

/// A request gives the same message or the same refusal however it is cut into pieces, and never
/// more than the limit is kept. The input is the limit, a byte that says how to cut, and the
/// request.
pub fn request(input: &[u8]) {
    let Some((&[limit, cut], body)) = input.split_first_chunk() else { return };
    let limit = usize::from(limit);
    // The pieces have 1 to 16 bytes and 0 to 15 bytes in turn.
    let (one, other) = (usize::from(cut >> 4) + 1, usize::from(cut & 15));
    let mut headers = HeaderMap::new();
    let whole = received(&mut headers, limit, std::iter::once(body));
    let mut rest = body;
    let mut turn = false;
    let pieces = std::iter::from_fn(|| {
        turn = !turn;
        let (piece, left) = rest.split_at(if turn { one } else { other }.min(rest.len()));
        rest = left;
        (!piece.is_empty() || !rest.is_empty()).then_some(piece)
    });
    let cut = received(&mut headers, limit, pieces);
    match (&whole, &cut) {
        (Ok(whole), Ok(cut)) => assert_eq!(whole, cut),
        (Err(whole), Err(cut)) => assert_eq!((whole.code(), whole.message()), (cut.code(), cut.message())),
        _ => panic!("whole {whole:?}, in pieces {cut:?}"),
    }
    if let Err(status) = &whole {
        assert_sentence(status.message());
    }
    assert_eq!(whole.as_ref().map_err(Status::code), expected(body, limit).as_ref().map_err(|code| *code));
}

fn received<'a>(
    headers: &mut HeaderMap,
    limit: usize,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> Result<SendMessageRequest, Status> {
    let mut received = PartialRequest::new(headers, limit, "it is");
    let mut length = 0;
    for piece in pieces {
        received.add(Bytes::copy_from_slice(piece))?;
        length += piece.len();
        assert!(length <= 5 + limit, "{length} bytes kept");
    }
    received.message()
}

/// The rules for a whole request, written independently of `proto::frame`.
fn expected(body: &[u8], limit: usize) -> Result<SendMessageRequest, Code> {
    let Some((&[compressed, a, b, c, d], message)) = body.split_first_chunk() else {
        return Err(if body.is_empty() { Code::Unimplemented } else { Code::Internal });
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    match compressed {
        0 if length > limit => Err(Code::ResourceExhausted),
        0 if message.len() > length => Err(Code::Unimplemented),
        0 if message.len() < length => Err(Code::Internal),
        0 => SendMessageRequest::decode(message).map_err(|_| Code::InvalidArgument),
        // The message is compressed, and no header says how.
        _ => Err(Code::Internal),
    }
}
