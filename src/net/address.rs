//! Where a server is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use http::Uri;
use http::uri::Scheme;
use thiserror::Error;

/// `host:port`: a name, an IPv4 address or an IPv6 address in brackets. A name is looked up anew for each connection. `https://` before it
/// asks for TLS, `http://` is the same as nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddr {
    host: String,
    port: u16,
    origin: Uri,
}

/// Servers of one room, with commas between them: at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddrs(Vec<ServerAddr>);

/// Not an address of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not host:port, such as localhost:51075 or [::1]:51075, or https://host:port")]
pub struct AddressError;

impl ServerAddr {
    /// The host as the resolver takes it, an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The origin of gRPC calls: `http://host:port`, or `https://host:port`.
    #[must_use]
    pub fn origin(&self) -> Uri {
        self.origin.clone()
    }

    /// Whether connections to it are under TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.origin.scheme() == Some(&Scheme::HTTPS)
    }
}

impl ServerAddr {
    /// The server that listens on `address`, as seen from this machine.
    #[must_use]
    pub fn local(address: SocketAddr) -> Self {
        Self::at(address, Scheme::HTTP)
    }

    /// The same of a server with TLS.
    #[must_use]
    pub fn local_tls(address: SocketAddr) -> Self {
        Self::at(address, Scheme::HTTPS)
    }

    fn at(address: SocketAddr, scheme: Scheme) -> Self {
        let address = reachable(address);
        // An IP address and a port always make an authority.
        let origin = Uri::builder().scheme(scheme).authority(address.to_string()).path_and_query("/").build();
        Self { host: address.ip().to_string(), port: address.port(), origin: origin.unwrap_or_default() }
    }
}

/// Where to connect to reach what listens on `address` of this machine: loopback for the unspecified address.
#[must_use]
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

impl FromStr for ServerAddr {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, text) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(text), _) => ("https", text),
            (None, text_after_http) => ("http", text_after_http.unwrap_or(text)),
        };
        let (host, port) = text.rsplit_once(':').ok_or(AddressError)?;
        // u16's own parser takes a plus sign.
        let port = if port.starts_with('+') { None } else { port.parse().ok().filter(|port| *port != 0) };
        let port = port.ok_or(AddressError)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match bare {
            Some(address) if address.parse::<Ipv6Addr>().is_err() => return Err(AddressError),
            None if host.is_empty() || host.contains(|c: char| !c.is_ascii_alphanumeric() && !"-._".contains(c)) => {
                return Err(AddressError);
            }
            _ => {}
        }
        let origin = format!("{scheme}://{host}:{port}").parse().map_err(|_| AddressError)?;
        Ok(Self { host: bare.unwrap_or(host).to_owned(), port, origin })
    }
}

impl ServerAddrs {
    /// All of them, over and over: after the last the first again.
    pub fn cycle(&self) -> impl Iterator<Item = &ServerAddr> {
        self.0.iter().cycle()
    }

    /// The first of them that is under TLS.
    #[must_use]
    pub fn first_tls(&self) -> Option<&ServerAddr> {
        self.0.iter().find(|server| server.is_tls())
    }

    /// How many there are.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl From<ServerAddr> for ServerAddrs {
    fn from(address: ServerAddr) -> Self {
        Self(vec![address])
    }
}

impl FromStr for ServerAddrs {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        text.split(',').map(|address| address.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for ServerAddrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.0.iter().enumerate() {
            write!(f, "{}{address}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_tls() {
            f.write_str("https://")?;
        }
        match self.origin.authority() {
            Some(authority) => authority.fmt(f),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_names_and_addresses() {
        for (text, host) in [
            ("localhost:51075", "localhost"),
            ("server:51075", "server"),
            ("10.0.0.1:1", "10.0.0.1"),
            ("[::1]:65535", "::1"),
        ] {
            let address: ServerAddr = text.parse().expect(text);
            assert_eq!((address.host(), address.to_string().as_str()), (host, text));
            assert_eq!(address.origin().to_string(), format!("http://{text}/"));
            assert!(!address.is_tls());
            assert_eq!(format!("http://{text}").parse(), Ok(address));
            let tls: ServerAddr = format!("https://{text}").parse().expect(text);
            assert_eq!((tls.host(), tls.is_tls(), tls.to_string()), (host, true, format!("https://{text}")));
            assert_eq!(tls.origin().to_string(), format!("https://{text}/"));
        }
    }

    #[test]
    fn takes_several() {
        let addresses: ServerAddrs = "one:1, [::1]:2,three:3".parse().expect("three");
        assert_eq!((addresses.len(), addresses.to_string().as_str()), (3, "one:1,[::1]:2,three:3"));
        let hosts: Vec<&str> = addresses.cycle().take(4).map(ServerAddr::host).collect();
        assert_eq!(hosts, ["one", "::1", "three", "one"]);
        for text in ["", ",", "one:1,", ",one:1", "one:1,,two:2", "one:1;two:2", "one:1,two"] {
            assert_eq!(text.parse::<ServerAddrs>(), Err(AddressError), "{text:?}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            ":",
            "localhost",
            "localhost:",
            ":51075",
            "localhost:0",
            "localhost:99999",
            "localhost:+1",
            "localhost:x",
            "http://localhost",
            "https://",
            "https://localhost:51075/",
            "https://http://localhost:51075",
            "ftp://localhost:51075",
            "HTTPS:51075:1",
            "a b:1",
            "::1:51075",
            "[::1:51075",
            "[x]:1",
            "user@host:1",
            "host/path:1",
            "хост:1",
        ] {
            assert_eq!(text.parse::<ServerAddr>(), Err(AddressError), "{text:?}");
        }
    }
}
