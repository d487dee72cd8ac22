//! See `extent_map_fuzz::allocator`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| extent_map_fuzz::allocator::run(data));
