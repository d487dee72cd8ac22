//! What breaks a promise between threads must be found by the seeds of `file_concurrent`.
#![cfg(feature = "shuttle")]

use extent_map::probe::{Mutation, Probe};
use extent_map_fuzz::file_concurrent;

#[path = "common/inputs.rs"]
#[allow(dead_code, reason = "some is for other tests")]
mod inputs;

use inputs::is_found;

#[test]
fn the_seeds_miss_each_of_these_protections() {
    for mutation in [
        Mutation::SkipSecondLook,
        Mutation::KeepMappingsWritable,
        Mutation::UnlockFoliosOverIo,
        Mutation::DelayUntrimmed,
        Mutation::CountTrimmedEntry,
        Mutation::StoreSizeUnclamped,
        Mutation::DropUnstoredSize,
        Mutation::IgnoreClusterOffset,
        Mutation::ConvertByMode,
    ] {
        let found = is_found("file_concurrent", |seed| {
            file_concurrent::run_with(Probe::new().mutations([mutation]), seed);
        });
        assert!(found, "{mutation:?}");
    }
}
