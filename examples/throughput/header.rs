//! What the figures are of: machine, versions and options.

use std::fs;
use std::thread;

use super::contest::ROUNDS;
use super::options::Options;
use super::worker::{Job, SHARED};

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
    let mut header = vec![
        (
            "machine",
            format!("{cores} cores, {}, {system}", std::env::consts::ARCH),
        ),
        (
            "versions",
            format!("extent-map {}; {peers}", env!("CARGO_PKG_VERSION")),
        ),
        ("device", device),
    ];
    let work = match &options.replay {
        Some(path) => [
            (
                "trace",
                format!(
                    "{}, {} threads, as fast as they can",
                    path.display(),
                    job.workers
                ),
            ),
            (
                "files",
                "of the volume and of the system, holes at first, pages cached".into(),
            ),
            (
                "measured",
                "rounds of 4096 operations in turns; median (lowest .. highest)".into(),
            ),
        ],
        None => {
            let distribution = format!("{:?}", options.distribution).to_lowercase();
            let seconds = 2.0 * options.time_of_a_part().as_secs_f64();
            [
                ("mix", options.mix.to_string()),
                (
                    "seed",
                    format!(
                        "{}; {} extents in a map, {} blocks in each of {SHARED} shared files; {distribution}",
                        options.seed,
                        options.extents,
                        job.blocks()
                    ),
                ),
                (
                    "measured",
                    format!(
                        "{seconds} s, {ROUNDS} rounds in turns, all written back after each; median (lowest .. highest)"
                    ),
                ),
            ]
        }
    };
    header.extend(work);
    header
}

/// The version of a crate that this was built with.
fn version(name: &str) -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let entry = format!("name = \"{name}\"\nversion = \"");
    let behind = lock.split_once(&entry).map_or("", |(_, behind)| behind);
    behind.split('"').next().unwrap_or("")
}
