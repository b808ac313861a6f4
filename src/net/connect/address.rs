//! The address of a server.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::str::FromStr;

use http::Uri;
use http::uri::Scheme;
use thiserror::Error;

/// The address of a server, as `host:port`. The host is a name, an IPv4 address, or an IPv6 address
/// in brackets, which may have a zone (`[fe80::1%eth0]`). The prefix `https://` asks for TLS, and
/// `http://` changes nothing; after a prefix, the address may end with a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddr {
    host: String,
    port: u16,
    origin: Uri,
}

/// The addresses of the servers of one room, separated by commas: at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddrs(Vec<ServerAddr>);

/// The text is not the address of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be host:port or https://host:port, such as localhost:51075 or [::1]:51075")]
pub struct AddressError;

impl ServerAddr {
    /// The host for the resolver: an IPv6 address has no brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The name that must be in the server's certificate: the host without the zone, which has a
    /// meaning only on this machine.
    #[must_use]
    pub fn name(&self) -> &str {
        self.host.split('%').next().unwrap_or_default()
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

    /// The address of a server without TLS that listens on `address` of this machine.
    #[must_use]
    pub fn local(address: SocketAddr) -> Self {
        Self::at(address, Scheme::HTTP)
    }

    /// The address of a server with TLS that listens on `address` of this machine.
    #[must_use]
    pub fn local_tls(address: SocketAddr) -> Self {
        Self::at(address, Scheme::HTTPS)
    }

    fn at(address: SocketAddr, scheme: Scheme) -> Self {
        let address = reachable(address);
        // An IP address and a port always make an authority.
        let origin = Uri::builder().scheme(scheme).authority(address.to_string()).path_and_query("/").build();
        let host = match address {
            SocketAddr::V6(address) if address.scope_id() != 0 => format!("{}%{}", address.ip(), address.scope_id()),
            address => address.ip().to_string(),
        };
        Self { host, port: address.port(), origin: origin.unwrap_or_default() }
    }
}

/// The address by which this machine reaches a listener on `address`: loopback for the unspecified
/// address. A listener on `::` takes IPv4 too, and not every machine has `::1`.
#[must_use]
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() && is_here(Ipv6Addr::LOCALHOST) => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        ip => ip,
    };
    let mut reachable = address;
    reachable.set_ip(ip);
    reachable
}

/// Whether this machine has the address.
fn is_here(ip: Ipv6Addr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

impl FromStr for ServerAddr {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, text) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(text), _) => ("https", text.strip_suffix('/').unwrap_or(text)),
            (None, Some(text)) => ("http", text.strip_suffix('/').unwrap_or(text)),
            (None, None) => ("http", text),
        };
        let (host, port) = text.rsplit_once(':').ok_or(AddressError)?;
        // The parser of `u16` takes a plus sign.
        let port = if port.starts_with('+') { None } else { port.parse().ok().filter(|port| *port != 0) };
        let port = port.ok_or(AddressError)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match bare {
            Some(address) if !is_ipv6(address) => return Err(AddressError),
            None if host.is_empty() || host.contains(|c: char| !c.is_ascii_alphanumeric() && !"-._".contains(c)) => {
                return Err(AddressError);
            }
            _ => {}
        }
        // A zone must not be sent to a peer (RFC 9844, 4).
        let authority = host.split_once('%').map_or_else(|| host.to_owned(), |(address, _)| format!("{address}]"));
        let origin = format!("{scheme}://{authority}:{port}").parse().map_err(|_| AddressError)?;
        Ok(Self { host: bare.unwrap_or(host).to_owned(), port, origin })
    }
}

/// Whether the text is an IPv6 address, with or without a zone.
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').unwrap_or((text, "0"));
    let is_zone = !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    address.parse::<Ipv6Addr>().is_ok() && is_zone
}

impl ServerAddrs {
    /// The addresses in an endless cycle.
    pub fn cycle(&self) -> impl Iterator<Item = &ServerAddr> {
        self.0.iter().cycle()
    }

    /// The first address that asks for TLS.
    #[must_use]
    pub fn first_tls(&self) -> Option<&ServerAddr> {
        self.0.iter().find(|server| server.is_tls())
    }

    /// The number of addresses.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "there is at least one")]
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
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
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
    fn takes_one_slash_behind_a_scheme() {
        for (text, same) in [("http://localhost:51075/", "localhost:51075"), ("https://[::1]:1/", "https://[::1]:1")] {
            assert_eq!(text.parse::<ServerAddr>(), same.parse(), "{text:?}");
        }
    }

    #[test]
    fn takes_zones() {
        let address: ServerAddr = "https://[fe80::1%eth0]:51075".parse().expect("an address");
        assert_eq!((address.host(), address.name()), ("fe80::1%eth0", "fe80::1"));
        assert_eq!(address.to_string(), "https://[fe80::1%eth0]:51075");
        assert_eq!(address.origin().to_string(), "https://[fe80::1]:51075/", "only we know the zone");
        let listening = "[fe80::1%3]:51075".parse().expect("a socket address");
        assert_eq!(ServerAddr::local(listening).to_string(), "[fe80::1%3]:51075");
        for text in ["[fe80::1%]:1", "[%eth0]:1", "[fe80::1%a b]:1", "[fe80::1%a%b]:1", "fe80::1%eth0:1", "host%eth0:1"]
        {
            assert_eq!(text.parse::<ServerAddr>(), Err(AddressError), "{text:?}");
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
            "https://localhost:51075//",
            "localhost:51075/",
            "http://localhost:51075/path",
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
