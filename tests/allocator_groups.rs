//! Groups: read when they are needed, fenced off when they cannot be trusted, passed by when they are busy; and what
//! the levels of a search find in them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use extent_map::allocator::{AllocRequest, Allocator, Change, Goal, GroupSource};
use extent_map::probe::{Moment, Probe};
use extent_map::units::{DiskBlock, DiskRun};
use extent_map::{Error, Result};

#[path = "common/space.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod space;

use space::{allocator, geometry, run};

fn take(allocator: &Allocator, request: AllocRequest) -> Result<DiskRun> {
    Ok(allocator.allocate_direct(request)?.commit())
}

/// Groups that an allocation looks at, on a full volume of 1000 groups of 1024 clusters with a free run of `free` clusters from
/// cluster 201 of each on; and how much it got.
fn looks(free: u64, request: AllocRequest) -> (u64, u64) {
    let looks = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&looks);
    let probe = Probe::new().at(Moment::LookingAtGroup, move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let allocator = allocator(1024 * 1000, 1024).with_probe(probe);
    for group in 0..1000 {
        let own = u64::from(group == 0);
        allocator.claim(run(group * 1024 + own, 201 - own)).unwrap();
        let behind = 201 + free;
        allocator
            .claim(run(group * 1024 + behind, 1024 - behind))
            .unwrap();
    }
    let mut promise = allocator.reserve(request.clusters()).unwrap();
    let allocation = allocator.allocate(request, &mut promise).unwrap();
    (looks.load(Ordering::Relaxed), allocation.clusters())
}

#[test]
fn a_search_looks_at_few_groups_of_many_that_may_not_have_what_it_is_for() {
    let anywhere = |clusters| AllocRequest::anywhere(clusters);
    let near = |clusters| AllocRequest::near(DiskBlock(100), clusters);
    for (free, request, got) in [
        // No run is long enough, and all are as long.
        (1, anywhere(64), 1),
        (3, near(64), 3),
        (12, anywhere(64), 12),
        // All have the order of the wish.
        (5, anywhere(7), 5),
        (33, near(40), 33),
        (400, anywhere(500), 400),
        (400, near(500), 400),
        // All are long enough, but not for a wish that is aligned to itself.
        (300, anywhere(256), 256),
        (300, near(256), 256),
    ] {
        let (looks, clusters) = looks(free, request);
        assert_eq!(clusters, got, "{request:?} of {free}");
        assert!(looks < 400, "{looks} looks: {request:?} of {free}");
    }
}

#[test]
fn what_is_needed_in_one_run_is_found_behind_many_groups_that_may_have_it_and_do_not() {
    const GROUPS: u64 = 200;
    let allocator = allocator(16 * GROUPS, 16);
    // Runs of 4 to 7 clusters are of one order; only those of the last group have 7.
    let group = |number: u64| run(16 * number, 16);
    for number in 0..GROUPS - 1 {
        let own = u64::from(number == 0);
        let (start, rest) = (group(number).start.0 + own, 16 - own);
        allocator.claim(run(start, rest - 4)).unwrap();
    }
    allocator.claim(run(16 * (GROUPS - 1), 9)).unwrap();
    let needed = AllocRequest::near(DiskBlock(0), 7).at_least(7);
    assert_eq!(take(&allocator, needed), Ok(run(16 * GROUPS - 7, 7)));
    let wanted = AllocRequest::near(DiskBlock(0), 7);
    assert_eq!(take(&allocator, wanted).map(|run| run.len), Ok(4));
}

// --- levels --------------------------------------------------------------------------------------------

#[test]
fn a_goal_that_is_too_short_for_the_minimum_is_passed_by() {
    let allocator = allocator(64, 64);
    allocator.claim(run(13, 1)).unwrap();
    let near = AllocRequest::near(DiskBlock(10), 8);
    assert_eq!(take(&allocator, near.at_least(4)), Ok(run(14, 8)));
    assert_eq!(take(&allocator, near.at_least(3)), Ok(run(10, 3)));
}

#[test]
fn a_run_can_be_asked_for_ahead_of_a_neighbour_or_near_it() {
    let allocator = allocator(64, 64);
    allocator.claim(run(20, 5)).unwrap();
    let wish = AllocRequest::anywhere(6);
    assert_eq!(
        take(&allocator, wish.goal(Goal::UpTo(DiskBlock(20)))),
        Ok(run(14, 6))
    );
    let near = wish.goal(Goal::Near(DiskBlock(30)));
    assert_eq!(take(&allocator, near), Ok(run(30, 6)));
    // Not all of it is free there: the first place behind that has it.
    assert_eq!(
        take(&allocator, near.goal(Goal::Near(DiskBlock(25)))),
        Ok(run(36, 6))
    );
    let nothing_there = wish.goal(Goal::UpTo(DiskBlock(20)));
    assert_eq!(take(&allocator, nothing_there), Ok(run(42, 6)));
}

#[test]
fn goals_are_blocks_in_whatever_group_and_cluster_they_lie() {
    let allocator = Allocator::new(4096, geometry(1024, 4), 64, DiskBlock(4)).unwrap();
    allocator.claim(run(800, 20)).unwrap();
    let wish = AllocRequest::anywhere(6);
    let up_to = wish.goal(Goal::UpTo(DiskBlock(800)));
    assert_eq!(take(&allocator, up_to), Ok(run(776, 24)));
    let near = wish.goal(Goal::Near(DiskBlock(1605)));
    assert_eq!(take(&allocator, near), Ok(run(1604, 24)));
}

#[test]
fn a_long_wish_near_a_goal_is_served_there_and_not_where_it_would_be_aligned() {
    let allocator = allocator(4096, 1024);
    allocator.claim(run(1030, 10)).unwrap();
    let near = AllocRequest::anywhere(256).goal(Goal::Near(DiskBlock(1034)));
    assert_eq!(take(&allocator, near), Ok(run(1040, 256)));
}

#[test]
fn a_group_of_long_runs_is_preferred_to_one_that_has_a_single_one() {
    let allocator = allocator(256, 64);
    allocator.claim(run(1, 63)).unwrap();
    for used in (64..100).step_by(2).chain([108]) {
        allocator.claim(run(used, 1)).unwrap();
    }
    allocator.claim(run(109, 19)).unwrap();
    let near = AllocRequest::near(DiskBlock(10), 8);
    assert_eq!(take(&allocator, near), Ok(run(128, 8)));
    // The other is found when there is nothing better.
    allocator.claim(run(136, 120)).unwrap();
    assert_eq!(take(&allocator, near), Ok(run(99, 8)));
}

#[test]
fn the_first_run_ahead_of_the_goal_is_taken_where_none_behind_it_will_do() {
    let allocator = allocator(64, 64);
    for (start, len) in [(1, 1), (8, 4), (30, 34)] {
        allocator.claim(run(start, len)).unwrap();
    }
    let near = AllocRequest::near(DiskBlock(40), 4);
    assert_eq!(take(&allocator, near), Ok(run(2, 4)), "not of the longest");
}

#[test]
fn long_powers_of_two_and_stripes_are_aligned_where_that_is_possible() {
    let allocator = allocator(4096, 1024);
    let long = AllocRequest::anywhere(256);
    assert_eq!(take(&allocator, long), Ok(run(256, 256)));
    let striped = AllocRequest::anywhere(10).aligned(12);
    assert_eq!(take(&allocator, striped), Ok(run(12, 10)));
    // Shorter wishes go where they fit best.
    assert_eq!(
        take(&allocator, AllocRequest::anywhere(8)),
        Ok(run(1, 8)),
        "of 11"
    );
    // Nothing is aligned where nothing has the length.
    let very_long = AllocRequest::anywhere(1024);
    for start in [1024, 2048, 3072] {
        assert_eq!(take(&allocator, very_long), Ok(run(start, 1024)));
    }
    let mut promise = allocator.reserve(500).unwrap();
    let longest = allocator.allocate(very_long, &mut promise).unwrap();
    assert_eq!(longest.run(), run(512, 500));
}

#[test]
fn stripes_are_counted_from_the_start_of_the_volume_in_every_group() {
    let allocator = allocator(4000, 1000);
    for group in [1, 2, 3] {
        let near = AllocRequest::anywhere(24).goal(Goal::Near(DiskBlock(1000 * group)));
        for request in [AllocRequest::anywhere(24), near] {
            let striped = take(&allocator, request.aligned(24)).unwrap();
            assert_eq!(striped.start.0 % 24, 0, "{striped:?}");
        }
    }
}

#[test]
fn a_big_wish_is_served_in_as_few_runs_as_there_can_be() {
    let allocator = allocator(256, 64);
    allocator.claim(run(100, 1)).unwrap();
    let mut space = allocator.reserve(200).unwrap();
    let request = AllocRequest::anywhere(180);
    let runs = allocator.allocate_runs(request, &mut space).unwrap();
    assert_eq!(runs.iter().map(|run| run.clusters()).sum::<u64>(), 180);
    assert_eq!((runs.len(), space.clusters()), (3, 20), "{runs:?}");
    drop(runs);
    assert_eq!(allocator.check(), Ok(()));
    let more = allocator.allocate_runs(AllocRequest::anywhere(21), &mut space);
    assert!(matches!(more, Err(Error::InvalidInput(_))));
    assert_eq!(space.clusters(), 20);
}

#[test]
fn a_stream_begins_at_its_place_and_uses_first_what_became_free_there() {
    let allocator = allocator(1 << 10, 1 << 7);
    let stream = AllocRequest::anywhere(3).stream(7);
    let first = take(&allocator, stream).unwrap();
    let second = take(&allocator, stream).unwrap();
    assert_eq!(second.start, first.end());
    allocator.free(first).unwrap();
    assert_eq!(take(&allocator, stream), Ok(first));
}

#[test]
fn on_a_rather_full_volume_the_hole_that_just_fits_is_taken_wherever_it_is() {
    let allocator = allocator(1 << 10, 1 << 7);
    allocator.claim(run(1, 1023)).unwrap();
    for (start, len) in [(10, 30), (200, 7), (300, 5), (700, 6)] {
        allocator.free(run(start, len)).unwrap();
    }
    for goal in [None, Some(DiskBlock(20)), Some(DiskBlock(1000))] {
        let wish = match goal {
            Some(DiskBlock(20)) => AllocRequest::near(DiskBlock(9), 6),
            Some(goal) => AllocRequest::near(goal, 6),
            None => AllocRequest::anywhere(6),
        };
        assert_eq!(take(&allocator, wish), Ok(run(700, 6)));
        allocator.free(run(700, 6)).unwrap();
    }
    assert_eq!(take(&allocator, AllocRequest::anywhere(8)), Ok(run(10, 8)));
}

// --- reading -------------------------------------------------------------------------------------------

/// Groups of 64 clusters; what is used in each, and which cannot be read.
#[derive(Debug)]
struct Image {
    used: Vec<Vec<Range<u64>>>,
    unreadable: Option<u64>,
    promised: Option<(u64, u64)>,
    reads: Arc<AtomicU64>,
}

impl GroupSource for Image {
    fn free_clusters(&self, group: u64) -> u64 {
        match self.promised {
            Some((of, free)) if of == group => free,
            _ => {
                let used = self.used[group as usize].iter();
                64 - used.map(|range| range.end - range.start).sum::<u64>()
            }
        }
    }

    fn used_clusters(&self, group: u64) -> Result<Vec<Range<u64>>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        match self.unreadable == Some(group) {
            true => Err(Error::Corrupt("the checksum")),
            false => Ok(self.used[group as usize].clone()),
        }
    }
}

fn image() -> Image {
    Image {
        used: vec![vec![0..60], vec![0..1, 10..12], vec![], vec![0..64]],
        unreadable: None,
        promised: None,
        reads: Arc::default(),
    }
}

fn open(image: Image) -> Result<Allocator> {
    Allocator::open(256, geometry(4096, 1), 64, DiskBlock(1), Box::new(image))
}

#[test]
fn groups_are_read_when_they_are_needed() {
    let image = image();
    let reads = Arc::clone(&image.reads);
    let reads = move || reads.load(Ordering::Relaxed);
    let allocator = open(image).unwrap();
    assert_eq!(
        (allocator.space().total(), allocator.space().available()),
        (255, 129)
    );
    assert_eq!(reads(), 0);
    assert_eq!(
        take(&allocator, AllocRequest::near(DiskBlock(70), 1)),
        Ok(run(70, 1))
    );
    assert_eq!(reads(), 1, "the goal's");
    assert_eq!(
        take(&allocator, AllocRequest::near(DiskBlock(70), 3)),
        Ok(run(71, 3))
    );
    assert_eq!(
        allocator.free(run(128, 1)).unwrap_err(),
        Error::Corrupt("freeing clusters that are not allocated")
    );
    assert_eq!(reads(), 2);
    allocator.free(run(192, 64)).unwrap();
    assert_eq!(allocator.free(run(3, 2)), Ok(()));
    assert_eq!(reads(), 4);
    assert_eq!(allocator.check(), Ok(()));
    assert_eq!(
        allocator.allocated_runs(),
        [run(1, 2), run(5, 55), run(64, 1), run(70, 4), run(74, 2)]
            .into_iter()
            .take(3)
            .chain([run(70, 6)])
            .collect::<Vec<_>>()
    );
}

#[test]
fn every_free_cluster_of_unread_groups_can_be_had() {
    let allocator = open(image()).unwrap();
    let mut space = allocator.reserve(129).unwrap();
    let runs = allocator
        .allocate_runs(AllocRequest::anywhere(129), &mut space)
        .unwrap();
    assert_eq!(
        runs[0].clusters(),
        64,
        "an unread group is better than a short run: {runs:?}"
    );
    assert_eq!(allocator.reserve(1).unwrap_err(), Error::NoSpace);
}

#[test]
fn a_group_that_cannot_be_read_or_contradicts_its_descriptor_is_fenced_off() {
    let unreadable = Image {
        unreadable: Some(1),
        ..image()
    };
    let contradicting = Image {
        promised: Some((1, 20)),
        ..image()
    };
    let overlapping = Image {
        used: vec![vec![0..60], vec![0..3, 2..5], vec![], vec![0..64]],
        ..image()
    };
    for (image, lost) in [(unreadable, 61), (contradicting, 20), (overlapping, 58)] {
        let allocator = open(image).unwrap();
        let before = allocator.space();
        assert_eq!(
            take(&allocator, AllocRequest::near(DiskBlock(70), 5)),
            Ok(run(128, 5))
        );
        let space = allocator.space();
        assert_eq!(space.total(), before.total() - lost);
        assert_eq!(space.available(), before.available() - lost - 5);
        assert!(matches!(allocator.free(run(64, 1)), Err(Error::Corrupt(_))));
        assert!(matches!(
            allocator.free_after(run(64, 1), Change(1)),
            Err(Error::Corrupt(_))
        ));
        assert_eq!(allocator.space(), space);
        let rest = space.available();
        let mut promise = allocator.reserve(rest).unwrap();
        let runs = allocator
            .allocate_runs(AllocRequest::anywhere(rest), &mut promise)
            .unwrap();
        assert!(runs.iter().all(|run| run.run().start.0 / 64 != 1));
        assert_eq!(allocator.reserve(1).unwrap_err(), Error::NoSpace);
        drop(runs);
        assert_eq!(allocator.check(), Ok(()));
    }
}

#[test]
fn what_is_the_volumes_own_is_never_free() {
    // Of a sound group 0 the first free cluster is 60; where it is fenced off, the next group has 65.
    let cases: [(&[(u64, u64)], u64); 4] = [
        (&[(0, 60)], 60),
        (&[(0, 1), (1, 60)], 60),
        (&[(1, 60)], 65),
        (&[(0, 1), (2, 60)], 65),
    ];
    for (used, first_free) in cases {
        let mut image = image();
        image.used[0] = used.iter().map(|(start, end)| *start..*end).collect();
        let own = DiskBlock(2);
        let source = Box::new(image);
        let allocator = Allocator::open(256, geometry(4096, 1), 64, own, source).unwrap();
        let near = take(&allocator, AllocRequest::near(DiskBlock(0), 1)).unwrap();
        assert_eq!(near.start, DiskBlock(first_free));
    }
}

#[test]
fn descriptors_that_promise_too_much_are_refused() {
    let promised = Some((2, 65));
    assert!(matches!(
        open(Image {
            promised,
            ..image()
        }),
        Err(Error::Corrupt(_))
    ));
    // Cluster 0 is the volume's own.
    let promised = Some((0, 64));
    assert!(matches!(
        open(Image {
            promised,
            ..image()
        }),
        Err(Error::Corrupt(_))
    ));
}

#[test]
fn a_damaged_group_is_found_and_fenced_off() {
    let allocator = allocator(256, 64);
    let kept = take(&allocator, AllocRequest::near(DiskBlock(100), 20)).unwrap();
    let open = allocator
        .allocate_direct(AllocRequest::near(DiskBlock(90), 5))
        .unwrap();
    assert_eq!(allocator.fence_damaged(), []);
    allocator.damage(1);
    assert!(matches!(allocator.check(), Err(Error::Corrupt(_))));
    assert_eq!(allocator.fence_damaged(), [1]);
    assert_eq!(allocator.check(), Ok(()));
    let space = allocator.space();
    // 39 free clusters are lost; 25 stay used.
    assert_eq!((space.total(), space.used()), (216, 25));
    assert!(matches!(allocator.free(kept), Err(Error::Corrupt(_))));
    drop(open);
    assert_eq!(allocator.space().total(), 211, "nor do these come back");
    assert_eq!(allocator.check(), Ok(()));
    assert_eq!(allocator.fence_damaged(), []);
    let mut all = allocator.reserve(allocator.space().available()).unwrap();
    let runs = allocator
        .allocate_runs(AllocRequest::near(DiskBlock(100), 191), &mut all)
        .unwrap();
    assert_eq!(runs.iter().map(|run| run.clusters()).sum::<u64>(), 191);
}

// --- held back, withheld -------------------------------------------------------------------------------

#[test]
fn what_is_freed_is_used_until_the_change_is_durable() {
    let allocator = allocator(64, 16);
    let taken = take(&allocator, AllocRequest::near(DiskBlock(4), 12)).unwrap();
    assert_eq!(taken, run(4, 12));
    allocator.free_after(run(4, 4), Change(7)).unwrap();
    allocator.free_after(run(8, 4), Change(7)).unwrap();
    allocator.free_after(run(12, 2), Change(8)).unwrap();
    let twice = allocator.free_after(run(5, 1), Change(9));
    assert!(matches!(twice, Err(Error::Corrupt(_))));
    assert!(matches!(allocator.free(run(13, 1)), Err(Error::Corrupt(_))));
    assert_eq!((allocator.space().used(), allocator.held_back()), (12, 10));
    assert_ne!(
        take(&allocator, AllocRequest::near(DiskBlock(4), 1)),
        Ok(run(4, 1))
    );
    assert_eq!(allocator.durable(Change(6)), []);
    assert_eq!(allocator.durable(Change(7)), [run(4, 8)], "merged");
    assert_eq!(
        take(&allocator, AllocRequest::near(DiskBlock(4), 8)),
        Ok(run(4, 8))
    );
    assert_eq!(allocator.durable(Change(u64::MAX)), [run(12, 2)]);
    assert_eq!(allocator.check(), Ok(()));
}

#[test]
fn neighbours_that_different_changes_free_are_not_let_go_together() {
    let allocator = allocator(64, 64);
    let taken = take(&allocator, AllocRequest::near(DiskBlock(4), 12));
    assert_eq!(taken, Ok(run(4, 12)));
    for (start, change) in [(12, 8), (8, 7), (4, 8)] {
        allocator.free_after(run(start, 4), Change(change)).unwrap();
    }
    assert_eq!(allocator.durable(Change(7)), [run(8, 4)]);
    assert_eq!(allocator.durable(Change(8)), [run(4, 4), run(12, 4)]);
    assert_eq!(allocator.check(), Ok(()));
}

#[test]
fn a_run_that_is_being_discarded_cannot_be_allocated_and_comes_back_after_an_error() {
    let allocator = allocator(64, 64);
    allocator.claim(run(20, 4)).unwrap();
    let mut runs = Vec::new();
    let outcome = allocator.discard(run(10, 1000), 3, |run| {
        let near = take(&allocator, AllocRequest::near(run.start, 2))?;
        assert!(near.end() <= run.start || near.start >= run.end());
        assert_eq!(allocator.check(), Ok(()));
        runs.push(run);
        match runs.len() {
            1 => Ok(()),
            _ => Err(Error::NotSupported("discard")),
        }
    });
    assert_eq!(outcome, Err(Error::NotSupported("discard")));
    assert_eq!(runs, [run(10, 10), run(26, 38)]);
    assert_eq!(allocator.check(), Ok(()));
    assert_eq!(
        take(&allocator, AllocRequest::near(DiskBlock(26), 38)),
        Ok(run(26, 38))
    );
}
