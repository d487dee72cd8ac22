//! See `extent_map_fuzz::file_concurrent`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| extent_map_fuzz::file_concurrent::run(data));
