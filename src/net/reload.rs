//! What is read from files, and read again when they change.

use std::fmt;
use std::fs::Metadata;
use std::future::pending;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::process::{Hangups, test_panic};
use crate::settings::{File, FileError};

/// How often the files are looked at. A renewed certificate is there weeks before the old one ends; this is for whoever waits and
/// watches.
const LOOK: Duration = Duration::from_secs(5);

/// Something made of files: made once at the start, where an error ends the program, and again when they change, where an error is
/// a warning and the old one stays.
pub struct Reloaded<T> {
    files: Vec<File>,
    make: Box<dyn Fn() -> Result<T, FileError> + Send + Sync>,
    current: RwLock<Arc<T>>,
    seen: Mutex<Vec<Option<Stamp>>>,
}

/// What changes when a file does: written in place, or another in its place, also behind a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    length: u64,
    identity: Identity,
}

/// What no other file in its place has.
#[cfg(unix)]
type Identity = u64;
#[cfg(not(unix))]
type Identity = Option<SystemTime>;

/// Looks after its files.
pub trait Reload: Send + Sync {
    /// Whether there are any.
    fn has_files(&self) -> bool;

    /// Reads the files again if they have changed, or in any case if somebody has `asked`. Waits for the disk.
    fn refresh(&self, asked: bool);
}

impl<T> Reloaded<T> {
    /// Makes it for the first time.
    ///
    /// # Errors
    /// What `make` says.
    pub fn new(
        files: Vec<File>,
        make: impl Fn() -> Result<T, FileError> + Send + Sync + 'static,
    ) -> Result<Self, FileError> {
        // Before the files are read: a change in between is then seen as one.
        let seen = stamps(&files);
        let current = RwLock::new(Arc::new(make()?));
        Ok(Self { files, make: Box::new(make), current, seen: Mutex::new(seen) })
    }

    /// As it is now.
    pub fn current(&self) -> Arc<T> {
        // Here and below, a panic leaves the one value or the other.
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T: Send + Sync> Reload for Reloaded<T> {
    fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    fn refresh(&self, asked: bool) {
        if !self.has_files() {
            return;
        }
        let now = stamps(&self.files);
        let before = std::mem::replace(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner), now.clone());
        if !asked && before == now {
            return;
        }
        let files: Vec<_> = self.files.iter().map(File::path).collect();
        test_panic("reload");
        match (self.make)() {
            Ok(new) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                info!(?files, "read again");
            }
            Err(error) => warn!(%error, "can't be used, what was read before stays"),
        }
    }
}

impl<T> fmt::Debug for Reloaded<T> {
    // Without what was read: there are keys and tokens among it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloaded").field("files", &self.files).finish_non_exhaustive()
    }
}

fn stamps(files: &[File]) -> Vec<Option<Stamp>> {
    let stamp = |file: &File| {
        let metadata = std::fs::metadata(file.path()).ok()?;
        Some(Stamp { modified: metadata.modified().ok()?, length: metadata.len(), identity: identity(&metadata) })
    };
    files.iter().map(stamp).collect()
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> Identity {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

/// When it was made: Windows has no numbers of files that can be had with the standard library.
#[cfg(not(unix))]
fn identity(metadata: &Metadata) -> Identity {
    metadata.created().ok()
}

/// Keeps all of them as their files are: looks every few seconds, and at each SIGHUP. Never completes.
pub async fn reload_on_change(mut all: Vec<Arc<dyn Reload>>) {
    all.retain(|one| one.has_files());
    if all.is_empty() {
        return pending().await;
    }
    let reader = match reader(all) {
        Ok(reader) => reader,
        Err(error) => {
            warn!(%error, "no thread to read files again");
            return pending().await;
        }
    };
    let mut hangups = Hangups::listen().inspect_err(|error| warn!(%error, "no SIGHUP here")).ok();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let asked = async {
            match &mut hangups {
                Some(hangups) => hangups.next().await,
                None => pending().await,
            }
        };
        let asked = tokio::select! {
            () = asked => true,
            _ = look.tick() => false,
        };
        let (done, is_done) = oneshot::channel();
        // There is room: the last look is over.
        let _ = reader.try_send((asked, done));
        let _ = is_done.await;
    }
}

/// A request to look at the files, and the channel that is told when that is done.
type Look = (bool, oneshot::Sender<()>);

/// Starts a thread that looks at the files. A disk may take its time; the chat does not wait for it. The
/// thread starts with the program: later the system may give none.
fn reader(all: Vec<Arc<dyn Reload>>) -> io::Result<SyncSender<Look>> {
    let (looks, asked) = sync_channel::<Look>(1);
    std::thread::Builder::new().name("files".to_owned()).spawn(move || {
        for (asked, done) in asked {
            // A panic is logged, and what was read before stays.
            let _ = catch_unwind(AssertUnwindSafe(|| all.iter().for_each(|one| one.refresh(asked))));
            let _ = done.send(());
        }
    })?;
    Ok(looks)
}
