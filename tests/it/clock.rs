//! `sendTime` increases while the clock of the server steps back, and positions and keys stay
//! valid. Past the last representable time the server refuses messages.
//!
//! libfaketime gives the server a clock that is set by a file.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::support;
use crate::support::program;
use crate::support::suite::{self, tests};
use crate::support::{Grpc, Reader, assert_increasing, grpc, http, post, reader, soon, until};
use libtest_mimic::Trial;
use messenger::proto::{EPOCH, IDEMPOTENCY_KEY, RESUME_AFTER, SendMessageRequest};
use tonic::{Code, Request};

pub fn tests() -> Vec<Trial> {
    tests![
        times_increase_when_the_clock_steps_back,
        times_increase_when_the_clock_steps_under_load,
        messages_are_refused_while_the_clock_is_past_the_last_time
    ]
}

const HOUR: Duration = Duration::from_hours(1);

/// The path of libfaketime, where Linux distributions have it.
fn library() -> PathBuf {
    if cfg!(target_env = "musl") {
        suite::ignore("a static program loads no library");
    }
    let directories = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from);
    let triplets = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files = directories.into_iter().chain(triplets).map(|path| path.join("faketime/libfaketimeMT.so.1"));
    files.find(|file| file.exists()).unwrap_or_else(|| suite::missing("libfaketime (Debian: faketime)"))
}

/// A clock with an offset from the true one.
#[derive(Debug)]
struct Clock(PathBuf);

impl Clock {
    fn new() -> Self {
        let clock =
            Self(std::env::temp_dir().join(format!("messenger-clock-{}-{}", std::process::id(), fastrand::u64(..))));
        clock.set("+0");
        clock
    }

    /// Sets the clock atomically: readers see the old time or the new one.
    fn set(&self, offset: &str) {
        let next = self.0.with_extension("next");
        std::fs::write(&next, format!("{offset}\n")).expect("a file");
        std::fs::rename(&next, &self.0).expect("a file");
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn server_with(clock: &Clock, library: &Path) -> (program::Program, std::net::SocketAddr) {
    let variables = [
        ("LD_PRELOAD", library.to_str().expect("a path")),
        ("FAKETIME_TIMESTAMP_FILE", clock.0.to_str().expect("a path")),
        // libfaketime reads the file at each call, and leaves the monotonic clock alone.
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ];
    program::server(&variables).await
}

/// How many seconds a time is ahead of the true clock, negative if it is behind.
fn ahead(time: &str) -> f64 {
    let time = humantime::parse_rfc3339(time).expect("a time");
    let now = SystemTime::now();
    time.duration_since(now).map_or_else(|error| -error.duration().as_secs_f64(), |ahead| ahead.as_secs_f64())
}

async fn resumed(grpc: &mut Grpc, epoch: &str, after: &str) -> Reader {
    let mut request = Request::new(());
    request.metadata_mut().insert(EPOCH, epoch.parse().unwrap());
    request.metadata_mut().insert(RESUME_AFTER, after.parse().unwrap());
    Reader { stream: soon("the headers", grpc.read_messages(request)).await.expect("a stream").into_inner() }
}

async fn times_increase_when_the_clock_steps_back() {
    let library = library();
    let clock = Clock::new();
    let (_server, address) = server_with(&clock, &library).await;
    let mut sender = grpc(address).await;
    let stream = soon("the headers", sender.read_messages(())).await.expect("a stream");
    let epoch = stream.metadata().get(EPOCH).unwrap().to_str().unwrap().to_owned();
    let mut watch = Reader { stream: stream.into_inner() };
    let client = support::client(address, &[]);
    client.ready().await;
    client.flush().await;
    watch.next().await;

    // The server follows the clock an hour ahead.
    assert!(ahead(&post(&mut sender, "alice", "now").await).abs() < 60.0);
    clock.set("+3600s");
    let first = post(&mut sender, "alice", "in an hour").await;
    assert!((ahead(&first) - HOUR.as_secs_f64()).abs() < 60.0, "{first}");
    let mut order = watch.take(2).await;

    let offsets = ["+0", "-3600s", "+1800s", "-86400s", "-1000000s", "+10s", "+3500s", "-31536000s"];
    for (round, offset) in offsets.into_iter().cycle().take(40).enumerate() {
        clock.set(offset);
        let (mut told, before) = (Vec::new(), order.last().expect("a message").clone());
        for number in 0..20 {
            let text = format!("{round}/{number}");
            told.push(match number % 2 {
                0 => post(&mut sender, "alice", &text).await,
                _ => http::send(client.address, "alice", &text).await,
            });
        }
        let got = watch.take(told.len()).await;
        assert_eq!(got.iter().map(|message| &message.time).collect::<Vec<_>>(), told.iter().collect::<Vec<_>>());
        order.extend(got.clone());
        // The room stays at its last time until the clock catches up, and positions stay valid.
        assert!((ahead(&told[19]) - HOUR.as_secs_f64()).abs() < 60.0, "{told:?}");
        assert_eq!(resumed(&mut sender, &epoch, &before.time).await.take(got.len()).await, got);
    }
    assert_increasing(&order);
    let at_the_client = client.collect(order.len()).await;
    assert_eq!(at_the_client, order);

    // Ahead of all earlier times, the times follow the clock again.
    clock.set("+7200s");
    let last = post(&mut sender, "alice", "in two hours").await;
    assert!((ahead(&last) - 2.0 * HOUR.as_secs_f64()).abs() < 60.0, "{last}");
    assert_eq!(watch.next().await.time, last);
}

async fn times_increase_when_the_clock_steps_under_load() {
    let library = library();
    let clock = Clock::new();
    let (_server, address) = server_with(&clock, &library).await;
    let mut watch = reader(&mut grpc(address).await).await;
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..4 {
        let mut grpc = grpc(address).await;
        senders.spawn(async move {
            for number in 0..500 {
                post(&mut grpc, &sender.to_string(), &number.to_string()).await;
            }
        });
    }
    let mut steps = 0;
    until("the senders", async || {
        steps += 1;
        clock.set(&format!("{:+}s", fastrand::i32(-100_000..1000)));
        while senders.try_join_next().is_some() {}
        senders.is_empty().then_some(())
    })
    .await;
    assert!(steps > 10, "{steps} steps of the clock");
    assert_increasing(&watch.take(2000).await);
}

async fn messages_are_refused_while_the_clock_is_past_the_last_time() {
    let library = library();
    let clock = Clock::new();
    // The clock may be past that time at startup too.
    clock.set("+600y");
    let (_server, address) = server_with(&clock, &library).await;
    let mut sender = grpc(address).await;
    let mut watch = reader(&mut sender.clone()).await;
    let mut times = Vec::new();
    for round in 0..2 {
        let message = SendMessageRequest { author: "alice".to_owned(), text: "in 600 years".to_owned() };
        for key in [None, Some("a-key")] {
            let mut request = Request::new(message.clone());
            if let Some(key) = key {
                request.metadata_mut().insert(IDEMPOTENCY_KEY, key.parse().unwrap());
            }
            let status = soon("a status", sender.send_message(request)).await.expect_err("no such time");
            assert_eq!(status.code(), Code::FailedPrecondition, "{round}: {status}");
            assert!(status.message().contains("clock is past the year 2554"), "{round}: {status}");
        }
        clock.set("+0");
        let time = post(&mut sender, "alice", "now").await;
        assert!(ahead(&time).abs() < 60.0, "{time}");
        times.push(time);
        clock.set("+600y");
    }
    let got = watch.take(2).await;
    assert_eq!(got.iter().map(|message| &message.time).collect::<Vec<_>>(), times.iter().collect::<Vec<_>>());
    assert!(got.iter().all(|message| message.text == "now"), "{got:?}");
}
