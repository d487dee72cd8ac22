//! What threads see of a file, or of an extent status tree, has one order that explains it; and files and trees that
//! break a promise are found out.

use std::env;
use std::thread;
use std::time::Duration;

#[path = "common/linear/mod.rs"]
mod linear;
#[path = "common/random.rs"]
mod random;

use linear::broken::{BrokenFile, BrokenTree, FileFault, TreeFault};
use linear::{Rounds, Totals, Verdict, file, status};

/// Rounds for as long as EXTENT_MAP_HISTORY_SECONDS says.
fn some_rounds() -> Rounds {
    let seconds = env::var("EXTENT_MAP_HISTORY_SECONDS");
    let seconds = seconds.map_or(0.7, |text| text.parse().expect("a number"));
    Rounds {
        seed: 1,
        rounds: u64::MAX,
        time: Duration::from_secs_f64(seconds),
        stop_at_violation: true,
    }
}

fn assert_explained(name: &str, totals: &Totals) {
    let (histories, operations) = (totals.histories, totals.operations);
    println!("{name}: {histories} histories, {operations} operations");
    if let Some((seed, text)) = totals.violations.first() {
        panic!("{name}, seed {seed}: {text}");
    }
    assert!(histories > 0);
    assert_eq!(totals.unknown, 0, "{name}: histories that are not proven");
}

#[test]
fn every_history_of_a_file_is_explained() {
    for shape in file::SHAPES {
        let totals = some_rounds().run(|seed| file::Plan::of(shape).round(seed));
        assert_explained(shape.name, &totals);
    }
}

#[test]
fn every_history_of_a_status_tree_is_explained() {
    for ratio in [1, 4] {
        let totals = some_rounds().run(|seed| status::Plan::of(ratio).round(seed));
        assert_explained(&format!("clusters of {ratio}"), &totals);
    }
}

/// Runs rounds until one is not explained.
fn assert_found(name: &str, round: impl FnMut(u64) -> (usize, Verdict)) {
    let rounds = Rounds {
        rounds: 20_000,
        time: Duration::from_secs(120),
        ..some_rounds()
    };
    let totals = rounds.run(round);
    let found = totals.violations.first();
    let (seed, _) = found.unwrap_or_else(|| panic!("{name}: not found in {totals:?}"));
    println!("{name}: found in round {seed}");
}

#[test]
fn files_that_break_a_promise_are_found() {
    let plan = file::Plan::of(file::SHAPES[0]);
    for fault in FileFault::ALL {
        assert_found(&format!("{fault:?}"), |seed| {
            plan.round_of(seed, |world| BrokenFile::new(world, fault))
        });
    }
}

#[test]
fn without_the_second_look_a_history_shows_it() {
    for shape in file::SHAPES.into_iter().filter(|shape| shape.delayed) {
        let plan = file::Plan {
            skip_second_look: true,
            ..file::Plan::of(shape)
        };
        assert_found(shape.name, |seed| plan.round(seed));
    }
}

#[test]
fn status_trees_that_break_a_promise_are_found() {
    for fault in TreeFault::ALL {
        assert_found(&format!("{fault:?}"), |seed| {
            status::Plan::of(4).round_of(seed, |tree| BrokenTree::new(tree, fault))
        });
    }
}
