//! HTTP calls to a client.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::{Message, soon};

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The `detail` of a problem document, whose other fields are checked.
    pub fn problem(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{:?}", self.body);
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        assert_eq!(problem["title"], self.status.canonical_reason().unwrap());
        problem["detail"].as_str().expect("a detail").to_owned()
    }
}

pub async fn call(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(format!("http://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    // A pool would be tied to the runtime of the test that made it.
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
    let request = request.body(Full::new(body.into())).expect("a request");
    let answer = soon("an HTTP answer", client.request(request)).await.expect("an answer");
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.expect("the whole body").to_bytes();
    Answer { status: parts.status, headers: parts.headers, body }
}

pub async fn post(address: SocketAddr, path: &str, body: impl Into<Bytes>) -> Answer {
    // The content type of `curl -d`.
    call(address, Method::POST, path, &[("content-type", "application/x-www-form-urlencoded")], body).await
}

pub async fn try_send(address: SocketAddr, author: &str, text: &str) -> Answer {
    post(address, "/sendMessage", json!({"author": author, "text": text}).to_string()).await
}

pub async fn send(address: SocketAddr, author: &str, text: &str) -> String {
    let answer = try_send(address, author, text).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    assert_eq!(answer.headers["content-type"], "application/json");
    let json = answer.json();
    assert_eq!(json.as_object().expect("an object").len(), 1, "nothing but sendTime");
    json["sendTime"].as_str().expect("a time").to_owned()
}

pub async fn flush(address: SocketAddr) -> Vec<Message> {
    let answer = post(address, "/getAndFlushMessages", "").await;
    assert_eq!(answer.status, 200);
    let array = answer.json();
    let message = |message: &Value| {
        let message = message.as_object().expect("an object");
        assert_eq!(message.keys().collect::<Vec<_>>(), ["author", "sendTime", "text"]);
        let field = |name: &str| message[name].as_str().expect("a string").to_owned();
        Message { author: field("author"), text: field("text"), time: field("sendTime") }
    };
    array.as_array().expect("an array").iter().map(message).collect()
}
