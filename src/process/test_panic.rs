//! Panics on request, for `tests/it/panics.rs`. Programs without debug assertions have none.

#[cfg(not(debug_assertions))]
pub(crate) fn test_panic(_place: &str) {}

/// Panics once if `MESSENGER_TEST_PANIC` names this place. With `place:n` it is the n-th call that
/// panics.
#[cfg(debug_assertions)]
#[track_caller]
pub(crate) fn test_panic(place: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static ASKED: OnceLock<Option<(String, usize)>> = OnceLock::new();
    static PASSED: AtomicUsize = AtomicUsize::new(0);
    let asked = ASKED.get_or_init(|| {
        let asked = std::env::var("MESSENGER_TEST_PANIC").ok()?;
        let (place, time) = asked.split_once(':').unwrap_or((&asked, "1"));
        Some((place.to_owned(), time.parse().ok()?))
    });
    if let Some((asked, time)) = asked
        && asked == place
    {
        assert!(PASSED.fetch_add(1, Ordering::Relaxed) + 1 != *time, "asked to at {place}");
    }
}
