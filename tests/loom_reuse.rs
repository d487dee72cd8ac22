//! Loom models of the memory of the extent map: no node is filled anew or freed under a reader that could still look at
//! it. With the real epochs, enough edits that nodes come back while a reader is pinned, and a bound on forced switches.
//!
//! `RUSTFLAGS="--cfg loom --cfg crossbeam_loom" cargo test --release --test loom_reuse`
#![cfg(all(loom, crossbeam_loom))]

use extent_map::map::probe::Mutation::EarlyFree;

#[path = "common/apart.rs"]
mod apart;
#[path = "common/explore.rs"]
#[allow(dead_code, reason = "some models need other parts")]
mod explore;
#[path = "common/loom_map.rs"]
mod loom_map;

use loom_map::{Model, map, reader, set, two_leaves, value, values};

#[test]
fn a_leaf_is_not_reused_under_a_lookup() {
    let model = Model::new("reuse, lookup", [1, 2, 3, 4]).within(2);
    model.proves(&[EarlyFree], |broken| {
        let map = map(broken);
        set(&map, 0, 8, 1);
        let reader = reader(&map, |map| value(map, 0));
        (2..5).for_each(|n| set(&map, 0, 8 - n, n));
        reader.join().unwrap()
    });
}

#[test]
fn nodes_are_not_reused_under_a_walk() {
    let allowed = [[0, 1, 2, 3, 4], [7, 1, 2, 3, 4], [7, 1, 2, 3, 8]].map(Vec::from);
    let model = Model::new("reuse, walk", allowed).within(2);
    model.proves(&[EarlyFree], |broken| {
        let map = two_leaves(broken);
        let reader = reader(&map, values);
        set(&map, 0, 3, 7);
        set(&map, 16, 19, 8);
        reader.join().unwrap()
    });
}
