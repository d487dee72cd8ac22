//! The bugs of ext4 that this design could have, each played again: with the protection the invariants hold, without
//! it they break. `README.md` lists all of them, with those that cannot be written down here.

mod allocator;
#[path = "../common/around.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod around;
mod bug;
mod by_construction;
mod exposure;
mod inline;
#[path = "../common/passed_on.rs"]
mod passed_on;
mod reservations;
mod scene;
mod sizes;
#[path = "../common/space.rs"]
mod space;
mod stale_extents;
mod steered;

use std::collections::BTreeSet;

use bug::{Bug, Proof};

/// How many bugs the list has.
const BUGS: u8 = 37;

/// Every bug with the name of its test, in order of number.
fn all() -> Vec<(String, &'static Bug)> {
    let files = [
        ("allocator", allocator::BUGS),
        ("by_construction", by_construction::BUGS),
        ("exposure", exposure::BUGS),
        ("inline", inline::BUGS),
        ("reservations", reservations::BUGS),
        ("sizes", sizes::BUGS),
        ("stale_extents", stale_extents::BUGS),
    ];
    let mut all = Vec::new();
    for (file, bugs) in files {
        all.extend(
            bugs.iter()
                .map(|(name, bug)| (format!("{file}::{name}"), bug)),
        );
    }
    all.sort_by_key(|(_, bug)| bug.number);
    all
}

#[test]
fn every_bug_of_the_list_is_here_once() {
    let numbers: Vec<_> = all().iter().map(|(_, bug)| bug.number).collect();
    assert_eq!(numbers, (1..=BUGS).collect::<Vec<_>>());
}

#[test]
fn no_two_bugs_are_brought_back_in_the_same_way() {
    let mut ways = BTreeSet::new();
    for (_, bug) in all() {
        if let Proof::Protected(sets, _) = bug.proof {
            let fresh = sets.iter().all(|set| ways.insert(format!("{set:?}")));
            assert!(fresh, "bug {} is another one again", bug.number);
        }
    }
}

#[test]
fn the_readme_lists_what_is_proven() {
    let rows: Vec<_> = all().iter().map(|(name, bug)| bug.row(name)).collect();
    let table = rows.join("\n");
    assert!(
        include_str!("README.md").contains(&table),
        "the rows of the table should be\n{table}\n"
    );
}
