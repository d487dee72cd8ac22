//! Schedule models of the real code: what happens when operations on one volume run at once, explored by
//! `shuttle` over many schedules of its locks and atomics.
//!
//! `cargo test --release --features shuttle --test schedules -- --nocapture`; `SCHEDULES` sets how many schedules of
//! each kind a model runs, `SEED` which. Each model is explored as the code is, which must hold, and with protections taken away one
//! by one, each of which it must miss; it prints a row for each: what it asserts beside the checker's invariants, how
//! many schedules held ("all" if a depth-first search came to its end), what was missing, in which schedule that
//! showed, and how.
//!
//! The skip lists that know files by their number and the snapshots of the mapping store are not scheduling
//! points: their steps happen at once here. Those of the maps are, reclamation too.
#![cfg(feature = "shuttle")]

#[path = "../common/around.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod around;
#[path = "../common/schedules.rs"]
#[allow(dead_code, reason = "the models of the map use the rest")]
mod schedules;

mod allocator;
mod background;
mod beside_sync;
mod commits;
mod dispatcher;
mod eviction;
mod faults;
mod looks;
mod model;
mod shares;
mod shifts;
mod shrinker;
mod space;
mod sync_errors;
mod world;
mod writeback;

/// Schedules of each kind for one model, if nobody asks for another number.
const SCHEDULES: usize = 2000;
