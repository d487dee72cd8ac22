//! The bodies of the fuzz targets: each runs any bytes as a test and panics when the library is wrong.

pub mod bytes;
pub mod file_ops;
pub mod map_concurrent;
pub mod map_model;
pub mod status_tree;
pub mod trace_parser;

/// What the tests of the map compare it with.
#[path = "../../tests/common/dense.rs"]
#[allow(dead_code, reason = "some is for tests only")]
mod dense;
#[path = "../../tests/common/random.rs"]
mod random;

/// The program that replays recordings.
#[path = "../../examples/replay"]
#[allow(dead_code, reason = "its files and folders are not fuzzed")]
mod replay {
    pub(crate) mod blackbox;
    mod observation;
    pub(crate) mod recording;
    mod report;
    mod trace;
    mod whitebox;
}

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 5] = [
    ("file_ops", file_ops::run),
    ("map_concurrent", map_concurrent::run),
    ("map_model", map_model::run),
    ("status_tree", status_tree::run),
    ("trace_parser", trace_parser::run),
];
