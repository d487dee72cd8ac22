//! See `extent_map_fuzz::map_concurrent`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| extent_map_fuzz::map_concurrent::run(data));
