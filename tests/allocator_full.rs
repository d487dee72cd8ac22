//! Where things come to lie on a rather full volume: small ones near its start, files in holes that fit what they are
//! known to need, and neither in a long run as long as anything else will do.

use std::ops::Range;

use extent_map::allocator::{AllocRequest, Allocator, FileRequest, FileSpace, Goal};
use extent_map::units::{DiskBlock, DiskRun};

#[path = "common/space.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod space;

use space::{allocator, run};

/// A long run that is 18 % of the volume, so that it is neither roomy nor nearly full.
const LONG: (u64, u64) = (10_000, 12_000);

/// A volume of 256 MiB that is full but for some holes.
fn full_but_for(holes: &[(u64, u64)]) -> Allocator {
    let allocator = allocator(1 << 16, 1 << 15);
    allocator.claim(run(1, (1 << 16) - 1)).unwrap();
    for (start, len) in holes {
        allocator.free(run(*start, *len)).unwrap();
    }
    allocator
}

fn take(allocator: &Allocator, request: AllocRequest) -> DiskRun {
    allocator.allocate_direct(request).unwrap().commit()
}

/// Where `clusters` clusters from `at` on of a file come to lie that is known to have `size` in the end, and which of its
/// clusters the window behind them is for.
fn write(
    allocator: &Allocator,
    at: u64,
    clusters: u64,
    size: u64,
) -> (DiskRun, Option<Range<u64>>) {
    let file = FileSpace::new(0);
    let request = FileRequest::at(at, clusters).file_clusters(size);
    let mut space = allocator.reserve(clusters).unwrap();
    let allocation = allocator.allocate_for(&file, request, &mut space);
    let run = allocation.expect("reserved space is always there").commit();
    let windows = allocator.windows(&file);
    assert!(windows.iter().all(|(_, place)| place.start == run.end()));
    (run, windows.first().map(|(range, _)| range.clone()))
}

#[test]
fn small_wishes_go_to_the_start_of_the_volume_while_some_space_is_left() {
    let allocator = full_but_for(&[(100, 30), (5000, 8), LONG]);
    assert_eq!(take(&allocator, AllocRequest::anywhere(8)), run(100, 8));
    let nearly_full = full_but_for(&[(100, 30), (5000, 8), (10_000, 3000)]);
    let just_fits = take(&nearly_full, AllocRequest::anywhere(8));
    assert_eq!(just_fits, run(5000, 8));
}

#[test]
fn wishes_that_are_not_small_go_where_they_just_fit() {
    let allocator = full_but_for(&[(100, 90), (5000, 42), LONG]);
    assert_eq!(take(&allocator, AllocRequest::anywhere(40)), run(5000, 40));
}

#[test]
fn a_goal_to_be_near_is_kept_exactly_or_not_at_all() {
    let allocator = full_but_for(&[(100, 30), (40_000, 50), (50_000, 44), LONG]);
    let near = |block| AllocRequest::anywhere(40).goal(Goal::Near(DiskBlock(block)));
    assert_eq!(take(&allocator, near(40_005)), run(40_005, 40));
    assert_eq!(
        take(&allocator, near(120)),
        run(50_000, 40),
        "not behind it"
    );
}

#[test]
fn what_a_file_is_known_to_need_is_placed_as_a_whole_where_it_fits() {
    let allocator = full_but_for(&[(100, 60), (1000, 300), (2000, 410), LONG]);
    let (first, window) = write(&allocator, 0, 20, 400);
    assert_eq!((first, window), (run(2000, 20), Some(20..400)));
}

#[test]
fn what_a_file_is_known_to_need_ends_where_the_file_ends() {
    let allocator = full_but_for(&[(100, 60), (1000, 340), (2000, 530), LONG]);
    let (next, window) = write(&allocator, 100, 20, 420);
    assert_eq!((next, window), (run(1000, 20), Some(120..420)));
}

#[test]
fn half_of_it_where_little_is_left_over_is_better_than_the_whole_where_much_is() {
    let allocator = full_but_for(&[(100, 60), (1000, 210), (2000, 700), LONG]);
    let (first, window) = write(&allocator, 0, 20, 400);
    assert_eq!((first, window), (run(1000, 20), Some(20..200)));
}

#[test]
fn a_long_run_is_not_broken_while_another_has_half_of_the_wish() {
    let allocator = full_but_for(&[(100, 15), (200, 5), LONG]);
    let (first, _) = write(&allocator, 0, 20, 400);
    assert_eq!(first, run(100, 15));
    let (second, _) = write(&allocator, 0, 20, 400);
    assert_eq!(second, run(10_000, 20), "5 are too few");
}

#[test]
fn small_files_share_no_window() {
    let allocator = full_but_for(&[(100, 30), LONG]);
    let (first, window) = write(&allocator, 0, 3, 3);
    assert_eq!((first, window), (run(100, 3), None));
    let left = allocator.ledger().snapshot().available();
    assert_eq!(left, allocator.space().available(), "nothing is withheld");
}
