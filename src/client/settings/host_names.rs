//! The names under which browsers may use the HTTP interface.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// Ends of names that nobody can register.
const PRIVATE_SUFFIXES: [&str; 5] = [".localhost", ".local", ".lan", ".internal", ".home.arpa"];

/// Names of the HTTP interface, besides those that a stranger cannot have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostNames(Vec<String>);

/// The text is not a list of host names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be host names separated by commas, such as chat.example.com (without http:// and port)")]
pub struct HostNamesError;

impl FromStr for HostNames {
    type Err = HostNamesError;

    fn from_str(text: &str) -> Result<Self, HostNamesError> {
        let is_name = |name: &str| {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            !name.is_empty() && name.bytes().all(good)
        };
        let names = text.split(',').map(|name| normalize(name.trim()));
        names.map(|name| is_name(&name).then_some(name).ok_or(HostNamesError)).collect::<Result<_, _>>().map(Self)
    }
}

impl HostNames {
    /// Whether browsers may use `host`: it is one of these names, or a stranger cannot have it.
    pub(in crate::client) fn allow(&self, host: &str) -> bool {
        if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            let address = address.split('%').next().unwrap_or_default();
            return address.parse::<Ipv6Addr>().is_ok();
        }
        let name = normalize(host);
        // A name without a dot belongs to this network or machine, such as a service of compose.
        let is_local = !name.is_empty() && !name.contains('.');
        let is_private = PRIVATE_SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
        is_local || is_private || name.parse::<Ipv4Addr>().is_ok() || self.0.contains(&name)
    }
}

/// Makes equal names the same text: in lower case, and without the dot of the root.
fn normalize(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_strangers_cannot_have_are_allowed() {
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
            assert!(names.allow(host), "{host}");
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
            assert!(!names.allow(host), "{host}");
        }
    }

    #[test]
    fn a_list_of_host_names_has_nothing_else_in_it() {
        for text in ["", ",", "a,", "http://chat.example.com", "chat.example.com:8080", "a b", "чат.example", "*"] {
            assert_eq!(text.parse::<HostNames>(), Err(HostNamesError), "{text:?}");
        }
    }
}
