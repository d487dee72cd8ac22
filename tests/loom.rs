//! Loom models of the real code: every interleaving, and every reordering that the memory orderings allow,
//! of a few steps on the ledger and on the extent map.
//!
//! `RUSTFLAGS="--cfg loom --cfg crossbeam_loom" cargo test --release --test loom`
//!
//! Each model has a broken twin which loom must refute: a model that cannot fail proves nothing.
#![cfg(loom)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use extent_map::Error;
use extent_map::allocator::Ledger;
use extent_map::map::ExtentMap;
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

/// Runs `body` in all executions with at most `preemptions` forced switches, or simply in all.
fn explore(preemptions: Option<usize>, body: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&executions);
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemptions;
    model.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        body();
    });
    let executions = executions.load(Ordering::Relaxed);
    println!("{executions} executions");
    assert!(executions > 1, "loom saw nothing to interleave");
}

/// Whether loom finds an execution in which `body` panics.
fn is_refuted(body: impl Fn() + Send + Sync + 'static) -> bool {
    catch_unwind(AssertUnwindSafe(|| explore(Some(2), body))).is_err()
}

/// A plain number that loom watches for races.
#[derive(Default)]
struct Watched(UnsafeCell<u64>);

// SAFETY: loom ends an execution before two accesses meet that are not ordered.
unsafe impl Sync for Watched {}

impl Watched {
    fn set(&self, value: u64) {
        self.0.with_mut(|number| {
            // SAFETY: see `Sync`.
            unsafe { *number = value }
        });
    }

    fn get(&self) -> u64 {
        self.0.with(|number| {
            // SAFETY: see `Sync`.
            unsafe { *number }
        })
    }
}

/// Promises, as [`Ledger`] makes them.
trait Promise: Send + Sync + 'static {
    fn with_one_cluster() -> Self;
    /// Promises one cluster for good if one is available.
    fn reserve(self: &Arc<Self>) -> bool;
}

impl Promise for Ledger {
    fn with_one_cluster() -> Self {
        Ledger::new(1).unwrap()
    }

    fn reserve(self: &Arc<Self>) -> bool {
        match Ledger::reserve(self, 1) {
            Ok(reservation) => {
                std::mem::forget(reservation);
                true
            }
            Err(error) => {
                assert_eq!(error, Error::NoSpace);
                false
            }
        }
    }
}

/// The broken twin: looks, then acts.
struct CheckThenAct(AtomicU64);

impl Promise for CheckThenAct {
    fn with_one_cluster() -> Self {
        Self(AtomicU64::new(1))
    }

    fn reserve(self: &Arc<Self>) -> bool {
        let available = self.0.load(Ordering::SeqCst);
        if available > 0 {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
        available > 0
    }
}

/// Three threads want the only cluster.
fn one_of_three_gets_the_last_cluster<P: Promise>() {
    let promise = Arc::new(P::with_one_cluster());
    let other = || {
        let promise = Arc::clone(&promise);
        thread::spawn(move || promise.reserve())
    };
    let others = [other(), other()];
    let mine = promise.reserve();
    let winners = others.map(|other| other.join().unwrap());
    let count = winners.iter().filter(|won| **won).count() + usize::from(mine);
    assert_eq!(count, 1);
}

#[test]
fn the_last_cluster_is_promised_exactly_once() {
    explore(None, one_of_three_gets_the_last_cluster::<Ledger>);
}

#[test]
fn a_ledger_that_looks_before_it_acts_is_refuted() {
    assert!(is_refuted(
        one_of_three_gets_the_last_cluster::<CheckThenAct>
    ));
}

#[test]
fn nobody_is_refused_while_a_cluster_is_available() {
    explore(None, || {
        let ledger = Arc::new(Ledger::new(2).unwrap());
        let other = Arc::clone(&ledger);
        // Each holds at most one of two clusters, so neither may ever be refused.
        let turns = |ledger: &Arc<Ledger>| {
            for _ in 0..2 {
                ledger.reserve(1).expect("one is available").give_back();
            }
        };
        let thread = thread::spawn(move || turns(&other));
        turns(&ledger);
        thread.join().unwrap();
        let space = ledger.snapshot();
        assert_eq!((space.available(), space.promised()), (2, 0));
    });
}

#[test]
fn what_was_given_back_is_seen_as_it_was_left() {
    explore(None, || {
        let ledger = Arc::new(Ledger::new(1).unwrap());
        let cluster = Arc::new(Watched::default());
        let reservation = ledger.reserve(1).unwrap();
        let theirs = Arc::clone(&cluster);
        let thread = thread::spawn(move || {
            theirs.set(1);
            reservation.give_back();
        });
        if let Ok(_mine) = ledger.reserve(1) {
            // The promise must bring along everything that came before it was given back.
            assert_eq!(cluster.get(), 1);
        }
        thread.join().unwrap();
    });
}

/// A map that somebody edits beside readers.
trait Extents: Send + Sync + 'static {
    /// Blocks 0 to 8 mapped to 100 and so on.
    fn with_one_extent() -> Self;
    /// Maps blocks 2 to 4 elsewhere, cutting the extent in three.
    fn split(&self, value: u64);
    fn get(&self, block: u64) -> Option<u64>;
}

impl Extents for ExtentMap<u64> {
    fn with_one_extent() -> Self {
        let map = ExtentMap::new();
        map.insert(0..8, 100).unwrap();
        map
    }

    fn split(&self, value: u64) {
        self.insert(2..4, value).unwrap();
    }

    fn get(&self, block: u64) -> Option<u64> {
        let extent = ExtentMap::get(self, block)?;
        Some(extent.value() + (block - extent.start()))
    }
}

/// The broken twin: one word for each block, changed one by one and without order.
struct WordByWord([AtomicU64; 8]);

impl Extents for WordByWord {
    fn with_one_extent() -> Self {
        Self(std::array::from_fn(|block| {
            AtomicU64::new(100 + block as u64)
        }))
    }

    fn split(&self, value: u64) {
        for block in 2..4 {
            self.0[block].store(value + block as u64 - 2, Ordering::Relaxed);
        }
    }

    fn get(&self, block: u64) -> Option<u64> {
        Some(self.0[block as usize].load(Ordering::Relaxed))
    }
}

/// A reader that saw the edit at one of its blocks sees it at the other, and never a hole.
fn a_split_is_one_change<M: Extents>() {
    let map = Arc::new(M::with_one_extent());
    let writer = Arc::clone(&map);
    let thread = thread::spawn(move || writer.split(500));
    let (first, second) = (map.get(3), map.get(2));
    assert!([Some(103), Some(501)].contains(&first), "{first:?}");
    assert!([Some(102), Some(500)].contains(&second), "{second:?}");
    assert!(first == Some(103) || second == Some(500), "half an edit");
    thread.join().unwrap();
}

/// What was done before an edit is visible to whoever sees the edit.
fn an_edit_publishes_what_came_before<M: Extents>() {
    let map = Arc::new(M::with_one_extent());
    let before = Arc::new(Watched::default());
    let (writer, theirs) = (Arc::clone(&map), Arc::clone(&before));
    let thread = thread::spawn(move || {
        theirs.set(7);
        writer.split(500);
    });
    if map.get(2) == Some(500) {
        assert_eq!(before.get(), 7);
    }
    thread.join().unwrap();
}

#[test]
fn a_reader_sees_a_split_as_one_change() {
    explore(Some(2), a_split_is_one_change::<ExtentMap<u64>>);
}

#[test]
fn a_split_made_word_by_word_is_refuted() {
    assert!(is_refuted(a_split_is_one_change::<WordByWord>));
}

#[test]
fn whoever_sees_an_edit_sees_what_came_before_it() {
    explore(
        Some(2),
        an_edit_publishes_what_came_before::<ExtentMap<u64>>,
    );
}

#[test]
fn an_edit_without_release_is_refuted() {
    assert!(is_refuted(an_edit_publishes_what_came_before::<WordByWord>));
}
