//! `GET /openapi.json`: a description of the HTTP interface for other programs.
//! `tests/it/openapi.rs` compares it with what the routes do.

use axum::body::Bytes;
use axum::http::{HeaderValue, header};
use axum::routing::{MethodRouter, get};

/// A route that answers the document, with the version of this program. The content type is plain
/// JSON, which every browser shows. Browsers would download `application/vnd.oai.openapi+json`.
pub(super) fn document<S: Clone + Send + Sync + 'static>() -> MethodRouter<S> {
    let document = Bytes::from(include_str!("openapi.json").replacen("{version}", env!("CARGO_PKG_VERSION"), 1));
    get(move || async move { ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], document) })
}
