//! Keeping other web sites out.
//!
//! A body is taken as JSON whatever its type is, and such a request needs no permission in a browser: without this, any page that
//! somebody has open could post to the client on their machine.

use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};

use super::problem::Problem;

/// Refuses with 403 a request that a browser has made for a page of another site. Programs send neither header, and pass.
///
/// # Errors
/// 403.
pub(crate) fn refuse(request: &Request) -> Result<(), Problem> {
    if request.method() == Method::POST && is_cross_site(request.headers()) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "requests from pages of other sites are refused"));
    }
    Ok(())
}

/// Every current browser says in `Sec-Fetch-Site` where a request comes from; an older one says in `Origin` which site it is, which
/// has to be the one that was asked.
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
    fn tells_own_pages_and_programs_from_other_sites() {
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
