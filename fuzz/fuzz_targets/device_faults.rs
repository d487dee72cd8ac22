//! See `extent_map_fuzz::device_faults`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| extent_map_fuzz::device_faults::run(data));
