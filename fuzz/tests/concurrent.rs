//! What breaks a promise between threads must be found by the seeds of `file_concurrent`.
#![cfg(feature = "shuttle")]

use extent_map::delalloc::Probe;
use extent_map_fuzz::file_concurrent;

#[path = "common/inputs.rs"]
#[allow(dead_code, reason = "some is for other tests")]
mod inputs;

use inputs::is_found;

#[test]
fn the_seeds_find_the_bug_of_2024() {
    assert!(is_found("file_concurrent", |seed| {
        let probe = Probe {
            skip_second_look: true,
            ..Probe::default()
        };
        file_concurrent::run_with(probe, seed);
    }));
}
