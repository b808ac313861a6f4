//! Several addresses of one server, in the spirit of "Happy Eyeballs" (RFC 8305): a try that does not come to
//! its end soon is joined by one at the next address, and the first that has reached a server wins.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::lookup::lookup;

/// How long the newest try is waited for before the next begins beside it (RFC 8305, 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects to the first of a host's addresses that takes a connection. It may take its time; whoever calls
/// this has the clock.
///
/// # Errors
/// If the host has no address, or none of them takes one.
pub async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = order(lookup(host, port).await?, None);
    let connected = race(addresses, TcpStream::connect, |_| false).await;
    connected.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))
}

/// The order in which addresses are tried: both families by turns, as the resolver has ordered each; and last
/// of all `shunned`, where the server has failed before.
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
    // Stable: the others keep their order.
    ordered.sort_by_key(|address| Some(*address) == shunned);
    ordered
}

/// Tries the addresses until one has come to a good end. `None` if there are none.
///
/// # Errors
/// The error of the last one that failed, of those for which `is_worse` is true, if there are such.
pub(crate) async fn race<T, E, F>(
    addresses: Vec<SocketAddr>,
    attempt: impl Fn(SocketAddr) -> F,
    is_worse: impl Fn(&E) -> bool,
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
            next = Instant::now() + HEAD_START;
        }
        if running.is_empty() && addresses.peek().is_none() {
            return failure.map(Err);
        }
        tokio::select! {
            biased;
            Some(result) = running.next() => match result {
                Ok(reached) => return Some(Ok(reached)),
                Err(error) => {
                    if is_worse(&error) || !failure.as_ref().is_some_and(&is_worse) {
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
    fn families_by_turns_and_who_failed_last() {
        let addresses = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"].map(at).to_vec();
        let mixed = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"].map(at);
        assert_eq!(order(addresses.clone(), None), mixed);
        let shunned = ["1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1", "[::1]:1"].map(at);
        assert_eq!(order(addresses, Some(at("[::1]:1"))), shunned);
        assert_eq!(order(Vec::new(), None), []);
    }

    /// What is tried at a port: over 100 hangs, over 10 fails at once, all others work.
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
    async fn whoever_works_is_found() {
        for ports in [&[1][..], &[10, 1], &[100, 1], &[100, 10, 101, 102, 1, 103], &[10, 11, 12, 1]] {
            assert_eq!(raced(ports).await, Some(Ok(1)), "{ports:?}");
        }
        assert_eq!(raced(&[1, 2]).await, Some(Ok(1)), "the first, if both work");
        assert_eq!(raced(&[10, 30, 11]).await, Some(Err(30)), "the one that tells most");
        assert_eq!(raced(&[10, 11]).await, Some(Err(11)));
        assert_eq!(raced(&[]).await, None);
    }
}
