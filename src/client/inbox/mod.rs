//! What the client keeps of the messages it has read: for the next flush, and for pages.

pub(super) mod history;
pub(super) mod message_json;
pub(super) mod postbox;
