//! The steps before and after the route of every request: it is admitted or refused, counted, and
//! answered even if its handler panics.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use super::problem::Problem;
use super::{body, cross_site, dns_rebinding};
use crate::client::inbox::postbox::Postbox;
use crate::client::metrics::Metrics;
use crate::client::settings::{HostNames, HttpSettings};
use crate::net::{Budget, Guard, requested_host};
use crate::process;

/// This many bodies of the largest size may be in memory at once, or more smaller ones.
const INCOMING_BODIES: usize = 16;

/// Paths that need no token. Health checks have none, and the page is where a person enters it.
const PUBLIC_PATHS: [&str; 7] = ["/health", "/ready", "/openapi.json", "/", "/page.css", "/page.js", "/icon.svg"];

/// The conditions that a request must meet.
#[derive(Clone)]
pub(super) struct Admission {
    guard: Option<Arc<Guard>>,
    hosts: Arc<HostNames>,
    max_body: usize,
    incoming: Budget,
}

impl Admission {
    pub(super) fn new(settings: &HttpSettings) -> Self {
        let max_body = settings.max_body_bytes.0;
        Self {
            guard: settings.access.guard.clone(),
            hosts: Arc::new(settings.http_hosts.clone().unwrap_or_default()),
            max_body,
            incoming: Budget::new(INCOMING_BODIES * max_body),
        }
    }
}

/// Passes a request on if it has the token and a complete body within the limit. Refuses requests
/// that a browser sent for another site.
pub(super) async fn admit(
    State(admission): State<Admission>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if let Some(guard) = &admission.guard
        && !PUBLIC_PATHS.contains(&request.uri().path())
        && let Err(no_token) = guard.admit(request.headers())
    {
        body::discard_all(request).await;
        return Err(Problem::new(StatusCode::UNAUTHORIZED, no_token.to_string()));
    }
    // Kept until the answer: a message that waits for the server is as large as its body.
    let mut share = admission.incoming.share();
    let request = body::read(request, admission.max_body, &mut share).await?;
    requested_host(&request).map_err(|bad| Problem::bad_request(bad.to_string()))?;
    cross_site::refuse(&request)?;
    // With a token no check is needed: a page that has the token got it from a person.
    if admission.guard.is_none() && is_private(request.uri().path()) {
        dns_rebinding::refuse(&request, &admission.hosts)?;
    }
    Ok(next.run(request).await)
}

/// Whether a page under a foreign name must not read this path: the paths of the chat, and the page
/// for people, which is useless without the chat.
fn is_private(path: &str) -> bool {
    path == "/" || !PUBLIC_PATHS.contains(&path)
}

/// Answers a request whose handler panics. Other requests are not affected.
pub(super) async fn catch_panic(State(postbox): State<Arc<Postbox>>, request: Request, next: Next) -> Response {
    let answer = async move {
        process::test_panic("handler");
        next.run(request).await
    };
    if let Some(response) = process::catch_panic(answer).await {
        return response;
    }
    // If the handler left the postbox in an inconsistent state, this ends the program.
    postbox.usage();
    let detail = "this is a mistake in the program, see its log";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into_response()
}

/// Counts the request under its route.
pub(super) async fn count(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let (start, method) = (Instant::now(), request.method().clone());
    let path = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    // Every label takes memory, so methods and paths that callers invent share one.
    let method = if [Method::GET, Method::POST, Method::HEAD].contains(&method) { method.as_str() } else { "other" };
    let path = path.as_ref().map_or("other", MatchedPath::as_str);
    metrics.answered(method, path, response.status().as_u16(), start.elapsed());
    response
}
