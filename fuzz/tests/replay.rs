//! Replays the committed seeds, and what a campaign has found, without a fuzzing engine.

use std::fs;
use std::path::Path;

use extent_map_fuzz::{TARGETS, recorded};

#[path = "common/inputs.rs"]
#[allow(dead_code, reason = "some is for other tests")]
mod inputs;

use inputs::inputs;

#[test]
fn every_seed_and_every_find_passes() {
    for (name, run) in TARGETS {
        let committed = inputs(Path::new("seeds").join(name));
        assert!(committed.len() >= 4, "{name} has no seeds");
        let found = inputs(Path::new("artifacts").join(name));
        for input in committed.iter().chain(&found) {
            println!("{}", input.display());
            run(&fs::read(input).unwrap());
        }
        println!("{name}: {} inputs", committed.len() + found.len());
    }
}

#[test]
fn the_seeds_made_of_recordings_are_up_to_date() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let seeds = recorded::seeds(&home.join("../tests/traces"));
    assert!(seeds.len() > 100, "{} seeds", seeds.len());
    for seed in seeds {
        let path = home.join("seeds").join(seed.target).join(&seed.name);
        let committed = fs::read(&path).unwrap_or_default();
        assert!(
            committed == seed.bytes,
            "run the example `seeds` again: {}",
            path.display()
        );
    }
}
