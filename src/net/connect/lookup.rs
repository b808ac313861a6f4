//! Looks up names with the system's resolver, which may hang for any length of time.
//!
//! The lookups run on a few threads that start with the program, because a system with a limit of
//! processes may refuse them later. A name occupies at most one thread, so a name that hangs does
//! not block the others. A caller waits for a bounded time. The lookup itself continues, and the
//! next caller for the name gets its result.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// How many names can be looked up at once.
const THREADS: usize = 4;
/// How many names may wait for a thread.
const QUEUE: usize = 16;
/// How long a caller waits. Usual resolvers wait longer for their first name server.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long a result that came too late for its callers stays valid.
const LATE: Duration = Duration::from_secs(5);

/// A host and a port.
type Name = (String, u16);
type Resolved = Result<Vec<SocketAddr>, String>;
type Resolve = fn(&Name) -> io::Result<Vec<SocketAddr>>;

/// The lookups of this process.
static LOOKUPS: Mutex<Option<Arc<Lookups>>> = Mutex::new(None);

/// The queue of the threads, and the names that they look up.
#[derive(Debug)]
struct Lookups {
    queue: SyncSender<Name>,
    pending: Mutex<HashMap<Name, NameState>>,
    resolve: Resolve,
}

#[derive(Debug)]
enum NameState {
    /// The name is queued or being looked up, and these callers wait.
    Waiting(Vec<oneshot::Sender<Resolved>>),
    /// The result came when no caller waited any more.
    Late(Resolved, Instant),
}

/// Starts the threads that look up names, unless they run already.
///
/// # Errors
/// If the system refuses a thread.
pub fn start_lookups() -> io::Result<()> {
    lookups().map(drop)
}

/// The addresses of a host, with the given port.
///
/// # Errors
/// If the host has no address, or the resolver fails or takes too long.
pub async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![(ip, port).into()]);
    }
    lookups()?.addresses((host.to_owned(), port), TIMEOUT).await
}

fn lookups() -> io::Result<Arc<Lookups>> {
    let mut lookups = lock(&LOOKUPS);
    if let Some(lookups) = &*lookups {
        return Ok(Arc::clone(lookups));
    }
    let started = Lookups::start(|name| Ok((name.0.as_str(), name.1).to_socket_addrs()?.collect()))?;
    Ok(Arc::clone(lookups.insert(started)))
}

impl Lookups {
    fn start(resolve: Resolve) -> io::Result<Arc<Self>> {
        let (queue, names) = sync_channel(QUEUE);
        let lookups = Arc::new(Self { queue, pending: Mutex::default(), resolve });
        let names = Arc::new(Mutex::new(names));
        for _ in 0..THREADS {
            let (lookups, names) = (Arc::clone(&lookups), Arc::clone(&names));
            std::thread::Builder::new().name("lookup".to_owned()).spawn(move || lookups.run(&names))?;
        }
        Ok(lookups)
    }

    async fn addresses(&self, name: Name, timeout: Duration) -> io::Result<Vec<SocketAddr>> {
        let result = self.ask(name)?;
        match tokio::time::timeout(timeout, result).await {
            Ok(Ok(Ok(addresses))) if addresses.is_empty() => Err(io::Error::other("the name has no address")),
            Ok(Ok(result)) => result.map_err(io::Error::other),
            Ok(Err(_)) => Err(io::Error::other("the lookup has failed")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the resolver gives no answer")),
        }
    }

    fn ask(&self, name: Name) -> io::Result<oneshot::Receiver<Resolved>> {
        let (sender, receiver) = oneshot::channel();
        let mut pending = lock(&self.pending);
        pending.retain(|_, lookup| !matches!(lookup, NameState::Late(_, when) if when.elapsed() > LATE));
        if let Some(NameState::Waiting(waiting)) = pending.get_mut(&name) {
            waiting.retain(|sender| !sender.is_closed());
            waiting.push(sender);
        } else if let Some(NameState::Late(result, _)) = pending.remove(&name) {
            // Can't fail: the receiver still exists.
            let _ = sender.send(result);
        } else {
            self.queue.try_send(name.clone()).map_err(|_| io::Error::other("too many lookups hang"))?;
            pending.insert(name, NameState::Waiting(vec![sender]));
        }
        Ok(receiver)
    }

    fn run(&self, names: &Mutex<Receiver<Name>>) {
        loop {
            let Ok(name) = lock(names).recv() else { return };
            let result = (self.resolve)(&name).map_err(|error| error.to_string());
            let mut pending = lock(&self.pending);
            let Some(NameState::Waiting(waiting)) = pending.remove(&name) else { continue };
            let mut received = false;
            for sender in waiting {
                received |= sender.send(result.clone()).is_ok();
            }
            if !received {
                pending.insert(name, NameState::Late(result, Instant::now()));
            }
        }
    }
}

/// Takes a lock. Nothing under these locks can panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(30);

    /// `never` hangs, `slow` takes half a second, and all other names are resolved at once.
    fn resolve(name: &Name) -> io::Result<Vec<SocketAddr>> {
        match name.0.as_str() {
            "never" => std::thread::sleep(LONG),
            "slow" => std::thread::sleep(Duration::from_millis(500)),
            "unknown" => return Err(io::Error::other("no such name")),
            _ => {}
        }
        Ok(vec![([127, 0, 0, 1], name.1).into()])
    }

    fn name(host: &str) -> Name {
        (host.to_owned(), 5)
    }

    #[tokio::test]
    async fn a_name_that_hangs_does_not_block_others() {
        let lookups = Lookups::start(resolve).unwrap();
        for _ in 0..2 * THREADS {
            let error = lookups.addresses(name("never"), SOON).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        }
        assert_eq!(lookups.addresses(name("good"), LONG).await.unwrap(), [([127, 0, 0, 1], 5).into()]);
        let error = lookups.addresses(name("unknown"), LONG).await.unwrap_err();
        assert_eq!(error.to_string(), "no such name");
        let Some(NameState::Waiting(waiting)) = lock(&lookups.pending).remove(&name("never")) else { panic!() };
        assert_eq!(waiting.len(), 1, "callers that gave up are removed");
    }

    #[tokio::test]
    async fn a_late_result_goes_to_the_next_caller() {
        let lookups = Lookups::start(resolve).unwrap();
        lookups.addresses(name("slow"), SOON).await.unwrap_err();
        while !matches!(lock(&lookups.pending).get(&name("slow")), Some(NameState::Late(..))) {
            tokio::time::sleep(SOON).await;
        }
        assert_eq!(lookups.addresses(name("slow"), SOON).await.unwrap().len(), 1);
        assert!(lock(&lookups.pending).is_empty(), "a late result is used once");
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let lookups = Lookups::start(|_| {
            loop {
                std::thread::sleep(LONG);
            }
        })
        .unwrap();
        let mut refused = 0;
        for number in 0..100 {
            refused += usize::from(lookups.ask(name(&number.to_string())).is_err());
        }
        assert!(refused >= 100 - QUEUE - THREADS, "{refused}");
    }
}
