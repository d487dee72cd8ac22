//! Replays the committed seeds, and what a campaign has found, without a fuzzing engine.

use std::fs;
use std::path::{Path, PathBuf};

use extent_map_fuzz::TARGETS;

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
