//! Refuses requests that a browser sends for a page of another site.
//!
//! The client accepts JSON under any `Content-Type`, and browsers send some types to other sites
//! without asking them first (CORS). Without this check, any open web page could post messages
//! through the client on the same machine.

use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};

use super::problem::Problem;

/// Refuses a `POST` that a browser sent for a page of another site. Programs send neither of the
/// two headers, and pass.
///
/// # Errors
/// 403.
pub(super) fn refuse(request: &Request) -> Result<(), Problem> {
    if request.method() == Method::POST && is_cross_site(request.headers()) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "requests from pages of other sites are refused"));
    }
    Ok(())
}

/// Every current browser sends `Sec-Fetch-Site`. Older ones send `Origin`, which has to name the
/// host that the request is for.
fn is_cross_site(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return false;
    };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    host.is_none() || origin != host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_other_sites_are_recognised() {
        let cases: [(&[(&str, &str)], bool); 9] = [
            (&[("host", "localhost:8080")], false),
            (&[("sec-fetch-site", "same-origin")], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("sec-fetch-site", "same-site")], true),
            (&[("host", "localhost:8080"), ("origin", "http://localhost:8080")], false),
            (&[("host", "localhost:8080"), ("origin", "http://evil.example")], true),
            (&[("host", "localhost:8080"), ("origin", "null")], true),
            (
                &[("host", "localhost:8080"), ("origin", "http://localhost:8080"), ("sec-fetch-site", "cross-site")],
                true,
            ),
        ];
        for (headers, expected) in cases {
            let headers = headers.iter().map(|(name, value)| {
                (name.parse::<header::HeaderName>().expect("a name"), value.parse().expect("a value"))
            });
            let headers: HeaderMap = headers.collect();
            assert_eq!(is_cross_site(&headers), expected, "{headers:?}");
        }
    }
}
