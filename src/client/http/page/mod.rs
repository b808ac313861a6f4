//! The page on which people read and write messages in a browser: three files and an icon, all in
//! this folder.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get};

/// The page may use its own script and style, and send requests to its own host. Strangers write
/// the messages: if a browser ever took one for HTML, this policy would keep it from doing
/// anything.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// Keeps other sites from loading these files into their pages.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// `GET /`
pub(super) fn index<S: Clone + Send + Sync + 'static>() -> MethodRouter<S> {
    file("text/html; charset=utf-8", include_str!("index.html"))
}

/// `GET /page.css`
pub(super) fn style<S: Clone + Send + Sync + 'static>() -> MethodRouter<S> {
    file("text/css; charset=utf-8", include_str!("page.css"))
}

/// `GET /page.js`
pub(super) fn script<S: Clone + Send + Sync + 'static>() -> MethodRouter<S> {
    file("text/javascript; charset=utf-8", include_str!("page.js"))
}

/// `GET /icon.svg`
pub(super) fn icon<S: Clone + Send + Sync + 'static>() -> MethodRouter<S> {
    file("image/svg+xml", include_str!("icon.svg"))
}

/// A route that answers a file. Browsers check every time whether it has changed, so that after an
/// upgrade nobody runs an old script in a new page.
fn file<S: Clone + Send + Sync + 'static>(content_type: &'static str, content: &'static str) -> MethodRouter<S> {
    let etag = etag(content);
    get(move |request: Request| async move {
        let is_cached = request.headers().get(header::IF_NONE_MATCH).is_some_and(|tags| contains(tags, &etag));
        let headers = [
            (header::ETAG, etag),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (RESOURCE_POLICY, HeaderValue::from_static("same-origin")),
        ];
        if is_cached {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static(content_type))];
        (headers, content_type, content).into_response()
    })
}

/// The entity tag of exactly this content.
fn etag(content: &str) -> HeaderValue {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    // Hexadecimal digits are always a valid header value.
    HeaderValue::try_from(format!("\"{:016x}\"", hasher.finish())).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Whether a header `If-None-Match` contains `etag` (RFC 9110, section 13.1.2).
fn contains(header: &HeaderValue, etag: &HeaderValue) -> bool {
    let tags = header.to_str().unwrap_or_default().split(',').map(str::trim);
    tags.map(|tag| tag.strip_prefix("W/").unwrap_or(tag)).any(|tag| tag == "*" || tag == etag)
}
