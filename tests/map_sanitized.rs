//! Maps that break promises in ways that only a sanitizer sees for certain. They do what is undefined, so
//! these tests are for `.ci/sanitizers`, which wants each of them reported.

use extent_map::map::probe::{Mutation, Probe};
use extent_map::map::{ExtentMap, Reclaimer};

#[path = "common/race.rs"]
mod race;

use race::race;

/// Readers beside a writer that fills a broken map with `extents` extents, then empties it, many times over.
fn race_on(mutation: Mutation, extents: u64) {
    let probe = Probe::new().mutation(mutation);
    let map = ExtentMap::with_probe(&Reclaimer::new(), probe);
    for _ in 0..20 {
        race(
            |n| {
                let start = n % extents * 4;
                map.insert(start..start + 2, n << 32).unwrap();
                if n % extents == 0 {
                    map.remove(..).unwrap();
                }
            },
            || {
                let view = map.pin();
                (0..extents * 4)
                    .step_by(7)
                    .for_each(|block| _ = view.get(block));
                view.iter().for_each(drop);
            },
        );
    }
}

#[test]
#[ignore = "undefined behaviour, for the address sanitizer to report"]
fn memory_that_readers_look_at_is_freed() {
    // Enough that an empty map gives memory back to the allocator.
    race_on(Mutation::EarlyFree, 10_000);
}

#[test]
#[ignore = "undefined behaviour, for the thread sanitizer to report"]
fn memory_that_readers_look_at_is_reused() {
    race_on(Mutation::EarlyFree, 200);
}

#[test]
#[ignore = "undefined behaviour, for the thread sanitizer to report"]
fn what_is_published_is_not_ordered() {
    race_on(Mutation::RelaxedPublish, 200);
}
