//! Loom models of the ledger: every interleaving, and every reordering that the memory orderings allow, of a few
//! steps of the real code.
//!
//! `RUSTFLAGS="--cfg loom --cfg crossbeam_loom" cargo test --release --test loom`
//!
//! Each model has a broken twin which loom must refute: a model that cannot fail proves nothing.
#![cfg(loom)]

use std::sync::Arc;

use extent_map::Error;
use extent_map::allocator::Ledger;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

#[path = "common/explore.rs"]
#[allow(dead_code, reason = "some models need other parts")]
mod explore;
#[path = "common/watched.rs"]
mod watched;

use explore::{explore, is_refuted};
use watched::Watched;

/// Promises, as [`Ledger`] makes them.
trait Promise: Send + Sync + 'static {
    fn with_one_cluster() -> Self;
    /// Promises one cluster for good if one is available.
    fn promise_one(self: &Arc<Self>) -> bool;
}

impl Promise for Ledger {
    fn with_one_cluster() -> Self {
        Ledger::new(1).unwrap()
    }

    fn promise_one(self: &Arc<Self>) -> bool {
        match self.reserve(1) {
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

    fn promise_one(self: &Arc<Self>) -> bool {
        let available = self.0.load(Ordering::SeqCst);
        if available > 0 {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
        available > 0
    }
}

/// Three threads want the only cluster; who gets it.
fn one_of_three_gets_the_last_cluster<P: Promise>() -> Vec<bool> {
    let promise = Arc::new(P::with_one_cluster());
    let other = || {
        let promise = Arc::clone(&promise);
        thread::spawn(move || promise.promise_one())
    };
    let others = [other(), other()];
    let mine = promise.promise_one();
    let winners = others.map(|other| other.join().unwrap());
    [&[mine], &winners[..]].concat()
}

/// Each of the three may be the winner.
fn one_winner() -> Vec<Vec<bool>> {
    let winner = |n| (0..3).map(|thread| thread == n).collect();
    (0..3).map(winner).collect()
}

#[test]
fn the_last_cluster_is_promised_exactly_once() {
    let model = one_of_three_gets_the_last_cluster::<Ledger>;
    explore("the last cluster", None, one_winner(), model);
}

#[test]
fn a_ledger_that_looks_before_it_acts_is_refuted() {
    let model = one_of_three_gets_the_last_cluster::<CheckThenAct>;
    let name = "the last cluster, look before act";
    assert!(is_refuted(name, Some(2), one_winner(), model));
}

#[test]
fn nobody_is_refused_while_a_cluster_is_available() {
    explore("two clusters for two", None, vec![(2, 0)], || {
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
        (space.available(), space.promised())
    });
}

#[test]
fn what_was_given_back_is_seen_as_it_was_left() {
    explore("given back", None, vec![None, Some(1)], || {
        let ledger = Arc::new(Ledger::new(1).unwrap());
        let cluster = Arc::new(Watched::default());
        let reservation = ledger.reserve_owned(1).unwrap();
        let theirs = Arc::clone(&cluster);
        let thread = thread::spawn(move || {
            theirs.set(1);
            reservation.give_back();
        });
        // The promise must bring along everything that came before it was given back.
        let found = ledger.reserve(1).ok().map(|_mine| cluster.get());
        thread.join().unwrap();
        found
    });
}
