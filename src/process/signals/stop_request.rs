//! A request to end the program.

/// A signal, or an event of the console.
pub(super) struct StopRequest {
    /// The name for the log.
    pub(super) name: &'static str,
    /// The exit status if the program must end at once.
    pub(super) status: i32,
}
