#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| messenger::properties::send_time(input));
