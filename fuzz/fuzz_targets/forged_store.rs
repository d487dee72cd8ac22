//! See `extent_map_fuzz::forged_store`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| extent_map_fuzz::forged_store::run(data));
