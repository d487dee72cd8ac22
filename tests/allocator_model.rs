//! The allocator against a plain model of its clusters, and under many threads on a nearly full volume.

use std::iter;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

use arbitrary::Unstructured;
use extent_map::Error;
use extent_map::allocator::{AllocRequest, Allocator, Ledger, LedgerOptions, Reservation};
use extent_map::units::DiskRun;
use proptest::prelude::*;

#[path = "common/allocator_pair.rs"]
mod allocator_pair;
#[path = "common/random.rs"]
mod random;
#[path = "common/space.rs"]
mod space;

use allocator_pair::{Pair, Step};
use random::Random;
use space::{allocate_all, allocator};

// --- against a model --------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_step_does_what_a_plain_model_does(
        per_group in prop::sample::select(vec![150, 64, 63, 7]),
        steps in prop::collection::vec(any::<[u8; Step::ENCODED_LEN]>(), 1..80),
    ) {
        let mut pair = Pair::new(per_group);
        for step in steps {
            pair.step(Unstructured::new(&step).arbitrary().unwrap());
            pair.agree();
        }
    }
}

// --- under threads ----------------------------------------------------------------------------------

const THREADS: u64 = 4;

/// Which blocks some thread owns: the second owner of a block is the failure these tests look for.
struct Owners(Vec<AtomicBool>);

impl Owners {
    fn of(blocks: u64) -> Self {
        Self((0..blocks).map(|_| AtomicBool::new(false)).collect())
    }

    fn take(&self, runs: &[DiskRun]) {
        for block in runs.iter().flat_map(|run| run.start.0..run.end().0) {
            let owned = self.0[block as usize].swap(true, Ordering::Relaxed);
            assert!(!owned, "block {block} was handed out twice");
        }
    }

    fn give(&self, run: DiskRun) {
        for block in run.start.0..run.end().0 {
            self.0[block as usize].store(false, Ordering::Relaxed);
        }
    }
}

/// A thread that fills the volume with others, and what it has of it.
struct Worker<'a> {
    allocator: &'a Allocator,
    owners: &'a Owners,
    refused: &'a AtomicU64,
    /// Seeded, so that runs differ only in how the threads interleave.
    random: Random,
    runs: Vec<DiskRun>,
}

impl Worker<'_> {
    fn step(&mut self) {
        match self.allocator.reserve(1 + self.random.below(60)) {
            Ok(space) if self.random.below(4) == 0 => self.change_of_mind(space),
            Ok(space) => self.keep(space),
            Err(error) => {
                assert_eq!(error, Error::NoSpace);
                self.refused.fetch_add(1, Ordering::Relaxed);
                for _ in 0..self.runs.len().div_ceil(2) {
                    self.free_one();
                }
            }
        }
    }

    fn keep(&mut self, space: Reservation<&Ledger>) {
        let goal = self.random.below(self.owners.0.len() as u64);
        let runs = allocate_all(self.allocator, space, goal);
        self.owners.take(&runs);
        self.runs.extend(runs);
    }

    fn change_of_mind(&mut self, mut space: Reservation<&Ledger>) {
        let _part = space.split(self.random.below(space.clusters())).unwrap();
        let _allocation = self
            .allocator
            .allocate(AllocRequest::anywhere(5), &mut space)
            .unwrap();
    }

    fn free_one(&mut self) {
        let which = self.random.below(self.runs.len() as u64) as usize;
        let run = self.runs.swap_remove(which);
        self.owners.give(run);
        if self.random.below(3) > 0 {
            return self.allocator.free(run).unwrap();
        }
        let space = self.allocator.free_into_reservation(run).unwrap();
        assert_eq!(space.clusters(), run.len);
        self.keep(space);
    }
}

#[test]
fn threads_on_a_nearly_full_volume_never_share_or_miss_a_cluster() {
    const BLOCKS: u64 = 400;
    let allocator = allocator(BLOCKS, 37);
    let owners = Owners::of(BLOCKS);
    let refused = AtomicU64::new(0);
    let runs: Vec<DiskRun> = thread::scope(|scope| {
        let work = |seed| {
            let (allocator, owners, refused, random) =
                (&allocator, &owners, &refused, Random(seed));
            let mut worker = Worker {
                allocator,
                owners,
                refused,
                random,
                runs: Vec::new(),
            };
            (0..2000).for_each(|_| worker.step());
            worker.runs
        };
        let workers: Vec<_> = (0..THREADS)
            .map(|seed| scope.spawn(move || work(seed)))
            .collect();
        while !workers.iter().all(|worker| worker.is_finished()) {
            allocator
                .check()
                .expect("the books are exact at every moment");
            thread::yield_now();
        }
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap())
            .collect()
    });
    assert!(
        refused.into_inner() > 0,
        "the volume was never full, so this showed nothing"
    );

    let space = allocator.space();
    assert_eq!(
        (space.used(), space.promised()),
        (runs.iter().map(|run| run.len).sum(), 0)
    );
    let rest = allocate_all(&allocator, allocator.reserve(space.available()).unwrap(), 0);
    owners.take(&rest);
    assert_eq!(
        allocator.space().used(),
        BLOCKS - 1,
        "the last cluster can be had"
    );
    assert_eq!(allocator.reserve(1).unwrap_err(), Error::NoSpace);
    runs.into_iter()
        .chain(rest)
        .for_each(|run| allocator.free(run).unwrap());
    assert_eq!(allocator.space().available(), BLOCKS - 1);
    allocator.check().unwrap();
}

/// All space there is, as promises of four threads, which fill the volume at once, again and again: their
/// searches race for the last clusters, and each must get exactly what it was promised.
#[test]
fn promises_for_the_whole_volume_are_all_kept_at_once() {
    const SHARE: u64 = 25;
    let allocator = allocator(1 + SHARE * THREADS, 13);
    let owners = Owners::of(1 + SHARE * THREADS);
    let start = Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (allocator, owners, start) = (&allocator, &owners, &start);
            scope.spawn(move || {
                let mut random = Random(thread);
                let mut space = allocator.reserve(SHARE).unwrap();
                start.wait();
                for _ in 0..500 {
                    let runs = allocate_all(allocator, space, random.below(SHARE * THREADS));
                    assert_eq!(runs.iter().map(|run| run.len).sum::<u64>(), SHARE);
                    owners.take(&runs);
                    space = allocator.reserve(0).unwrap();
                    for run in runs {
                        owners.give(run);
                        space
                            .merge(allocator.free_into_reservation(run).unwrap())
                            .unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(allocator.space().available(), SHARE * THREADS);
    allocator.check().unwrap();
}

/// Ledgers of so many clusters: as it comes, in one part, and in shares that are open to the last cluster.
fn ledgers(total: u64) -> [Ledger; 3] {
    let options = LedgerOptions::new(total);
    [options, options.shares(0), options.shares(4).exact_below(0)]
        .map(|options| Ledger::with_options(&options).unwrap())
}

#[test]
fn threads_reserve_exactly_what_there_is() {
    const TOTAL: u64 = 1000;
    for ledger in (0..10).flat_map(|_| ledgers(TOTAL)) {
        let start = Barrier::new(THREADS as usize);
        let held: Vec<_> = thread::scope(|scope| {
            let reserve = || {
                start.wait();
                let held: Vec<_> = iter::from_fn(|| ledger.reserve(1).ok()).collect();
                assert_eq!(
                    ledger.snapshot().available(),
                    0,
                    "refused while some was left"
                );
                held
            };
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(reserve)).collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(held.len() as u64, TOTAL);
        assert_eq!(ledger.snapshot().promised(), TOTAL);
        drop(held);
        assert_eq!(ledger.snapshot().available(), TOTAL);
    }
}

/// As many promises at once as there is space for, which end in other threads than those that got them.
#[test]
fn threads_that_want_no_more_than_there_is_are_never_refused() {
    const EACH: u64 = 1;
    // One for each thread and one on its way to another.
    const TOTAL: u64 = EACH * (THREADS + 1);
    for ledger in ledgers(TOTAL) {
        let on_its_way = Mutex::new(None);
        let held = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let mine = ledger.reserve(EACH).expect("there is enough for all");
                        let now = held.fetch_add(EACH, Ordering::Relaxed) + EACH;
                        assert!(now <= TOTAL, "{now} clusters are promised");
                        let other = on_its_way.lock().unwrap().replace(mine);
                        let ends = other.as_ref().map_or(0, Reservation::clusters);
                        held.fetch_sub(ends, Ordering::Relaxed);
                        drop(other);
                    }
                });
            }
        });
        drop(on_its_way);
        let space = ledger.snapshot();
        assert_eq!((space.available(), space.promised()), (TOTAL, 0));
    }
}
