//! What holds for the room in one process holds for a room in an engine: the same tests, with each room in a real redis-server.
#![allow(clippy::duplicate_mod, reason = "each of them brings what it needs, as it does by itself")]

#[path = "it/support/mod.rs"]
mod support;

#[path = "it/any_text.rs"]
mod any_text;
#[path = "it/client_resumes.rs"]
mod client_resumes;
#[path = "it/cold_start.rs"]
mod cold_start;
#[path = "it/fan_out.rs"]
mod fan_out;
#[path = "it/flush.rs"]
mod flush;
#[path = "it/late_reader.rs"]
mod late_reader;
#[path = "it/message_size.rs"]
mod message_size;
#[path = "it/never_twice.rs"]
mod never_twice;
#[path = "it/one_order.rs"]
mod one_order;
#[path = "it/repeat_safe.rs"]
mod repeat_safe;
#[path = "it/resume.rs"]
mod resume;
#[path = "it/server_away.rs"]
mod server_away;
#[path = "it/shutdown.rs"]
mod shutdown;
#[path = "it/slow_reader.rs"]
mod slow_reader;
#[path = "it/small_frames.rs"]
mod small_frames;
