//! Keeping out pages whose name was made to point here (DNS rebinding).
//!
//! Whoever has a page at a name of their own may let the name point to this client's address once the
//! page is open. Then the client is the page's own site, and the check for other sites lets it in.
//! What is left of the page is its name, in the header `Host`. So a browser is served under names that
//! strangers cannot have; the names of an operator are a setting.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use thiserror::Error;

use super::problem::Problem;
use crate::net::requested_host;

/// Ends of names that nobody can register.
const PRIVATE: [&str; 5] = [".localhost", ".local", ".lan", ".internal", ".home.arpa"];

/// Names of the HTTP interface that browsers may use besides those that strangers cannot have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostNames(Vec<String>);

/// Not a list of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not host names with commas between them, such as chat.example.com (without http:// and port)")]
pub struct HostNamesError;

impl FromStr for HostNames {
    type Err = HostNamesError;

    fn from_str(text: &str) -> Result<Self, HostNamesError> {
        let is_name = |name: &str| {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            !name.is_empty() && name.bytes().all(good)
        };
        let names = text.split(',').map(|name| simple(name.trim()));
        names.map(|name| is_name(&name).then_some(name).ok_or(HostNamesError)).collect::<Result<_, _>>().map(Self)
    }
}

impl HostNames {
    /// Refuses with 403 a request from a browser under a name that a stranger may have. Programs pass
    /// under any name: no page can make them ask.
    ///
    /// # Errors
    /// 403.
    pub(crate) fn admit(&self, request: &Request) -> Result<(), Problem> {
        if !is_from_browser(request.headers()) {
            return Ok(());
        }
        // A host that is none was refused before.
        let host = requested_host(request).ok().flatten().unwrap_or_default();
        if self.is_ours(host) {
            return Ok(());
        }
        let detail = format!(
            "browsers are not served under the host \"{host}\": if it is a name of this client, put it into \
             MESSENGER_HTTP_HOSTS (--http-hosts)"
        );
        Err(Problem::new(StatusCode::FORBIDDEN, detail))
    }

    fn is_ours(&self, host: &str) -> bool {
        if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            let address = address.split('%').next().unwrap_or_default();
            return address.parse::<Ipv6Addr>().is_ok();
        }
        let name = simple(host);
        // A name of one label is one of this network or machine, such as a service of compose.
        let is_local = !name.is_empty() && !name.contains('.');
        let is_private = PRIVATE.iter().any(|end| name.ends_with(end));
        is_local || is_private || name.parse::<Ipv4Addr>().is_ok() || self.0.contains(&name)
    }
}

/// Names are equal whatever the case of their letters, and with or without the dot of the root.
fn simple(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Whether a browser has sent this. A page can change some headers: in Firefox and Safari it may call
/// itself curl. It cannot remove `Accept-Language`, nor add what begins with `Sec-`, which the library
/// of Node sends (one such header) beside an `Accept-Language`.
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
    fn strangers_cannot_have_these_names() {
        let names: HostNames = "chat.example.com, OTHER.example.com.".parse().expect("names");
        for host in [
            "127.0.0.1",
            "192.0.2.7",
            "[::1]",
            "[fe80::1%25eth0]",
            "localhost",
            "LOCALHOST",
            "localhost.",
            "a.localhost",
            "client1",
            "my_service",
            "pi.local",
            "nas.lan",
            "chat.internal",
            "a.b.home.arpa",
            "client.ns.svc.cluster.local",
            "chat.example.com",
            "Chat.Example.com.",
            "other.example.com",
        ] {
            assert!(names.is_ours(host), "{host}");
        }
        for host in [
            "",
            ".",
            "evil.example",
            "chat.example.com.evil.example",
            "x.chat.example.com",
            "example.com",
            "127.0.0.1.evil.example",
            "127.0.0.1.nip.io",
            "localhost.evil.example",
            "local.example",
            "evillocalhost.com",
            "[evil]",
            "home.arpa.evil.example",
        ] {
            assert!(!names.is_ours(host), "{host}");
        }
    }

    #[test]
    fn only_names_are_names() {
        for text in ["", ",", "a,", "http://chat.example.com", "chat.example.com:8080", "a b", "чат.example", "*"] {
            assert_eq!(text.parse::<HostNames>(), Err(HostNamesError), "{text:?}");
        }
    }

    #[test]
    fn browsers_are_told_from_programs() {
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
