//! The body of `POST /sendMessage`: `{"author": "...", "text": "..."}`.

use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;

use super::problem::Problem;
use crate::proto::SendMessageRequest;

/// The two fields, of any type, so that an error can name the wrong one and its type. Other fields
/// are ignored.
#[derive(Deserialize)]
struct Fields {
    author: Option<Value>,
    text: Option<Value>,
}

/// Refuses a body that is compressed or otherwise encoded.
///
/// # Errors
/// 415.
pub(super) fn refuse_encoded(headers: &HeaderMap) -> Result<(), Problem> {
    for encoding in headers.get_all(header::CONTENT_ENCODING) {
        if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") {
            let encoding = encoding.to_str().unwrap_or("not text");
            let detail = format!("the body must not be encoded, but Content-Encoding is {encoding}");
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
    }
    Ok(())
}

/// Reads a message from JSON under any `Content-Type`: `curl -d` declares a form.
///
/// # Errors
/// 400, which says what is wrong and where.
pub(super) fn parse(body: &[u8]) -> Result<SendMessageRequest, Problem> {
    if body.is_empty() {
        return Err(Problem::bad_request(r#"the body is empty, expected {"author": "...", "text": "..."}"#));
    }
    let json = std::str::from_utf8(body).map_err(|error| {
        Problem::bad_request(format!("the body is not UTF-8: invalid byte at {}", error.valid_up_to()))
    })?;
    // serde also accepts an array of the fields in order.
    if !json.trim_start().starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(json).is_ok() {
        return Err(Problem::bad_request("the body is JSON, but not an object with the fields author and text"));
    }
    let fields: Fields = serde_json::from_str(json)
        .map_err(|error| Problem::bad_request(format!("the body is not valid JSON: {error}")))?;
    Ok(SendMessageRequest { author: string("author", fields.author)?, text: string("text", fields.text)? })
}

fn string(name: &str, value: Option<Value>) -> Result<String, Problem> {
    let found = match value {
        Some(Value::String(text)) => return Ok(text),
        None | Some(Value::Null) => {
            return Err(Problem::bad_request(format!("the field {name} is missing or null")));
        }
        Some(Value::Bool(_)) => "a boolean",
        Some(Value::Number(_)) => "a number",
        Some(Value::Array(_)) => "an array",
        Some(Value::Object(_)) => "an object",
    };
    Err(Problem::bad_request(format!("the field {name} must be a string, not {found}")))
}
