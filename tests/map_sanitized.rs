//! Maps that break promises in ways that only a sanitizer sees for certain. They do what is undefined, so
//! these tests are for `.ci/sanitizers`, which wants each of them reported.

use extent_map::map::probe::{Mutation, Probe};
use extent_map::map::{ExtentMap, Reclaimer};

#[path = "common/race.rs"]
mod race;

use race::race;

fn race_on(mutation: Mutation) {
    let probe = Probe::new().mutation(mutation);
    let map = ExtentMap::with_probe(&Reclaimer::new(), probe);
    for i in 0..200_u64 {
        map.insert(i * 4..i * 4 + 2, i << 32).unwrap();
    }
    race(
        |n| {
            let start = n * 7 % 200 * 4;
            map.remove(start..start + 1).unwrap();
            map.insert(start..start + 2, n << 32).unwrap();
        },
        || {
            let view = map.pin();
            (0..800).step_by(3).for_each(|block| _ = view.get(block));
            view.iter().for_each(drop);
        },
    );
}

#[test]
#[ignore = "undefined behaviour, for the address sanitizer to report"]
fn memory_that_readers_may_have_is_freed() {
    race_on(Mutation::EarlyFree);
}

#[test]
#[ignore = "undefined behaviour, for the thread sanitizer to report"]
fn what_is_published_is_not_ordered() {
    race_on(Mutation::RelaxedPublish);
}
