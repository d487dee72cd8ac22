//! The ledger by itself, with threads in different shares and hardly anything left.

use extent_map::Error;
use extent_map::allocator::{Ledger, LedgerOptions, Reservation};
use extent_map::probe::Mutation;
use shuttle::thread;

use crate::model::{Case, Model, ensure};

/// A ledger in two shares that are open to the last cluster, the first with a cluster to begin with.
fn ledger(case: &Case, clusters: u64) -> Ledger {
    let options = LedgerOptions::new(clusters).shares(2).exact_below(0);
    let ledger = Ledger::on_share(0, || Ledger::with_options(&options).unwrap());
    ledger.with_probe(case.probe.clone())
}

/// A promise of one cluster, made in `share`.
fn reserve(ledger: &Ledger, share: usize) -> Option<Reservation<&Ledger>> {
    let outcome = Ledger::on_share(share, || ledger.reserve(1));
    let allowed = !matches!(&outcome, Err(error) if *error != Error::NoSpace);
    ensure(21, allowed, || format!("{outcome:?}"));
    outcome.ok()
}

/// Ends a promise in `share`.
fn give_back(promise: Reservation<&Ledger>, share: usize) {
    Ledger::on_share(share, || promise.give_back());
}

/// Asserts that nothing is promised and everything available.
fn ensure_at_rest(ledger: &Ledger, clusters: u64) {
    let space = ledger.snapshot();
    let found = (space.available(), space.promised());
    ensure(21, found == (clusters, 0), || {
        format!("{found:?} are available and promised in the end, not {clusters} and none")
    });
}

#[test]
fn a_cluster_that_moves_between_shares_is_never_overlooked() {
    Model {
        name: "reserve, promises that move to a share looked at already",
        asserts: &[21],
        broken: &[&[Mutation::SweepOpenShares]],
        body: |case| {
            let ledger = ledger(case, 2);
            // Both clusters are in share 1.
            Ledger::on_share(1, || drop(ledger.reserve(2)));
            thread::scope(|scope| {
                scope.spawn(|| {
                    let promise = reserve(&ledger, 0);
                    ensure(21, promise.is_some(), || {
                        "refused beside one promise".into()
                    });
                });
                scope.spawn(|| {
                    for _ in 0..2 {
                        let promise = reserve(&ledger, 1);
                        ensure(21, promise.is_some(), || {
                            "refused beside one promise".into()
                        });
                        promise
                            .into_iter()
                            .for_each(|promise| give_back(promise, 0));
                    }
                });
            });
            ensure_at_rest(&ledger, 2);
        },
    }
    .verify();
}

#[test]
fn a_cluster_on_its_way_into_a_share_is_never_overlooked() {
    Model {
        name: "reserve two of three, beside reserve and release",
        asserts: &[21],
        broken: &[&[Mutation::FillShareUnlocked]],
        body: |case| {
            let ledger = ledger(case, 3);
            thread::scope(|scope| {
                scope.spawn(|| {
                    let promise = Ledger::on_share(0, || ledger.reserve(2));
                    ensure(21, promise.is_ok(), || "refused beside one promise".into());
                });
                scope.spawn(|| {
                    let promise = reserve(&ledger, 1);
                    ensure(21, promise.is_some(), || {
                        "refused beside two promises".into()
                    });
                });
            });
            ensure_at_rest(&ledger, 3);
        },
    }
    .verify();
}

#[test]
fn the_last_cluster_is_promised_in_one_share_only() {
    Model {
        name: "reserve, reserve in two shares, one cluster left",
        asserts: &[21],
        broken: &[&[Mutation::ReserveLooksThenActs]],
        body: |case| {
            let ledger = ledger(case, 1);
            let [first, second] = thread::scope(|scope| {
                let threads = [0, 1].map(|share| {
                    let ledger = &ledger;
                    scope.spawn(move || reserve(ledger, share))
                });
                threads.map(|thread| thread.join().unwrap())
            });
            let winners = first.iter().chain(&second).count();
            ensure(21, winners == 1, || {
                format!("{winners} have the last cluster")
            });
            drop((first, second));
            ensure_at_rest(&ledger, 1);
        },
    }
    .verify();
}
