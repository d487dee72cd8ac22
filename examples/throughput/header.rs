//! What the figures are of: machine, versions and options.

use std::fs;
use std::thread;

use super::contest::ROUNDS;
use super::options::Options;
use super::worker::Job;

/// Names and what they stand for.
pub(crate) fn header(options: &Options, job: &Job) -> Vec<(&'static str, String)> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    let system = release.map_or_else(
        |_| std::env::consts::OS.into(),
        |release| format!("Linux {}", release.trim()),
    );
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let peers = [
        "parking_lot",
        "rangemap",
        "crossbeam-skiplist",
        "scc",
        "masstree",
    ];
    let peers = peers
        .map(|name| format!("{name} {}", version(name)))
        .join(", ");
    let device = match (&options.image, options.device.name()) {
        (_, "memory") => "memory: no disk is involved, and a sync only writes back".into(),
        (Some(path), name) => format!("{name}, {}", path.display()),
        (None, name) => format!(
            "{name}, a temporary one: what an application gets; --device memory leaves the disk out"
        ),
    };
    vec![
        (
            "machine",
            format!("{cores} cores, {}, {system}", std::env::consts::ARCH),
        ),
        (
            "versions",
            format!("extent-map {}; {peers}", env!("CARGO_PKG_VERSION")),
        ),
        ("device", device),
        ("mix", options.mix.to_string()),
        (
            "files",
            format!(
                "{} extents, {:?}, seed {}, pages cached by both sides",
                options.extents, options.distribution, options.seed
            )
            .to_lowercase(),
        ),
        (
            "measured",
            format!(
                "{ROUNDS} rounds in turns, medians (lowest .. highest); {} threads at most have {} blocks",
                job.workers,
                job.blocks()
            ),
        ),
    ]
}

/// The version of a crate that this was built with.
fn version(name: &str) -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let entry = format!("name = \"{name}\"\nversion = \"");
    let behind = lock.split_once(&entry).map_or("", |(_, behind)| behind);
    behind.split('"').next().unwrap_or("")
}
