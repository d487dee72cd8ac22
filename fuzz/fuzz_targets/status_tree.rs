//! See `extent_map_fuzz::status_tree`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| extent_map_fuzz::status_tree::run(data));
