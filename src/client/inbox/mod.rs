//! The messages that the client keeps: in the postbox for the next flush, in the history for pages.

pub(super) mod history;
pub(super) mod message_json;
pub(super) mod postbox;
