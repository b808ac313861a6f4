//! The page: what a person sees who opens the client in a browser. Three files and an icon, as they stand in this folder.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get};

/// What the page may do, and nothing else: its own script and style, requests to where it came from. Texts are written by strangers; if
/// one ever came to be read as HTML, there would be nothing that it could do.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// The page itself.
pub(crate) fn index<S: Clone + Send + Sync + 'static>() -> MethodRouter<S> {
    file("text/html; charset=utf-8", include_str!("index.html"))
}

/// How it looks.
pub(crate) fn style<S: Clone + Send + Sync + 'static>() -> MethodRouter<S> {
    file("text/css; charset=utf-8", include_str!("page.css"))
}

/// What it does.
pub(crate) fn script<S: Clone + Send + Sync + 'static>() -> MethodRouter<S> {
    file("text/javascript; charset=utf-8", include_str!("page.js"))
}

/// What stands beside its title.
pub(crate) fn icon<S: Clone + Send + Sync + 'static>() -> MethodRouter<S> {
    file("image/svg+xml", include_str!("icon.svg"))
}

/// Gives a file. A browser asks each time whether it has changed, so that after an upgrade nobody has an old script with a new page.
fn file<S: Clone + Send + Sync + 'static>(content_type: &'static str, content: &'static str) -> MethodRouter<S> {
    let tag = tag(content);
    get(move |request: Request| async move {
        let known = request.headers().get(header::IF_NONE_MATCH).is_some_and(|known| is_among(known, &tag));
        let headers = [
            (header::ETAG, tag),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (RESOURCE_POLICY, HeaderValue::from_static("same-origin")),
        ];
        if known {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static(content_type))];
        (headers, content_type, content).into_response()
    })
}

/// Other sites may not load these files into their pages.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// A name for exactly this content.
fn tag(content: &str) -> HeaderValue {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    // Digits always make a value.
    HeaderValue::try_from(format!("\"{:016x}\"", hasher.finish())).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Whether `tag` is one of a header `If-None-Match` (RFC 9110, 13.1.2).
fn is_among(header: &HeaderValue, tag: &HeaderValue) -> bool {
    let tags = header.to_str().unwrap_or_default().split(',').map(str::trim);
    tags.map(|known| known.strip_prefix("W/").unwrap_or(known)).any(|known| known == "*" || known == tag)
}
