//! Errors over HTTP, as `application/problem+json` (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tonic::Code;

use crate::client::upstream::SendError;

/// The reason why a request was not carried out.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
}

#[derive(Serialize)]
struct ProblemBody<'a> {
    // Without a `type` the RFC assumes "about:blank": the title is then the phrase of the status.
    title: &'a str,
    status: u16,
    detail: &'a str,
}

impl Problem {
    /// `detail` tells the caller in one sentence what is wrong, and names the field, the limit or
    /// the position.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into() }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }
}

impl From<SendError> for Problem {
    fn from(error: SendError) -> Self {
        let status = match &error {
            SendError::ServerAway
            | SendError::NoRoom(_)
            | SendError::NotAccepted(_)
            | SendError::ShuttingDown
            | SendError::Broken => StatusCode::SERVICE_UNAVAILABLE,
            SendError::NoAnswer => StatusCode::GATEWAY_TIMEOUT,
            SendError::Refused(status) => match status.code() {
                Code::InvalidArgument => StatusCode::BAD_REQUEST,
                Code::AlreadyExists => StatusCode::CONFLICT,
                // Our server refuses only messages over its size limit with this status.
                Code::ResourceExhausted => StatusCode::PAYLOAD_TOO_LARGE,
                _ => StatusCode::BAD_GATEWAY,
            },
            SendError::Failed(status) if status.code() == Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            SendError::Failed(_) => StatusCode::BAD_GATEWAY,
        };
        Self::new(status, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or_default();
        let body = ProblemBody { title, status: self.status.as_u16(), detail: &self.detail };
        // Two strings and a number always serialize.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            // "The server generating a 401 response MUST send a WWW-Authenticate header field"
            // (RFC 9110, section 15.5.2).
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            // The accepted encodings (RFC 9110, section 15.5.16): none.
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        response
    }
}
