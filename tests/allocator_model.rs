//! The allocator against a plain model of its clusters, and under many threads on a nearly full volume.

use std::iter;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use extent_map::Error;
use extent_map::allocator::{AllocRequest, Allocator, Ledger, Reservation};
use extent_map::units::{DiskBlock, DiskRun};
use proptest::prelude::*;

#[path = "common/space.rs"]
mod space;

use space::{allocate_all, allocator, geometry, run};

// --- against a model --------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum Step {
    Reserve(u64),
    Split {
        which: usize,
        clusters: u64,
    },
    Merge {
        into: usize,
        from: usize,
    },
    GiveBack(usize),
    Allocate {
        which: usize,
        clusters: u64,
        goal: Option<u64>,
        outcome: Outcome,
    },
    Free {
        start: u64,
        len: u64,
        promise: bool,
    },
    Claim {
        start: u64,
        len: u64,
    },
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Commit,
    Cancel,
    Drop,
}

const CLUSTERS: u64 = 150;
const RATIO: u64 = 4;

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![
        4 => Just(Outcome::Commit),
        1 => Just(Outcome::Cancel),
        1 => Just(Outcome::Drop),
    ];
    let block = 0..CLUSTERS * RATIO + 8;
    let goal = prop::option::of(block.clone());
    prop_oneof![
        3 => (0..60_u64).prop_map(Step::Reserve),
        1 => (0..8_usize, 0..30_u64).prop_map(|(which, clusters)| Step::Split { which, clusters }),
        1 => (0..8_usize, 0..8_usize).prop_map(|(into, from)| Step::Merge { into, from }),
        1 => (0..8_usize).prop_map(Step::GiveBack),
        6 => (0..8_usize, 0..40_u64, goal, outcome).prop_map(|(which, clusters, goal, outcome)| {
            Step::Allocate { which, clusters, goal, outcome }
        }),
        // Mostly whole clusters, or hardly anything would ever be freed.
        4 => (0..CLUSTERS, 1..12_u64, any::<bool>()).prop_map(|(start, len, promise)| {
            Step::Free { start: start * RATIO, len: len * RATIO, promise }
        }),
        1 => (block, 0..40_u64, any::<bool>())
            .prop_map(|(start, len, promise)| Step::Free { start, len, promise }),
        1 => (0..CLUSTERS, 1..20_u64)
            .prop_map(|(start, len)| Step::Claim { start: start * RATIO, len: len * RATIO }),
    ]
}

/// One flag for each cluster and the size of each reservation.
struct Model {
    per_group: u64,
    used: Vec<bool>,
    reserved: Vec<u64>,
}

impl Model {
    fn available(&self) -> u64 {
        let clear = self.used.iter().filter(|used| !**used).count() as u64;
        clear - self.reserved.iter().sum::<u64>()
    }

    /// The longest free run inside one group.
    fn longest(&self) -> u64 {
        let groups = self.used.chunks(self.per_group as usize);
        let runs = groups.flat_map(|group| group.split(|used| *used).map(<[bool]>::len));
        runs.max().unwrap_or(0) as u64
    }

    /// How many clusters are free exactly from `goal` on, inside its group and up to `want`.
    fn free_at(&self, goal: u64, want: u64) -> u64 {
        let group_end = (goal / self.per_group + 1) * self.per_group;
        let end = group_end.min(goal + want).min(CLUSTERS);
        (goal..end)
            .take_while(|cluster| !self.used[*cluster as usize])
            .count() as u64
    }

    /// The clusters of a run, if it is made of whole ones that are not the volume's own, and all are
    /// used or all are not.
    fn clusters(&self, run: DiskRun, used: bool) -> Option<Range<usize>> {
        let whole = run.start.0.is_multiple_of(RATIO) && run.len.is_multiple_of(RATIO);
        let clusters = (run.start.0 / RATIO) as usize..(run.end().0 / RATIO) as usize;
        let inside = clusters.start >= 1 && clusters.end <= self.used.len() && !clusters.is_empty();
        let fits = whole && inside && self.used[clusters.clone()].iter().all(|bit| *bit == used);
        fits.then_some(clusters)
    }

    fn allocated_runs(&self) -> Vec<DiskRun> {
        let mut runs: Vec<DiskRun> = Vec::new();
        for cluster in (1..CLUSTERS).filter(|cluster| self.used[*cluster as usize]) {
            match runs.last_mut() {
                Some(last) if last.end().0 == cluster * RATIO => last.len += RATIO,
                _ => runs.push(run(cluster * RATIO, RATIO)),
            }
        }
        runs
    }
}

/// The allocator, the model, and the reservations: `held[i]` has `model.reserved[i]` clusters.
struct Pair {
    allocator: Allocator,
    model: Model,
    held: Vec<Reservation>,
}

impl Pair {
    fn new(per_group: u64) -> Self {
        let volume = geometry(1024, RATIO);
        let blocks = CLUSTERS * RATIO + 3;
        let mut used = vec![false; CLUSTERS as usize];
        used[0] = true;
        Self {
            allocator: Allocator::new(blocks, volume, per_group, DiskBlock(1)).unwrap(),
            model: Model {
                per_group,
                used,
                reserved: Vec::new(),
            },
            held: Vec::new(),
        }
    }

    fn hold(&mut self, reservation: Reservation, clusters: u64) {
        self.held.push(reservation);
        self.model.reserved.push(clusters);
    }

    fn step(&mut self, step: Step) {
        let exists = |which: usize| which < self.held.len();
        match step {
            Step::Reserve(clusters) => match self.allocator.reserve(clusters) {
                Ok(reservation) => {
                    assert!(clusters <= self.model.available());
                    self.hold(reservation, clusters);
                }
                Err(error) => {
                    assert_eq!(error, Error::NoSpace);
                    assert!(clusters > self.model.available());
                }
            },
            Step::Split { which, clusters } if exists(which) => {
                match self.held[which].split(clusters) {
                    Ok(part) => {
                        self.model.reserved[which] -= clusters;
                        self.hold(part, clusters);
                    }
                    Err(error) => {
                        assert!(matches!(error, Error::Corrupt(_)));
                        assert!(clusters > self.model.reserved[which]);
                    }
                }
            }
            Step::Merge { into, from } if exists(into) && exists(from) && into != from => {
                let other = self.held[from].split(self.model.reserved[from]).unwrap();
                self.held[into].merge(other).unwrap();
                self.model.reserved[into] += std::mem::take(&mut self.model.reserved[from]);
            }
            Step::GiveBack(which) if exists(which) => {
                self.model.reserved.swap_remove(which);
                self.held.swap_remove(which).give_back();
            }
            Step::Allocate {
                which,
                clusters,
                goal,
                outcome,
            } if exists(which) => {
                self.allocate(which, clusters, goal, outcome);
            }
            Step::Free {
                start,
                len,
                promise,
            } => self.free(run(start, len), promise),
            Step::Claim { start, len } => self.claim(run(start, len)),
            // It names a reservation that does not exist.
            _ => {}
        }
    }

    fn allocate(&mut self, which: usize, clusters: u64, goal: Option<u64>, outcome: Outcome) {
        let request = AllocRequest {
            clusters,
            goal: goal.map(DiskBlock),
        };
        let want = clusters.min(self.model.reserved[which]);
        let allocation = match self.allocator.allocate(request, &mut self.held[which]) {
            Ok(allocation) => allocation,
            Err(error) => {
                assert!(want == 0, "reserved space is there: {error}");
                return;
            }
        };
        let (found, len) = (allocation.run(), allocation.clusters());
        let clusters = self
            .model
            .clusters(found, false)
            .expect("free, whole clusters");
        assert_eq!(clusters.len() as u64, len);
        let group = |cluster: usize| cluster as u64 / self.model.per_group;
        assert_eq!(
            group(clusters.start),
            group(clusters.end - 1),
            "in one group"
        );
        let goal = goal
            .map(|block| block / RATIO)
            .filter(|cluster| *cluster < CLUSTERS);
        match goal.map(|goal| (goal, self.model.free_at(goal, want))) {
            Some((goal, free)) if free > 0 => {
                assert_eq!((clusters.start as u64, len), (goal, free))
            }
            _ => assert_eq!(len, want.min(self.model.longest())),
        }
        match outcome {
            Outcome::Commit => {
                assert_eq!(allocation.commit(), found);
                self.model.reserved[which] -= len;
                self.model.used[clusters].fill(true);
            }
            Outcome::Cancel => self.held[which].merge(allocation.cancel()).unwrap(),
            Outcome::Drop => {
                drop(allocation);
                self.model.reserved[which] -= len;
            }
        }
    }

    fn free(&mut self, run: DiskRun, promise: bool) {
        let freeable = self.model.clusters(run, true);
        if promise {
            let freed = self.allocator.free_into_reservation(run);
            assert_eq!(freed.is_ok(), freeable.is_some(), "{run:?}: {freed:?}");
            if let Ok(reservation) = freed {
                self.hold(reservation, run.len / RATIO);
            }
        } else {
            assert_eq!(
                self.allocator.free(run).is_ok(),
                freeable.is_some(),
                "{run:?}"
            );
        }
        if let Some(clusters) = freeable {
            self.model.used[clusters].fill(false);
        }
    }

    fn claim(&mut self, run: DiskRun) {
        let claimed = self.allocator.claim(run);
        match self.model.clusters(run, false) {
            None => assert!(
                matches!(claimed, Err(Error::Corrupt(_))),
                "{run:?}: {claimed:?}"
            ),
            Some(clusters) if clusters.len() as u64 > self.model.available() => {
                assert_eq!(claimed, Err(Error::NoSpace));
            }
            Some(clusters) => {
                assert_eq!(claimed, Ok(()));
                self.model.used[clusters].fill(true);
            }
        }
    }

    fn agree(&self) {
        let space = self.allocator.space();
        assert_eq!(space.total(), CLUSTERS - 1);
        assert_eq!(space.available(), self.model.available());
        assert_eq!(space.promised(), self.model.reserved.iter().sum::<u64>());
        assert_eq!(self.allocator.allocated_runs(), self.model.allocated_runs());
        assert_eq!(self.allocator.check(), Ok(()));
        for (cluster, used) in self.model.used.iter().enumerate() {
            let block = DiskBlock(cluster as u64 * RATIO + 1);
            assert_eq!(self.allocator.is_allocated(block), *used, "{block:?}");
        }
        let held = self.held.iter().map(Reservation::clusters);
        assert!(held.eq(self.model.reserved.iter().copied()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_step_does_what_a_plain_model_does(
        per_group in prop::sample::select(vec![150, 64, 63, 7]),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut pair = Pair::new(per_group);
        for step in steps {
            pair.step(step);
            pair.agree();
        }
    }
}

// --- under threads ----------------------------------------------------------------------------------

const THREADS: u64 = 4;

/// A small generator, so that runs differ only in how the threads interleave.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

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

    fn keep(&mut self, space: Reservation) {
        let goal = self.random.below(self.owners.0.len() as u64);
        let runs = allocate_all(self.allocator, space, goal);
        self.owners.take(&runs);
        self.runs.extend(runs);
    }

    fn change_of_mind(&mut self, mut space: Reservation) {
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

#[test]
fn threads_reserve_exactly_what_there_is() {
    const TOTAL: u64 = 1000;
    for _ in 0..20 {
        let ledger = Arc::new(Ledger::new(TOTAL).unwrap());
        let start = Barrier::new(THREADS as usize);
        let held: Vec<Reservation> = thread::scope(|scope| {
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
