//! See `extent_map_fuzz::block_queue`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| extent_map_fuzz::block_queue::run(data));
