//! Replays the committed seeds, and what a campaign has found, without a fuzzing engine.

use std::fs;
use std::path::{Path, PathBuf};

use extent_map::map::probe::{Mutation, Probe};
use extent_map::map::{ExtentMap, Reclaimer};
use extent_map_fuzz::{TARGETS, map_concurrent};

/// The inputs in a folder, none if it does not exist.
fn inputs(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn every_seed_and_every_find_passes() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, run) in TARGETS {
        let committed = inputs(&home.join("seeds").join(name));
        assert!(committed.len() >= 4, "{name} has no seeds");
        let found = inputs(&home.join("artifacts").join(name));
        for input in committed.iter().chain(&found) {
            println!("{}", input.display());
            run(&fs::read(input).unwrap());
        }
        println!("{name}: {} inputs", committed.len() + found.len());
    }
}

#[test]
fn the_seeds_of_the_schedules_find_maps_that_break_promises() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/map_concurrent");
    let seeds: Vec<_> = inputs(&seeds).into_iter().map(fs::read).collect();
    for mutation in [
        Mutation::CacheWithoutCheck,
        Mutation::TrustStaleLook,
        Mutation::LeaveUnmerged,
    ] {
        let passes = |seed: &std::io::Result<Vec<u8>>| {
            let probe = Probe::new().mutation(mutation);
            let map = ExtentMap::with_probe(&Reclaimer::new(), probe);
            let run = || map_concurrent::run_on(&map, seed.as_ref().unwrap());
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_ok()
        };
        assert!(!seeds.iter().all(passes), "{mutation:?}");
    }
}
