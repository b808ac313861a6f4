//! The client's one stream from the server, and the sends to it.

pub(super) mod backoff;
pub(super) mod ended;
pub(super) mod link;
pub(super) mod link_state;
pub(super) mod probe;
pub(super) mod repeats;
pub(super) mod sender;
