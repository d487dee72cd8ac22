//! See `extent_map_fuzz::map_model`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| extent_map_fuzz::map_model::run(data));
