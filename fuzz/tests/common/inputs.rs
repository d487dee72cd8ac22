//! Inputs of targets.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// The inputs in a folder of this package, none if it does not exist.
pub(crate) fn inputs(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Whether `run` panics for one of the committed seeds of `target`.
pub(crate) fn is_found(target: &str, mut run: impl FnMut(&[u8])) -> bool {
    inputs(Path::new("seeds").join(target)).iter().any(|seed| {
        let bytes = fs::read(seed).unwrap();
        catch_unwind(AssertUnwindSafe(|| run(&bytes))).is_err()
    })
}
