//! The allocator, case by case: goals, groups, refusals.

use std::sync::Arc;

use extent_map::allocator::{AllocRequest, Allocator, Ledger};
use extent_map::units::{DiskBlock, DiskRun};
use extent_map::{Error, Result};

#[path = "common/space.rs"]
mod space;

use space::{allocate_all, allocator, geometry, run};

/// Reserves and commits up to `clusters` clusters at `goal`.
fn take_near(allocator: &Allocator, goal: u64, clusters: u64) -> Result<DiskRun> {
    let request = AllocRequest::near(DiskBlock(goal), clusters);
    Ok(allocator.allocate_direct(request)?.commit())
}

#[test]
fn a_free_goal_is_taken_although_a_longer_run_lies_elsewhere() {
    let allocator = allocator(64, 32);
    allocator.claim(run(12, 1)).unwrap();
    assert_eq!(take_near(&allocator, 10, 8), Ok(run(10, 2)));
}

#[test]
fn a_used_goal_yields_the_first_run_behind_it_that_is_long_enough() {
    let allocator = allocator(64, 32);
    for used in [10, 13, 20] {
        allocator.claim(run(used, 1)).unwrap();
    }
    assert_eq!(take_near(&allocator, 10, 5), Ok(run(14, 5)));
}

#[test]
fn without_a_run_long_enough_the_longest_one_is_taken() {
    let allocator = allocator(64, 16);
    for (start, end) in [(1, 5), (7, 21), (25, 40), (43, 64)] {
        allocator.claim(run(start, end - start)).unwrap();
    }
    assert_eq!(take_near(&allocator, 50, 9), Ok(run(21, 4)));
    assert_eq!(
        allocator.space().available(),
        5,
        "what was not found is available again"
    );
}

#[test]
fn the_goals_group_is_searched_in_front_of_the_goal_too() {
    let allocator = allocator(32, 16);
    allocator.claim(run(9, 7)).unwrap();
    allocator.claim(run(18, 14)).unwrap();
    assert_eq!(take_near(&allocator, 10, 8), Ok(run(1, 8)));
    assert_eq!(take_near(&allocator, 10, 2), Ok(run(16, 2)));
}

#[test]
fn more_than_is_available_is_refused_even_if_a_part_could_be_had() {
    let allocator = allocator(64, 16);
    allocator.claim(run(1, 60)).unwrap();
    assert_eq!(take_near(&allocator, 50, 4), Err(Error::NoSpace));
    assert_eq!(take_near(&allocator, 50, 3), Ok(run(61, 3)));
}

#[test]
fn no_number_of_clusters_is_too_large_to_be_refused() {
    let allocator = allocator(64, 16);
    for clusters in [u64::from(u32::MAX) + 1, 1 << 63, u64::MAX] {
        assert_eq!(allocator.reserve(clusters).err(), Some(Error::NoSpace));
        let request = AllocRequest::anywhere(clusters);
        let direct = allocator.allocate_direct(request);
        assert_eq!(direct.err(), Some(Error::NoSpace));
        let claimed = allocator.claim(run(1, clusters));
        assert!(matches!(claimed, Err(Error::Corrupt(_))), "{claimed:?}");
    }
    allocator.check().unwrap();
}

#[test]
fn a_run_never_crosses_a_group_but_a_free_may() {
    let allocator = allocator(32, 8);
    assert_eq!(take_near(&allocator, 6, 8), Ok(run(6, 2)));
    assert_eq!(take_near(&allocator, 8, 8), Ok(run(8, 8)));
    assert_eq!(take_near(&allocator, 16, 3), Ok(run(16, 3)));
    assert_eq!(allocator.allocated_runs(), [run(6, 13)]);
    allocator.free(run(7, 11)).unwrap();
    assert_eq!(allocator.allocated_runs(), [run(6, 1), run(18, 1)]);
    allocator.check().unwrap();
}

#[test]
fn only_whole_clusters_behind_the_volumes_own_are_handed_out() {
    // 83 blocks are 20 whole clusters of 4; groups of 8 clusters, so the last one has 4.
    let allocator = Allocator::new(83, geometry(1024, 4), 8, DiskBlock(5)).unwrap();
    assert_eq!(
        allocator.space().total(),
        18,
        "block 4 makes the second cluster the volume's"
    );
    let runs = allocate_all(&allocator, allocator.reserve(18).unwrap(), 40);
    assert_eq!(runs, [run(40, 24), run(8, 24), run(64, 16), run(32, 8)]);
    assert_eq!(allocator.allocated_runs(), [run(8, 72)]);
    assert!(allocator.is_allocated(DiskBlock(0)), "the volume's own");
    assert!(
        !allocator.is_allocated(DiskBlock(80)),
        "not a whole cluster"
    );
    assert!(!allocator.is_allocated(DiskBlock(u64::MAX)));
}

#[test]
fn runs_that_cannot_be_freed_change_nothing() {
    let allocator = Allocator::new(256, geometry(1024, 4), 8, DiskBlock(4)).unwrap();
    allocator.claim(run(16, 64)).unwrap();
    let before = (allocator.allocated_runs(), allocator.space());
    let refused = [
        (run(16, 0), false),
        (run(18, 4), false),
        (run(16, 6), false),
        (run(0, 4), false),
        (run(252, 8), false),
        (run(u64::MAX - 3, 8), false),
        (run(8, 4), true),
        (run(16, 68), true),
        (run(12, 68), true),
    ];
    for (bad, corrupt) in refused {
        let error = allocator.free(bad).unwrap_err();
        assert_eq!(
            matches!(error, Error::Corrupt(_)),
            corrupt,
            "{bad:?}: {error}"
        );
        assert_eq!(
            matches!(error, Error::InvalidInput(_)),
            !corrupt,
            "{bad:?}: {error}"
        );
        assert_eq!(allocator.free_into_reservation(bad).unwrap_err(), error);
        assert_eq!(
            (allocator.allocated_runs(), allocator.space()),
            before,
            "{bad:?}"
        );
    }
    allocator.free(run(16, 64)).unwrap();
    assert!(
        matches!(allocator.free(run(16, 64)), Err(Error::Corrupt(_))),
        "a double free"
    );
    allocator.check().unwrap();
}

#[test]
fn a_run_that_was_freed_before_it_was_committed_is_not_given_back_again() {
    let allocator = allocator(16, 8);
    let allocation = allocator
        .allocate_direct(AllocRequest::near(DiskBlock(4), 3))
        .unwrap();
    assert_eq!(allocation.run(), run(4, 3));
    allocator.free(run(4, 3)).unwrap();
    assert_eq!(allocation.cancel().clusters(), 0);
    assert_eq!(allocator.space().used(), 0);
    allocator.check().unwrap();
}

#[test]
fn dropped_allocations_and_reservations_give_everything_back() {
    let allocator = allocator(16, 8);
    let empty = allocator.space();
    drop(
        allocator
            .allocate_direct(AllocRequest::anywhere(3))
            .unwrap(),
    );
    assert_eq!(
        (allocator.space(), allocator.allocated_runs()),
        (empty, vec![])
    );

    let mut space = allocator.reserve(7).unwrap();
    let allocation = allocator
        .allocate(AllocRequest::anywhere(3), &mut space)
        .unwrap();
    assert_eq!((allocation.clusters(), space.clusters()), (3, 4));
    let cancelled = allocation.cancel();
    assert_eq!(cancelled.clusters(), 3);
    assert_eq!(
        (allocator.space().promised(), allocator.allocated_runs()),
        (7, vec![])
    );
    space.merge(cancelled).unwrap();
    assert_eq!(space.clusters(), 7);
    drop(space);
    assert_eq!(allocator.space(), empty);
}

#[test]
fn a_full_volume_still_turns_a_free_into_a_promise() {
    let allocator = allocator(9, 4);
    allocator.claim(run(1, 8)).unwrap();
    assert_eq!(allocator.reserve(1).unwrap_err(), Error::NoSpace);
    let mut space = allocator.free_into_reservation(run(3, 2)).unwrap();
    assert_eq!(
        (allocator.space().available(), allocator.space().promised()),
        (0, 2)
    );
    assert_eq!(
        allocator.reserve(1).unwrap_err(),
        Error::NoSpace,
        "it is promised"
    );
    let allocation = allocator
        .allocate(AllocRequest::near(DiskBlock(3), 2), &mut space)
        .unwrap();
    assert_eq!(allocation.commit(), run(3, 1), "the group ends");
    assert_eq!(
        allocator
            .allocate_direct(AllocRequest::anywhere(1))
            .unwrap_err(),
        Error::NoSpace
    );
    assert_eq!(space.clusters(), 1);
}

#[test]
fn claims_that_contradict_the_bitmap_change_nothing() {
    let allocator = allocator(32, 8);
    allocator.claim(run(7, 3)).unwrap();
    let before = (allocator.allocated_runs(), allocator.space());
    for bad in [
        run(0, 2),
        run(9, 1),
        run(2, 20),
        run(31, 2),
        run(4, 0),
        run(u64::MAX, 2),
    ] {
        assert!(
            matches!(allocator.claim(bad), Err(Error::Corrupt(_))),
            "{bad:?}"
        );
    }
    let promised = allocator.reserve(27).unwrap();
    assert_eq!(
        allocator.claim(run(10, 2)),
        Err(Error::NoSpace),
        "all but one are promised"
    );
    drop(promised);
    assert_eq!((allocator.allocated_runs(), allocator.space()), before);
    allocator.check().unwrap();
}

#[test]
fn reservations_refuse_what_they_do_not_hold() {
    let ledger = Arc::new(Ledger::new(10).unwrap());
    let mut space = ledger.reserve(6).unwrap();
    assert_eq!(ledger.reserve(5).unwrap_err(), Error::NoSpace);
    assert_eq!(ledger.reserve(u64::MAX).unwrap_err(), Error::NoSpace);
    assert!(matches!(space.split(7), Err(Error::Corrupt(_))));
    assert_eq!(space.clusters(), 6);

    let other = Arc::new(Ledger::new(10).unwrap());
    let foreign = other.reserve(2).unwrap();
    assert!(matches!(space.merge(foreign), Err(Error::InvalidInput(_))));
    assert_eq!((space.clusters(), other.snapshot().available()), (6, 10));

    let part = space.split(6).unwrap();
    assert_eq!((part.clusters(), space.clusters()), (6, 0));
    part.give_back();
    assert_eq!(ledger.snapshot().available(), 10);
}

#[test]
fn requests_that_make_no_sense_leave_the_reservation_alone() {
    let allocator = allocator(16, 8);
    let mut space = allocator.reserve(2).unwrap();
    let nothing = allocator.allocate(AllocRequest::anywhere(0), &mut space);
    assert!(matches!(nothing, Err(Error::InvalidInput(_))));
    let mut foreign = Arc::new(Ledger::new(10).unwrap()).reserve_owned(2).unwrap();
    let foreigner = allocator.allocate(AllocRequest::anywhere(1), &mut foreign);
    assert!(matches!(foreigner, Err(Error::InvalidInput(_))));
    let mut none = allocator.reserve(0).unwrap();
    let penniless = allocator.allocate(AllocRequest::anywhere(1), &mut none);
    assert!(matches!(penniless, Err(Error::InvalidInput(_))));
    assert_eq!((space.clusters(), foreign.clusters()), (2, 2));
    let far = AllocRequest::near(DiskBlock(u64::MAX), 2);
    assert_eq!(
        allocator.allocate(far, &mut space).unwrap().run(),
        run(1, 2)
    );
}

#[test]
fn volumes_that_cannot_be_are_refused() {
    let one = geometry(4096, 1);
    let no_group = Allocator::new(16, one, 0, DiskBlock(1));
    assert!(matches!(no_group, Err(Error::InvalidInput(_))));
    let all_metadata = Allocator::new(16, one, 8, DiskBlock(17));
    assert!(matches!(all_metadata, Err(Error::InvalidInput(_))));
    let too_large = Allocator::new(u64::MAX, one, u64::MAX, DiskBlock(1));
    assert!(matches!(too_large, Err(Error::NotSupported(_))));
    let long_group = Allocator::new(1 << 32, one, u64::MAX, DiskBlock(1));
    assert!(matches!(long_group, Err(Error::NotSupported(_))));
    let little_usable = Allocator::new(1 << 40, one, 1 << 15, DiskBlock((1 << 40) - 9));
    assert!(matches!(little_usable, Err(Error::NotSupported(_))));
    let nothing = Allocator::new(16, one, 8, DiskBlock(16)).unwrap();
    assert_eq!(nothing.reserve(1).unwrap_err(), Error::NoSpace);
}

#[test]
fn the_largest_ledger_counts_exactly() {
    assert!(matches!(Ledger::new(1 << 32), Err(Error::NotSupported(_))));
    let total = (1 << 32) - 1;
    let ledger = Arc::new(Ledger::new(total).unwrap());
    let all = ledger.reserve(total).unwrap();
    let full = ledger.snapshot();
    assert_eq!(
        (full.available(), full.promised(), full.used()),
        (0, total, 0)
    );
    drop(all);
    assert_eq!(
        (ledger.snapshot().available(), ledger.snapshot().promised()),
        (total, 0)
    );
}
