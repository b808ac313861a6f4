//! The backend of a room that one process keeps in its memory. The room ends with the process.

use std::sync::Arc;
use std::time::SystemTime;

use super::environment::{ENVIRONMENT, new_epoch};
use crate::process::NoRandomness;
use crate::room::{EncodedMessage, Epoch, Posted, Rejection, Room, RoomLimits};
use crate::send_time::SendTime;

/// An empty room in a new epoch.
///
/// # Errors
/// [`NoRandomness`]: the room has no epoch then.
pub(super) fn new_room(limits: RoomLimits) -> Result<Arc<Room>, NoRandomness> {
    // A clock that is too far ahead for a birth is too far ahead for messages too, until it is
    // corrected.
    let birth = SendTime::default().next(SystemTime::now()).unwrap_or_default();
    Ok(Arc::new(Room::new(limits, new_epoch()?, birth, ENVIRONMENT)))
}

/// Posts a message: in `epoch`, if the sender names one, and once, if the sender gives a key.
///
/// # Errors
/// See [`Rejection`].
pub(super) fn post(
    room: &Room,
    epoch: Option<Epoch>,
    key: Option<&str>,
    message: EncodedMessage,
) -> Result<Posted, Rejection> {
    if epoch.is_some_and(|epoch| epoch != room.epoch()) {
        return Err(Rejection::OtherEpoch(room.epoch()));
    }
    match key {
        Some(key) => room.post_once(key, message),
        None => room.post(message).map(Posted::Now),
    }
}
