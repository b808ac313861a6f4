//! The host that a request of HTTP/1.1 is for (RFC 9112, 3.2).

use http::header::HOST;
use http::{Request, Version};
use thiserror::Error;

/// The request names no host, or names it in a way that recipients may understand differently. The
/// response is 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadHost {
    /// The header is missing, and HTTP/1.1 requires it.
    #[error("the header Host is missing")]
    Missing,
    /// The header is repeated, and recipients may take different ones.
    #[error("the header Host is repeated")]
    Several,
    /// The value has something else in it, such as a user name, a path or a space.
    #[error("the header Host is not host:port")]
    Invalid,
}

/// The name or address that the request is for, without the port, and an IPv6 address in brackets.
/// `None` if a request of HTTP/1.0 names none.
///
/// # Errors
/// [`BadHost`].
pub fn requested_host<B>(request: &Request<B>) -> Result<Option<&str>, BadHost> {
    let mut values = request.headers().get_all(HOST).iter();
    let host = match (values.next(), values.next()) {
        (None, _) if request.version() >= Version::HTTP_11 => return Err(BadHost::Missing),
        (None, _) => None,
        (Some(_), Some(_)) => return Err(BadHost::Several),
        (Some(value), None) => {
            let host = value.to_str().map_err(|_| BadHost::Invalid)?;
            Some(without_port(host).ok_or(BadHost::Invalid)?)
        }
    };
    // A target in the absolute form, which proxies get, takes precedence.
    Ok(request.uri().host().or(host))
}

/// Strips the port. Takes every character of a host (RFC 3986), because some networks have names
/// that DNS does not permit.
fn without_port(host: &str) -> Option<&str> {
    let in_name = |byte| u8::is_ascii_alphanumeric(&byte) || b"-._~!$&'()*+,;=%".contains(&byte);
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if address.bytes().all(|byte| byte == b':' || in_name(byte)) => {
            (&host[..address.len() + 2], port)
        }
        Some(_) => return None,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let good_name = name.starts_with('[') || name.bytes().all(in_name);
    let good_port = port.is_empty() || port.strip_prefix(':')?.bytes().all(|byte| byte.is_ascii_digit());
    (good_name && good_port).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(version: Version, target: &str, hosts: &[&str]) -> Result<Option<String>, BadHost> {
        let mut request = Request::builder().version(version).uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let request = request.body(()).expect("a request");
        requested_host(&request).map(|host| host.map(str::to_owned))
    }

    #[test]
    fn the_host_is_that_of_the_request() {
        for (value, expected) in [
            ("localhost", "localhost"),
            ("localhost:8080", "localhost"),
            ("localhost:", "localhost"),
            ("my_service:8080", "my_service"),
            ("[::1]", "[::1]"),
            ("[::1]:8080", "[::1]"),
            ("[fe80::1%25eth0]:8080", "[fe80::1%25eth0]"),
            ("", ""),
        ] {
            assert_eq!(host(Version::HTTP_11, "/", &[value]), Ok(Some(expected.to_owned())), "{value}");
        }
        let absolute = host(Version::HTTP_11, "http://other:80/", &["localhost"]);
        assert_eq!(absolute, Ok(Some("other".to_owned())));
        assert_eq!(host(Version::HTTP_10, "/", &[]), Ok(None));
    }

    #[test]
    fn a_missing_repeated_or_malformed_host_is_refused() {
        assert_eq!(host(Version::HTTP_11, "/", &[]), Err(BadHost::Missing));
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert_eq!(host(version, "/", &["localhost", "localhost"]), Err(BadHost::Several));
            for value in ["a b", "user@localhost", "localhost/x", "localhost:http", "a:1:2", "::1", "[::1", "[a]b"] {
                assert_eq!(host(version, "/", &[value]), Err(BadHost::Invalid), "{value}");
            }
        }
    }
}
