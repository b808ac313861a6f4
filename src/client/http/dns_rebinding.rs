//! Refuses requests of pages whose host name was made to point to this client (DNS rebinding).
//!
//! The owner of a page can let the page's name point to this client's address once the page is
//! open. To the browser the client is then the page's own site, so the check for other sites
//! passes. But the header `Host` still has the page's name. So browsers are served only under names
//! that a stranger cannot have, and under names in the settings.

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};

use super::problem::Problem;
use crate::client::settings::HostNames;
use crate::net::requested_host;

/// Refuses a request that a browser sent to a host which is not among `hosts`. Programs may use any
/// name: no page can make them send a request.
///
/// # Errors
/// 403.
pub(super) fn refuse(request: &Request, hosts: &HostNames) -> Result<(), Problem> {
    // An invalid host was refused before.
    let host = requested_host(request).ok().flatten().unwrap_or_default();
    if !is_from_browser(request.headers()) || hosts.allow(host) {
        return Ok(());
    }
    let detail = format!(
        "browsers are not served under the host \"{host}\": if it is a name of this client, add it to \
         MESSENGER_HTTP_HOSTS (--http-hosts)"
    );
    Err(Problem::new(StatusCode::FORBIDDEN, detail))
}

/// Whether a browser sent this request. A page can change some headers: in Firefox and Safari it
/// can set `User-Agent` to curl. It can neither remove `Accept-Language` nor add a header that
/// begins with `Sec-`. Node's `fetch` sends both.
fn is_from_browser(headers: &HeaderMap) -> bool {
    let has = |name: &str| headers.contains_key(name);
    let user_agent = headers.get(header::USER_AGENT).map_or(&b""[..], |value| value.as_bytes());
    has("origin")
        || has("sec-fetch-site")
        || has("sec-fetch-dest")
        || user_agent.starts_with(b"Mozilla/")
        || (has("accept-language") && !has("sec-fetch-mode"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_distinguished_from_programs() {
        let cases: [(&[(&str, &str)], bool); 10] = [
            (&[], false),
            (&[("user-agent", "curl/8.5.0"), ("accept", "*/*")], false),
            (
                &[("user-agent", "python-requests/2.32"), ("accept-encoding", "gzip"), ("connection", "keep-alive")],
                false,
            ),
            (&[("user-agent", "Go-http-client/1.1"), ("accept-encoding", "gzip")], false),
            // Node's fetch.
            (&[("user-agent", "node"), ("accept-language", "*"), ("sec-fetch-mode", "cors")], false),
            (&[("user-agent", "Mozilla/5.0 (X11; Linux x86_64)")], true),
            (&[("origin", "http://evil.example")], true),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-dest", "document")], true),
            (&[("user-agent", "curl/8.5.0"), ("accept-language", "en")], true),
        ];
        for (headers, expected) in cases {
            let headers = headers.iter().map(|(name, value)| {
                (name.parse::<header::HeaderName>().expect("a name"), value.parse().expect("a value"))
            });
            let headers: HeaderMap = headers.collect();
            assert_eq!(is_from_browser(&headers), expected, "{headers:?}");
        }
    }
}
