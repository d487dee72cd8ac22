//! Replays the seeds of the fuzz targets, so that no change breaks what fuzzing has found.
//!
//! `--features shuttle` replays those that are schedules of threads.

#[path = "../fuzz/src/lib.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a crate of its own, which others use in other ways"
)]
mod fuzz;

use std::fs;
use std::path::Path;

#[test]
fn every_seed_passes() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (name, run) in fuzz::TARGETS {
        let mut count = 0;
        for input in fs::read_dir(seeds.join(name)).unwrap() {
            let path = input.unwrap().path();
            println!("{}", path.display());
            run(&fs::read(path).unwrap());
            count += 1;
        }
        assert!(count >= 4, "{name} has {count} seeds");
    }
}
