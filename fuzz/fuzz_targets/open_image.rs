//! See `extent_map_fuzz::open_image`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| extent_map_fuzz::open_image::run(data));
