//! Properties of any body of `POST /sendMessage`.

use axum::response::IntoResponse;
use futures_util::FutureExt;
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::problem::Problem;
use super::send_message_body;
use crate::properties::assert_sentence;

/// Errors of a JSON reader that reads unknown fields too. Our reader skips such fields, and accepts
/// a number that is too large, half of a surrogate pair, or deep nesting in them.
const ERRORS_IN_SKIPPED_FIELDS: [&str; 4] =
    ["number out of range", "lone leading surrogate", "unexpected end of hex escape", "recursion limit exceeded"];

/// Our reader and `serde_json`'s general one agree on author and text, and an accepted message is
/// the same after being printed and read again. A refused body gets a problem document that says
/// what is wrong.
pub fn message_body(input: &[u8]) {
    let value = serde_json::from_slice::<Value>(input);
    let field = |name| value.as_ref().ok().and_then(|value| value.as_object()?.get(name)?.as_str());
    match send_message_body::parse(input) {
        Ok(message) => {
            match &value {
                Ok(_) => {
                    assert_eq!(field("author"), Some(&*message.author));
                    assert_eq!(field("text"), Some(&*message.text));
                }
                Err(error) => {
                    assert!(
                        ERRORS_IN_SKIPPED_FIELDS.iter().any(|reason| error.to_string().contains(reason)),
                        "{error}"
                    );
                }
            }
            let printed = json!({"author": message.author, "text": message.text}).to_string();
            assert_eq!(send_message_body::parse(printed.as_bytes()).expect("a printed message"), message);
        }
        Err(problem) => {
            let detail = detail(problem);
            if detail.contains("duplicate field") {
                return;
            }
            assert!(field("author").is_none() || field("text").is_none(), "{detail}");
            match &value {
                Ok(Value::Object(_)) => {
                    let wrong = if field("author").is_none() { "field author" } else { "field text" };
                    assert!(detail.contains(wrong), "{detail}");
                }
                Ok(_) => assert!(detail.contains("not an object"), "{detail}"),
                Err(_) => assert!(
                    ["not valid JSON", "not UTF-8", "empty", "field", "not an object"]
                        .iter()
                        .any(|reason| detail.contains(reason)),
                    "{detail}"
                ),
            }
        }
    }
}

/// The `detail` that a caller gets.
fn detail(problem: Problem) -> String {
    let response = problem.into_response();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let body = response.into_body().collect().now_or_never().expect("no waiting").expect("a body").to_bytes();
    let body: Value = serde_json::from_slice(&body).expect("a problem document");
    let detail = body["detail"].as_str().expect("a detail").to_owned();
    assert_sentence(&detail);
    detail
}
