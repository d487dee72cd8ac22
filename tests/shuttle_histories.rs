//! Histories of files and status trees under many schedules: whatever the schedule, one order explains all answers.
//!
//! `cargo test --release --features shuttle --test shuttle_histories`; `SCHEDULES` sets how many schedules of each kind
//! a model runs. A failure prints the history, and a schedule that [`shuttle::replay`] repeats.
#![cfg(feature = "shuttle")]

use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

#[path = "common/linear/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other tests run rounds by time")]
mod linear;
#[path = "common/random.rs"]
mod random;
#[path = "common/schedules.rs"]
mod schedules;

use linear::broken::{BrokenFile, BrokenTree, FileFault, TreeFault};
use linear::{Verdict, file, status};
use schedules::{first_violation, holds};

/// Schedules of each kind for one model, if nobody asks for another number.
const SCHEDULES: usize = 700;

/// What threads do is part of the schedule.
fn seed() -> u64 {
    thread_rng().r#gen()
}

fn assert_explained((_, verdict): (usize, Verdict)) {
    match verdict {
        Verdict::Explained => {}
        Verdict::Unknown => panic!("a history that is not proven"),
        Verdict::Violated(text) => panic!("{text}"),
    }
}

fn file_plan(shape: file::Shape) -> file::Plan {
    file::Plan {
        calls: 3,
        ..file::Plan::of(shape)
    }
}

fn tree_plan(ratio: u64) -> status::Plan {
    status::Plan {
        threads: 3,
        calls: 4,
        ..status::Plan::of(ratio)
    }
}

#[test]
fn every_schedule_of_a_file_is_explained() {
    for shape in file::SHAPES {
        holds(shape.name, move || {
            assert_explained(file_plan(shape).round(seed()));
        });
    }
}

#[test]
fn every_schedule_of_a_status_tree_is_explained() {
    for ratio in [1, 4] {
        let name = format!("status tree, clusters of {ratio}");
        holds(&name, move || {
            assert_explained(tree_plan(ratio).round(seed()))
        });
    }
}

fn assert_found(name: &str, body: impl Fn() + Send + Sync + 'static) {
    let found = first_violation(body);
    let schedule = found.unwrap_or_else(|| panic!("{name}: not found"));
    println!("{name}: found in schedule {schedule}");
}

#[test]
fn without_the_second_look_a_schedule_shows_it() {
    assert_found("no second look", || {
        let plan = file::Plan {
            skip_second_look: true,
            ..file_plan(file::SHAPES[0])
        };
        assert_explained(plan.round(seed()));
    });
}

#[test]
fn files_that_break_a_promise_are_found() {
    for fault in FileFault::ALL {
        assert_found(&format!("{fault:?}"), move || {
            let broken = |world| BrokenFile::new(world, fault);
            assert_explained(file_plan(file::SHAPES[0]).round_of(seed(), broken));
        });
    }
}

#[test]
fn status_trees_that_break_a_promise_are_found() {
    for fault in TreeFault::ALL {
        assert_found(&format!("{fault:?}"), move || {
            let broken = |tree| BrokenTree::new(tree, fault);
            assert_explained(tree_plan(4).round_of(seed(), broken));
        });
    }
}
