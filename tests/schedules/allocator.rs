//! The allocator by itself: promises are kept whoever else takes, frees and gives windows up.

use std::sync::{Mutex, PoisonError};

use extent_map::Error;
use extent_map::allocator::{AllocRequest, Allocation, Allocator, FileRequest, FileSpace, Goal};
use extent_map::probe::{Mutation, Probe};
use extent_map::units::{DiskBlock, DiskRun, Geometry};
use shuttle::thread;

use crate::model::{Case, Model, ensure};

/// Blocks in a cluster: so large that three clusters are no small file.
const RATIO: u64 = 16;

fn allocator(clusters: u64, per_group: u64, probe: &Probe) -> Allocator {
    let geometry = Geometry::new(4096, RATIO).unwrap();
    let allocator = Allocator::new(clusters * RATIO, geometry, per_group, DiskBlock(0));
    allocator.unwrap().with_probe(probe.clone())
}

fn clusters(start: u64, len: u64) -> DiskRun {
    DiskRun::new(DiskBlock(start * RATIO), len * RATIO)
}

/// An allocator, and what was handed out.
struct Scene<'a> {
    case: &'a Case,
    allocator: Allocator,
    taken: Mutex<Vec<DiskRun>>,
}

impl<'a> Scene<'a> {
    fn new(case: &'a Case, clusters: u64, per_group: u64) -> Self {
        Self {
            case,
            allocator: allocator(clusters, per_group, &case.probe),
            taken: Mutex::default(),
        }
    }

    /// Runs all at once, then looks whether the books are in order.
    fn race(&self, threads: &[(&'static str, &(dyn Fn() + Sync))]) {
        thread::scope(|scope| {
            for (name, work) in threads {
                scope.spawn(move || self.case.story.thread(name, work));
            }
        });
        self.check();
    }

    fn check(&self) {
        let books = self.allocator.check();
        ensure(7, books == Ok(()), || format!("{books:?}"));
    }

    /// A promise is kept.
    fn keep(&self, allocation: Result<Allocation<'_>, Error>) {
        match allocation {
            Ok(allocation) => self.own(allocation.commit()),
            Err(error) => ensure(8, false, || format!("a promise is not kept: {error}")),
        }
    }

    fn own(&self, run: DiskRun) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        for other in taken.iter() {
            let apart = run.end() <= other.start || other.end() <= run.start;
            ensure(14, apart, || {
                format!("{run:?} and {other:?} are two owners'")
            });
        }
        taken.push(run);
    }

    /// Promises one cluster and takes it anywhere, if there is one.
    fn take_one(&self) -> bool {
        let Ok(mut space) = self.allocator.reserve(1) else {
            return false;
        };
        self.keep(
            self.allocator
                .allocate(AllocRequest::anywhere(1), &mut space),
        );
        true
    }
}

/// What a file asks for that grows from `at` on, behind `end`.
fn growth(at: u64, clusters: u64, end: Option<DiskBlock>) -> FileRequest {
    FileRequest::at(at, clusters).goal(end.map(Goal::From))
}

/// A file has six clusters and a window behind them, and all else is in use. Returns the clusters of the window too.
fn with_window(case: &Case) -> (Scene<'_>, FileSpace, u64) {
    let scene = Scene::new(case, 140, 140);
    let file = FileSpace::new(0);
    let mut end = None;
    for (at, clusters) in [(0, 5), (5, 1)] {
        let request = growth(at, clusters, end);
        let mut space = scene.allocator.reserve(clusters).unwrap();
        let run = scene.allocator.allocate_for(&file, request, &mut space);
        let run = run.unwrap().commit();
        end = Some(run.end());
        drop(space);
        scene.own(run);
    }
    let windows = scene.allocator.windows(&file);
    let (_, window) = &windows[0];
    let (start, behind) = (window.start.0 / RATIO - 6, window.end().0 / RATIO);
    for (start, len) in [(0, start), (behind, 140 - behind)] {
        if len > 0 {
            scene.allocator.claim(clusters(start, len)).unwrap();
        }
    }
    let window = window.len / RATIO;
    (scene, file, window)
}

#[test]
fn space_in_windows_is_found_while_they_end() {
    Model {
        name: "allocate, allocate from a window, close",
        asserts: &[8, 14, 15, 21],
        broken: &[
            &[Mutation::KeepWindowsWhenFull],
            &[Mutation::TakeFromEndedWindow],
        ],
        body: |case| {
            let (scene, file, window) = with_window(case);
            let next = growth(6, 1, None);
            scene.race(&[
                ("file", &|| {
                    let space = scene.allocator.reserve(1);
                    ensure(21, space.is_ok(), || "a window has all there is".into());
                    let Ok(mut space) = space else { return };
                    scene.keep(scene.allocator.allocate_for(&file, next, &mut space));
                }),
                ("other", &|| {
                    let taken = scene.take_one();
                    ensure(21, taken, || "a window has all there is".into());
                }),
                ("close", &|| scene.allocator.end_windows(&file)),
            ]);
            let left = scene.allocator.space().available();
            ensure(8, left == window - 2 && scene.take_one(), || {
                format!("{left} clusters are left")
            });
        },
    }
    .verify();
}

#[test]
fn a_window_that_is_taken_from_without_a_lock_gives_each_cluster_once() {
    Model {
        name: "allocate directly from a window, allocate, check",
        asserts: &[7, 14, 21],
        broken: &[&[Mutation::TakeFromEndedWindow]],
        body: |case| {
            let (scene, file, window) = with_window(case);
            let file = Mutex::new(file);
            scene.race(&[
                ("file", &|| {
                    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                    for at in 6..8 {
                        let next = growth(at, 1, None);
                        let run = scene.allocator.allocate_direct_for(&mut file, next);
                        scene.keep(run);
                    }
                }),
                ("other", &|| {
                    let taken = scene.take_one();
                    ensure(21, taken, || "a window has all there is".into());
                }),
                ("check", &|| scene.check()),
            ]);
            let left = scene.allocator.space().available();
            ensure(8, left == window - 3 && scene.take_one(), || {
                format!("{left} clusters are left")
            });
        },
    }
    .verify();
}

#[test]
fn what_is_freed_is_there_for_who_is_promised_it() {
    Model {
        name: "free, reserve and allocate",
        asserts: &[7, 8, 14],
        broken: &[&[Mutation::ReleaseBeforeClearing]],
        body: |case| {
            let scene = Scene::new(case, 8, 4);
            scene.allocator.claim(clusters(0, 8)).unwrap();
            let free = |start| scene.allocator.free(clusters(start, 1)).unwrap();
            scene.race(&[
                ("free 1", &|| free(1)),
                ("free 6", &|| free(6)),
                ("take", &|| {
                    let _one_or_none = (scene.take_one(), scene.take_one());
                }),
            ]);
            while scene.take_one() {}
            let used = scene.allocator.space().used();
            ensure(7, used == 8, || format!("{used} of 8 are used"));
        },
    }
    .verify();
}

#[test]
fn a_busy_group_is_waited_for_when_there_is_nothing_else() {
    Model {
        name: "allocate, check of all groups",
        asserts: &[8, 14],
        broken: &[&[Mutation::PassByBusyGroups]],
        body: |case| {
            let scene = Scene::new(case, 8, 4);
            scene.allocator.claim(clusters(0, 3)).unwrap();
            scene.allocator.claim(clusters(4, 3)).unwrap();
            let take = || ensure(21, scene.take_one(), || "two are available".into());
            scene.race(&[("take", &take), ("check", &|| scene.check())]);
        },
    }
    .verify();
}

#[test]
fn the_books_are_in_order_at_every_moment() {
    Model {
        name: "allocate, commit and free, check",
        asserts: &[7],
        broken: &[&[Mutation::SpendAfterTaking]],
        body: |case| {
            let scene = Scene::new(case, 8, 4);
            let take_and_free = || {
                let request = AllocRequest::anywhere(2);
                let mut space = scene.allocator.reserve(2).unwrap();
                let promised = scene.allocator.allocate(request, &mut space).unwrap();
                let direct = scene.allocator.allocate_direct(request).unwrap();
                for run in [promised.commit(), direct.commit()] {
                    scene.allocator.free(run).unwrap();
                }
            };
            scene.race(&[("take", &take_and_free), ("check", &|| scene.check())]);
        },
    }
    .verify();
}
