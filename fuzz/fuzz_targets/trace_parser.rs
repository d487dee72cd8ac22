//! See `extent_map_fuzz::trace_parser`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| extent_map_fuzz::trace_parser::run(data));
