//! Addresses of names, from the system's resolver, which may hang for as long as it likes.
//!
//! The look-ups run in a few threads that the program starts with: where the system gives no further thread,
//! such as in a container with a limit of processes, a program that is running goes on. Each name occupies
//! one of them at most, so one that hangs is not in the way of another. Whoever waits, waits for a bounded
//! time; the look-up itself goes on, and whoever asks for the name next gets what it finds.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// How many names can be looked up at the same time.
const THREADS: usize = 4;
/// Names that wait for a thread.
const QUEUE: usize = 16;
/// How long an answer is waited for. It is less than what the usual resolver gives its first name server.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer that came too late is good.
const LATE: Duration = Duration::from_secs(5);

/// A host and a port.
type Name = (String, u16);
type Resolved = Result<Vec<SocketAddr>, String>;
type Resolve = fn(&Name) -> io::Result<Vec<SocketAddr>>;

/// Those of this process.
static LOOKUPS: Mutex<Option<Arc<Lookups>>> = Mutex::new(None);

/// The queue of the threads, and who waits for which name.
#[derive(Debug)]
struct Lookups {
    queue: SyncSender<Name>,
    asked: Mutex<HashMap<Name, Lookup>>,
    resolve: Resolve,
}

#[derive(Debug)]
enum Lookup {
    /// A thread has it, or will; these wait for it.
    Waiting(Vec<oneshot::Sender<Resolved>>),
    /// The answer came when nobody waited any more.
    Late(Resolved, Instant),
}

/// Starts the threads that look names up, if this has not been done before.
///
/// # Errors
/// If the system gives no threads.
pub fn start_lookups() -> io::Result<()> {
    lookups().map(drop)
}

/// The addresses of a host, with this port.
///
/// # Errors
/// If it has none, or the resolver does not say.
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
        let lookups = Arc::new(Self { queue, asked: Mutex::default(), resolve });
        let names = Arc::new(Mutex::new(names));
        for _ in 0..THREADS {
            let (lookups, names) = (Arc::clone(&lookups), Arc::clone(&names));
            std::thread::Builder::new().name("lookup".to_owned()).spawn(move || lookups.run(&names))?;
        }
        Ok(lookups)
    }

    async fn addresses(&self, name: Name, timeout: Duration) -> io::Result<Vec<SocketAddr>> {
        let answer = self.ask(name)?;
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(Ok(addresses))) if addresses.is_empty() => Err(io::Error::other("the name has no address")),
            Ok(Ok(answer)) => answer.map_err(io::Error::other),
            Ok(Err(_)) => Err(io::Error::other("the look-up has failed")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the resolver gives no answer")),
        }
    }

    fn ask(&self, name: Name) -> io::Result<oneshot::Receiver<Resolved>> {
        let (sender, receiver) = oneshot::channel();
        let mut asked = lock(&self.asked);
        asked.retain(|_, asked| !matches!(asked, Lookup::Late(_, when) if when.elapsed() > LATE));
        if let Some(Lookup::Waiting(waiting)) = asked.get_mut(&name) {
            waiting.retain(|sender| !sender.is_closed());
            waiting.push(sender);
        } else if let Some(Lookup::Late(answer, _)) = asked.remove(&name) {
            // Its receiver is here.
            let _ = sender.send(answer);
        } else {
            self.queue.try_send(name.clone()).map_err(|_| io::Error::other("too many look-ups hang"))?;
            asked.insert(name, Lookup::Waiting(vec![sender]));
        }
        Ok(receiver)
    }

    fn run(&self, names: &Mutex<Receiver<Name>>) {
        loop {
            let Ok(name) = lock(names).recv() else { return };
            let answer = (self.resolve)(&name).map_err(|error| error.to_string());
            let mut asked = lock(&self.asked);
            let Some(Lookup::Waiting(waiting)) = asked.remove(&name) else { continue };
            let mut taken = false;
            for sender in waiting {
                taken |= sender.send(answer.clone()).is_ok();
            }
            if !taken {
                asked.insert(name, Lookup::Late(answer, Instant::now()));
            }
        }
    }
}

/// Nothing that could panic runs under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(30);

    /// `slow` takes half a second, as long as `never` is looked at it hangs, and all others are at once.
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
    async fn a_name_that_hangs_holds_up_nobody_else() {
        let lookups = Lookups::start(resolve).unwrap();
        for _ in 0..2 * THREADS {
            let error = lookups.addresses(name("never"), SOON).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        }
        assert_eq!(lookups.addresses(name("good"), LONG).await.unwrap(), [([127, 0, 0, 1], 5).into()]);
        let error = lookups.addresses(name("unknown"), LONG).await.unwrap_err();
        assert_eq!(error.to_string(), "no such name");
        let Some(Lookup::Waiting(waiting)) = lock(&lookups.asked).remove(&name("never")) else { panic!() };
        assert_eq!(waiting.len(), 1, "those who have gone are forgotten");
    }

    #[tokio::test]
    async fn an_answer_that_came_late_is_there_for_the_next() {
        let lookups = Lookups::start(resolve).unwrap();
        lookups.addresses(name("slow"), SOON).await.unwrap_err();
        while !matches!(lock(&lookups.asked).get(&name("slow")), Some(Lookup::Late(..))) {
            tokio::time::sleep(SOON).await;
        }
        assert_eq!(lookups.addresses(name("slow"), SOON).await.unwrap().len(), 1);
        assert!(lock(&lookups.asked).is_empty(), "once");
    }

    #[tokio::test]
    async fn as_many_as_can_wait_are_taken() {
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
