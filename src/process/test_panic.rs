//! Panics that the tests ask for (`tests/it/panics.rs`), in programs that were built for them: without debug assertions there are none.

#[cfg(not(debug_assertions))]
pub(crate) fn test_panic(_place: &str) {}

/// Panics here once if `MESSENGER_TEST_PANIC` is the name of this place; at the n-th time if it is `place:n`.
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
