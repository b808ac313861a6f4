//! Connecting to one of several addresses, in the spirit of "Happy Eyeballs" (RFC 8305). An attempt
//! that takes long is joined by an attempt at the next address, and the first that succeeds wins.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::lookup::lookup;

/// How long the latest attempt runs alone before the next one joins it (RFC 8305, 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects to the first of a host's addresses that accepts a connection. The caller sets the
/// timeout.
///
/// # Errors
/// If the host has no address, or no address accepts a connection.
pub async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = order(lookup(host, port).await?, None);
    let connected = race(addresses, TcpStream::connect, |_| false).await;
    connected.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))
}

/// Orders addresses for a race: both families alternate, each in the resolver's order. `shunned`,
/// where a connection has failed before, is the last.
pub(crate) fn order(addresses: Vec<SocketAddr>, shunned: Option<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().map(SocketAddr::is_ipv6) else { return addresses };
    let (one, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut ordered = Vec::new();
    loop {
        let pair = [one.next(), other.next()];
        if pair == [None, None] {
            break;
        }
        ordered.extend(pair.into_iter().flatten());
    }
    // The sort is stable, so the others keep their order.
    ordered.sort_by_key(|address| Some(*address) == shunned);
    ordered
}

/// Attempts the addresses until one succeeds. `None` if there is no address.
///
/// # Errors
/// The latest error. Errors for which `says_more` is true take precedence.
pub(crate) async fn race<T, E, F>(
    addresses: Vec<SocketAddr>,
    attempt: impl Fn(SocketAddr) -> F,
    says_more: impl Fn(&E) -> bool,
) -> Option<Result<T, E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut addresses = addresses.into_iter().peekable();
    let mut running = FuturesUnordered::new();
    let mut failure: Option<E> = None;
    let mut next = Instant::now();
    loop {
        if addresses.peek().is_some() && next <= Instant::now() {
            running.extend(addresses.next().map(&attempt));
            next = Instant::now() + ATTEMPT_DELAY;
        }
        if running.is_empty() && addresses.peek().is_none() {
            return failure.map(Err);
        }
        tokio::select! {
            biased;
            Some(result) = running.next() => match result {
                Ok(reached) => return Some(Ok(reached)),
                Err(error) => {
                    if says_more(&error) || !failure.as_ref().is_some_and(&says_more) {
                        failure = Some(error);
                    }
                    next = Instant::now();
                }
            },
            () = tokio::time::sleep_until(next), if addresses.peek().is_some() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect(text)
    }

    #[test]
    fn families_alternate_and_the_shunned_address_is_last() {
        let addresses = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"].map(at).to_vec();
        let mixed = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"].map(at);
        assert_eq!(order(addresses.clone(), None), mixed);
        let shunned = ["1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1", "[::1]:1"].map(at);
        assert_eq!(order(addresses, Some(at("[::1]:1"))), shunned);
        assert_eq!(order(Vec::new(), None), []);
    }

    /// An attempt at a port from 100 on hangs, one from 10 on fails at once, and all others
    /// succeed.
    async fn attempt(address: SocketAddr) -> Result<u16, u16> {
        match address.port() {
            100.. => std::future::pending().await,
            port @ 10.. => Err(port),
            port => Ok(port),
        }
    }

    async fn raced(ports: &[u16]) -> Option<Result<u16, u16>> {
        let addresses = ports.iter().map(|port| ([127, 0, 0, 1], *port).into()).collect();
        let race = race(addresses, attempt, |port| *port > 20);
        tokio::time::timeout(Duration::from_secs(30), race).await.expect("an end")
    }

    #[tokio::test]
    async fn an_address_that_works_is_found() {
        for ports in [&[1][..], &[10, 1], &[100, 1], &[100, 10, 101, 102, 1, 103], &[10, 11, 12, 1]] {
            assert_eq!(raced(ports).await, Some(Ok(1)), "{ports:?}");
        }
        assert_eq!(raced(&[1, 2]).await, Some(Ok(1)), "the first, if both succeed");
        assert_eq!(raced(&[10, 30, 11]).await, Some(Err(30)), "the error that says more");
        assert_eq!(raced(&[10, 11]).await, Some(Err(11)));
        assert_eq!(raced(&[]).await, None);
    }
}
