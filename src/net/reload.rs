//! Values from files, reloaded when the files change.

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

/// How often the files are checked. Certificates are renewed weeks before they expire; the short
/// interval is for people who wait for the change.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// A value made from files. An error at the start ends the program; an error after a change is a
/// warning, and the old value stays.
pub struct Reloaded<T> {
    files: Vec<File>,
    make: Box<dyn Fn() -> Result<T, FileError> + Send + Sync>,
    current: RwLock<Arc<T>>,
    seen: Mutex<Vec<Option<FileVersion>>>,
}

/// The version of a file. It differs after a write in place and after a replacement, also of the
/// target of a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileVersion {
    modified: SystemTime,
    length: u64,
    id: FileId,
}

/// Distinguishes a file from an earlier one under the same path.
#[cfg(unix)]
type FileId = u64;
#[cfg(not(unix))]
type FileId = Option<SystemTime>;

/// Reloads its files.
pub trait Reload: Send + Sync {
    /// Whether there are files to reload.
    fn has_files(&self) -> bool;

    /// Reloads the files if they have changed, or in any case if it is `forced`. Blocks on the
    /// disk.
    fn refresh(&self, forced: bool);
}

impl<T> Reloaded<T> {
    /// Makes the first value.
    ///
    /// # Errors
    /// The error of `make`.
    pub fn new(
        files: Vec<File>,
        make: impl Fn() -> Result<T, FileError> + Send + Sync + 'static,
    ) -> Result<Self, FileError> {
        // Before the files are read, so that a change in between is noticed.
        let seen = versions(&files);
        let current = RwLock::new(Arc::new(make()?));
        Ok(Self { files, make: Box::new(make), current, seen: Mutex::new(seen) })
    }

    /// The current value.
    pub fn current(&self) -> Arc<T> {
        // A panic under these locks leaves the old value or the new one.
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T: Send + Sync> Reload for Reloaded<T> {
    fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    fn refresh(&self, forced: bool) {
        if !self.has_files() {
            return;
        }
        let now = versions(&self.files);
        let before = std::mem::replace(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner), now.clone());
        if !forced && before == now {
            return;
        }
        let files: Vec<_> = self.files.iter().map(File::path).collect();
        test_panic("reload");
        match (self.make)() {
            Ok(new) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                info!(?files, "files reloaded");
            }
            Err(error) => warn!(%error, "reload failed, keeping the old values"),
        }
    }
}

impl<T> fmt::Debug for Reloaded<T> {
    // Without the value, which may be a key or a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloaded").field("files", &self.files).finish_non_exhaustive()
    }
}

fn versions(files: &[File]) -> Vec<Option<FileVersion>> {
    let version = |file: &File| {
        let metadata = std::fs::metadata(file.path()).ok()?;
        Some(FileVersion { modified: metadata.modified().ok()?, length: metadata.len(), id: id(&metadata) })
    };
    files.iter().map(version).collect()
}

#[cfg(unix)]
fn id(metadata: &Metadata) -> FileId {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

/// The time of creation: the standard library has no stable access to the file IDs of Windows.
#[cfg(not(unix))]
fn id(metadata: &Metadata) -> FileId {
    metadata.created().ok()
}

/// Checks the files every few seconds, and reloads them at each SIGHUP. Never completes.
pub async fn reload_on_change(mut all: Vec<Arc<dyn Reload>>) {
    all.retain(|one| one.has_files());
    if all.is_empty() {
        return pending().await;
    }
    let thread = match start_thread(all) {
        Ok(thread) => thread,
        Err(error) => {
            warn!(%error, "can't start the reload thread");
            return pending().await;
        }
    };
    let mut hangups = Hangups::listen().inspect_err(|error| warn!(%error, "can't listen for SIGHUP")).ok();
    let mut ticks = tokio::time::interval(CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let hangup = async {
            match &mut hangups {
                Some(hangups) => hangups.next().await,
                None => pending().await,
            }
        };
        let forced = tokio::select! {
            () = hangup => true,
            _ = ticks.tick() => false,
        };
        let (done, is_done) = oneshot::channel();
        // The queue has room: the last refresh is complete.
        let _ = thread.try_send((forced, done));
        let _ = is_done.await;
    }
}

/// A request to refresh, forced or not, and the channel that reports its end.
type Refresh = (bool, oneshot::Sender<()>);

/// Starts the thread that refreshes, because a slow disk must not delay the chat. It starts with
/// the program, because the system may refuse a thread later.
fn start_thread(all: Vec<Arc<dyn Reload>>) -> io::Result<SyncSender<Refresh>> {
    let (requests, queue) = sync_channel::<Refresh>(1);
    std::thread::Builder::new().name("files".to_owned()).spawn(move || {
        for (forced, done) in queue {
            // A panic is logged, and the old value stays.
            let _ = catch_unwind(AssertUnwindSafe(|| all.iter().for_each(|one| one.refresh(forced))));
            let _ = done.send(());
        }
    })?;
    Ok(requests)
}
