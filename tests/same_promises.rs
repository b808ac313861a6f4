//! What holds for the room in one process holds for a room in an engine: the same tests, with each room in a real redis-server.
#![allow(clippy::duplicate_mod, reason = "each of them brings what it needs, as it does by itself")]

#[path = "any_text.rs"]
mod any_text;
#[path = "client_resumes.rs"]
mod client_resumes;
#[path = "cold_start.rs"]
mod cold_start;
#[path = "fan_out.rs"]
mod fan_out;
#[path = "flush.rs"]
mod flush;
#[path = "late_reader.rs"]
mod late_reader;
#[path = "message_size.rs"]
mod message_size;
#[path = "never_twice.rs"]
mod never_twice;
#[path = "one_order.rs"]
mod one_order;
#[path = "repeat_safe.rs"]
mod repeat_safe;
#[path = "resume.rs"]
mod resume;
#[path = "server_away.rs"]
mod server_away;
#[path = "shutdown.rs"]
mod shutdown;
#[path = "slow_reader.rs"]
mod slow_reader;
#[path = "small_frames.rs"]
mod small_frames;
