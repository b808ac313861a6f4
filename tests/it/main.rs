//! The tests of the promises in `docs/guarantees.md`: one module for each promise.
//!
//! Each module lists its tests in `tests()`. A test whose tool is missing counts as ignored, and
//! fails with `CI=true`.
#![allow(missing_docs, unreachable_pub, clippy::pedantic, clippy::unwrap_used)]

mod any_text;
mod bad_grpc;
mod bad_http;
mod behind_proxies;
mod browser;
mod client_resumes;
mod clock;
mod cold_start;
mod connection_limit;
mod descriptors;
mod fan_out;
mod flush;
mod foreign;
mod guarantees;
mod half_requests;
mod hanging_server;
mod health_and_reflection;
mod hostile_frames;
mod hostile_http1;
mod hostile_http2;
mod late_reader;
mod log_lines;
mod many_calls;
mod memory_limit;
mod message_size;
mod metrics;
mod moving_on;
mod never_twice;
mod one_order;
mod openapi;
mod page;
mod panics;
mod redis;
mod repeat_safe;
mod request_frames;
mod resume;
mod server_away;
mod server_restart;
mod settings;
mod shutdown;
mod slow_reader;
mod small_frames;
mod stopped_readers;
mod storm;
mod support;
mod tls;
mod token;
mod whole_chat;
mod worst_case;

use std::process::ExitCode;
use std::thread::available_parallelism;

use libtest_mimic::{Arguments, Trial};

/// Most tests wait most of their time.
const THREADS_PER_CORE: usize = 2;
const MAX_THREADS: usize = 16;

fn main() -> ExitCode {
    // Attackers of a server have thousands of connections, and all of them are in this process.
    messenger::process::raise_file_limit();
    let mut arguments = Arguments::from_args();
    let cores = available_parallelism().map_or(1, usize::from);
    arguments.test_threads.get_or_insert((THREADS_PER_CORE * cores).min(MAX_THREADS));
    libtest_mimic::run(&arguments, tests()).exit_code()
}

/// All tests. A module that is missing here is dead code, which the compiler warns of.
fn tests() -> Vec<Trial> {
    [
        any_text::tests(),
        bad_grpc::tests(),
        bad_http::tests(),
        behind_proxies::tests(),
        browser::tests(),
        client_resumes::tests(),
        clock::tests(),
        cold_start::tests(),
        connection_limit::tests(),
        descriptors::tests(),
        fan_out::tests(),
        flush::tests(),
        foreign::tests(),
        guarantees::tests(),
        half_requests::tests(),
        hanging_server::tests(),
        health_and_reflection::tests(),
        hostile_frames::tests(),
        hostile_http1::tests(),
        hostile_http2::tests(),
        late_reader::tests(),
        log_lines::tests(),
        many_calls::tests(),
        memory_limit::tests(),
        message_size::tests(),
        metrics::tests(),
        moving_on::tests(),
        never_twice::tests(),
        one_order::tests(),
        openapi::tests(),
        page::tests(),
        panics::tests(),
        redis::tests(),
        repeat_safe::tests(),
        request_frames::tests(),
        resume::tests(),
        server_away::tests(),
        server_restart::tests(),
        settings::tests(),
        shutdown::tests(),
        slow_reader::tests(),
        small_frames::tests(),
        stopped_readers::tests(),
        storm::tests(),
        tls::tests(),
        token::tests(),
        whole_chat::tests(),
        worst_case::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
