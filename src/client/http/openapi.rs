//! `GET /openapi.json`: the HTTP interface for programs that read about programs. The document stands in this folder, and
//! `tests/it/openapi.rs` holds it against what the routes do.

use axum::body::Bytes;
use axum::http::{HeaderValue, header};
use axum::routing::{MethodRouter, get};

/// Gives the document, with the version of this program. As plain JSON, which every browser shows; the type of its own
/// (`application/vnd.oai.openapi+json`) is offered as a download.
pub(crate) fn document<S: Clone + Send + Sync + 'static>() -> MethodRouter<S> {
    let document = Bytes::from(include_str!("openapi.json").replacen("{version}", env!("CARGO_PKG_VERSION"), 1));
    get(move || async move { ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], document) })
}
