//! Loom models of the ledger: every interleaving, and every reordering that the memory orderings allow, of a few
//! steps of the real code.
//!
//! `RUSTFLAGS="--cfg loom --cfg crossbeam_loom" cargo test --release --test loom`
//!
//! Each model has a broken twin which loom must refute: a model that cannot fail proves nothing.
#![cfg(loom)]

use std::sync::Arc;

use extent_map::Error;
use extent_map::allocator::{Ledger, LedgerOptions};
use extent_map::probe::{Mutation, Probe};
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

#[path = "common/explore.rs"]
#[allow(dead_code, reason = "some models need other parts")]
mod explore;
#[path = "common/watched.rs"]
mod watched;

use explore::{explore, explore_each, is_refuted};
use watched::Watched;

/// Forced switches in models that have too many executions to see them all.
const BOUND: Option<usize> = Some(3);

/// A ledger without shares: each call takes the lock.
fn undivided(clusters: u64) -> Ledger {
    Ledger::with_options(&LedgerOptions::new(clusters).shares(0)).unwrap()
}

/// A ledger in two shares that are open to the last cluster, the first with a cluster to begin with.
fn divided(clusters: u64) -> Ledger {
    let options = LedgerOptions::new(clusters).shares(2).exact_below(0);
    Ledger::on_share(0, || Ledger::with_options(&options).unwrap())
}

/// Promises, as [`Ledger`] makes them.
trait Promise: Send + Sync + 'static {
    /// Promises one cluster for good if one is available, to a thread that uses a share of that number.
    fn promise_one(&self, share: usize) -> bool;
}

impl Promise for Ledger {
    fn promise_one(&self, share: usize) -> bool {
        match Self::on_share(share, || self.reserve(1)) {
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
    fn promise_one(&self, _: usize) -> bool {
        let available = self.0.load(Ordering::SeqCst);
        if available > 0 {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
        available > 0
    }
}

/// Three threads want the only cluster; who gets it.
fn one_of_three_gets_the_last_cluster(promise: impl Promise) -> Vec<bool> {
    let promise = Arc::new(promise);
    let other = |share| {
        let promise = Arc::clone(&promise);
        thread::spawn(move || promise.promise_one(share))
    };
    let others = [other(1), other(2)];
    let mine = promise.promise_one(0);
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
    explore("the last cluster", None, one_winner(), || {
        one_of_three_gets_the_last_cluster(undivided(1))
    });
    let name = "the last cluster, in shares";
    explore(name, BOUND, one_winner(), || {
        one_of_three_gets_the_last_cluster(divided(1))
    });
}

#[test]
fn a_ledger_that_looks_before_it_acts_is_refuted() {
    let name = "the last cluster, look before act";
    assert!(is_refuted(name, Some(2), one_winner(), || {
        one_of_three_gets_the_last_cluster(CheckThenAct(AtomicU64::new(1)))
    }));
}

/// Two threads take one of two clusters each, `turns` times, and give it back; what is available and promised then.
fn two_take_turns(ledger: Ledger, turns: usize) -> (u64, u64) {
    let ledger = Arc::new(ledger);
    let other = Arc::clone(&ledger);
    // Each holds at most one of two clusters, so neither may ever be refused.
    let take_turns = move |ledger: &Ledger, share| {
        for _ in 0..turns {
            let promise = Ledger::on_share(share, || ledger.reserve(1).expect("one is available"));
            // Its cluster goes to the other's share.
            Ledger::on_share(1 - share, || promise.give_back());
        }
    };
    let thread = thread::spawn(move || take_turns(&other, 1));
    take_turns(&ledger, 0);
    thread.join().unwrap();
    let space = ledger.snapshot();
    (space.available(), space.promised())
}

#[test]
fn nobody_is_refused_while_a_cluster_is_available() {
    let name = "two clusters for two";
    explore(name, None, vec![(2, 0)], || two_take_turns(undivided(2), 2));
    let name = "two clusters for two, in shares";
    explore(name, BOUND, vec![(2, 0)], || two_take_turns(divided(2), 2));
}

#[test]
fn a_ledger_that_moves_clusters_in_the_open_is_refuted() {
    for mutation in [Mutation::SweepOpenShares, Mutation::FillShareUnlocked] {
        let name = format!("two clusters for two, in shares, {mutation:?}");
        assert!(is_refuted(&name, BOUND, vec![(2, 0)], move || {
            let probe = Probe::new().mutations([mutation]);
            two_take_turns(divided(2).with_probe(probe), 2)
        }));
    }
}

/// A cluster that one thread changes and gives back; what the next one finds in it, if it gets it.
fn given_back(ledger: Ledger, shares: [usize; 2]) -> Option<u64> {
    let ledger = Arc::new(ledger);
    let cluster = Arc::new(Watched::default());
    // This leaves the share open.
    let reservation = Ledger::on_share(shares[0], || ledger.reserve_owned(1).unwrap());
    let theirs = Arc::clone(&cluster);
    let thread = thread::spawn(move || {
        theirs.set(1);
        Ledger::on_share(shares[0], || reservation.give_back());
    });
    // The promise must bring along everything that came before it was given back.
    let found = Ledger::on_share(shares[1], || {
        ledger.reserve(1).ok().map(|_mine| cluster.get())
    });
    thread.join().unwrap();
    found
}

#[test]
fn what_was_given_back_is_seen_as_it_was_left() {
    let either = || vec![None, Some(1)];
    explore("given back", None, either(), || {
        given_back(undivided(1), [0, 0])
    });
    let name = "given back in the same share";
    explore(name, None, either(), || given_back(divided(1), [0, 0]));
    let name = "given back in another share";
    explore(name, None, either(), || given_back(divided(1), [1, 0]));
}

/// The same with a third thread, which puts the cluster into the share where it is found. `main_fills` says
/// whether that one is the thread that loom begins with: it does not see all there is in either role.
fn given_back_and_put_into_a_share(main_fills: bool) -> Option<u64> {
    let ledger = Arc::new(divided(2));
    let cluster = Arc::new(Watched::default());
    let reservation = Ledger::on_share(0, || ledger.reserve_owned(2).unwrap());
    let theirs = Arc::clone(&cluster);
    let giving = thread::spawn(move || {
        theirs.set(1);
        Ledger::on_share(1, || reservation.give_back());
    });
    let fill = |ledger: &Ledger| {
        // Who asks for too much leaves a batch in its share.
        let refused = Ledger::on_share(0, || ledger.reserve(3).map(drop));
        assert_eq!(refused, Err(Error::NoSpace));
    };
    let take = move |ledger: &Ledger| {
        let promise = Ledger::on_share(0, || ledger.reserve(1));
        promise.ok().map(|_mine| cluster.get())
    };
    let other = Arc::clone(&ledger);
    let found = match main_fills {
        true => {
            let taking = thread::spawn(move || take(&other));
            fill(&ledger);
            taking.join().unwrap()
        }
        false => {
            let filling = thread::spawn(move || fill(&other));
            let found = take(&ledger);
            filling.join().unwrap();
            found
        }
    };
    giving.join().unwrap();
    found
}

#[test]
fn what_was_given_back_is_seen_by_who_finds_it_in_a_share_that_another_filled() {
    let roles = [true, false].map(|main_fills| move || given_back_and_put_into_a_share(main_fills));
    let name = "given back, put into a share";
    explore_each(name, BOUND, vec![None, Some(1)], roles);
}
