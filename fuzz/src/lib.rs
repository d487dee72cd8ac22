//! The bodies of the fuzz targets: each runs any bytes as a test and panics when the library is wrong.
//!
//! The feature `shuttle` replaces all locks and atomics of the library by those of a schedule explorer. With it
//! [`TARGETS`] are those that run inside the explorer, without it all others.

pub mod allocator;
pub mod block_queue;
pub mod bytes;
pub mod dealt;
pub mod device_faults;
pub mod expected;
pub mod faulted;
#[cfg(feature = "shuttle")]
pub mod file_concurrent;
pub mod file_ops;
mod forge;
pub mod forged_store;
pub mod map_concurrent;
pub mod map_model;
pub mod open_image;
pub mod recorded;
pub mod status_tree;
pub mod trace_parser;

/// What tests compare the library with.
#[path = "../../tests/common"]
#[allow(dead_code, reason = "some is for tests only")]
mod common {
    pub(crate) mod allocator_pair;
    pub(crate) mod batches;
    pub(crate) mod commands;
    pub(crate) mod dense;
    pub(crate) mod io;
    pub(crate) mod random;
    pub(crate) mod space;
}

/// The program that replays recordings.
#[path = "../../examples/replay"]
#[allow(dead_code, reason = "its files and folders are not fuzzed")]
mod replay {
    use super::common::random;

    pub(crate) mod blackbox;
    mod mount;
    mod observation;
    pub(crate) mod recording;
    mod report;
    pub(crate) mod trace;
    mod whitebox;
}

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All targets by name.
#[cfg(not(feature = "shuttle"))]
pub const TARGETS: &[(&str, Target)] = &[
    ("allocator", allocator::run),
    ("block_queue", block_queue::run),
    ("device_faults", device_faults::run),
    ("file_ops", file_ops::run),
    ("forged_store", forged_store::run),
    ("map_concurrent", map_concurrent::run),
    ("map_model", map_model::run),
    ("open_image", open_image::run),
    ("status_tree", status_tree::run),
    ("trace_parser", trace_parser::run),
];

/// All targets by name.
#[cfg(feature = "shuttle")]
pub const TARGETS: &[(&str, Target)] = &[("file_concurrent", file_concurrent::run)];
