//! The example `throughput` as a process of its own: what Ctrl-C makes of it, and the file of all figures.
//!
//! Examples that are built beside tests are debug builds, and such a one refuses to measure. So the process is this test,
//! with all of the example but that refusal.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

#[path = "../examples/throughput/main.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod throughput;

use throughput::{End, answer};

/// Holds the arguments of a process that is to be the example, one in a line.
const ARGUMENTS: &str = "EXTENT_MAP_THROUGHPUT_ARGUMENTS";

/// Where the files of a run are, and its process.
struct Run {
    folder: TempDir,
    process: Child,
}

/// What a run told.
struct Told {
    code: Option<i32>,
    out: String,
    /// What it said on standard error after it was interrupted, or all.
    err: Vec<String>,
    folder: TempDir,
}

impl Run {
    fn start(arguments: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name).display().to_string();
        let files = [
            "--svg",
            &file("picture.svg"),
            "--json",
            &file("figures.json"),
        ];
        let arguments: Vec<&str> = arguments.split(' ').chain(files).collect();
        let process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "the_example", "--nocapture"])
            .env(ARGUMENTS, arguments.join("\n"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { folder, process }
    }

    /// Sends a Ctrl-C once the process says `line`, if any is given, and waits for its end.
    fn end(mut self, interrupt_at: Option<&str>) -> Told {
        let err = BufReader::new(self.process.stderr.take().unwrap());
        let mut err = err.lines().map(Result::unwrap);
        if let Some(awaited) = interrupt_at {
            let is_there = err.any(|line| line == awaited);
            assert!(is_there, "it ended before it said {awaited:?}");
            kill_process(Pid::from_child(&self.process), Signal::INT).unwrap();
        }
        let err = err.collect();
        let output = self.process.wait_with_output().unwrap();
        Told {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err,
            folder: self.folder,
        }
    }
}

impl Told {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn figures(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.path("figures.json")).unwrap()).unwrap()
    }

    /// The figures behind a name in the tables: the first line of them.
    fn row(&self, name: &str) -> Vec<&str> {
        let mut rows = self
            .out
            .lines()
            .filter_map(|line| line.trim().strip_prefix(name));
        rows.next()
            .expect("a line of this name")
            .split_whitespace()
            .collect()
    }

    /// Everything was checked, and nothing was wrong.
    fn expect_verified(&self) {
        for what in [
            "data",
            "accounting and invariants",
            "image",
            "data, closed and opened",
        ] {
            assert!(
                self.out.contains(&format!("right  {what}: ")),
                "{what}: {}",
                self.out
            );
        }
        assert!(!self.out.contains("WRONG"), "{}", self.out);
        assert_eq!(self.code, Some(End::Right as i32), "{:?}", self.err);
    }
}

/// No test, but the process of one.
#[test]
fn the_example() {
    if let Ok(arguments) = env::var(ARGUMENTS) {
        let arguments = ["throughput"].into_iter().chain(arguments.lines());
        process::exit(answer(arguments, false) as i32);
    }
}

#[test]
fn ctrl_c_while_it_measures_tells_what_came_out_so_far() {
    // A tenth takes two seconds, what is left after it eighteen.
    let run = Run::start(
        "--device memory --extents 1000 --threads 1,2,3,4,5 --opponents system,btree --seconds 40",
    );
    let told = run.end(Some("The whole crate: 10 %"));
    assert!(
        told.out
            .contains("\nInterrupted: this is what came out so far.\n"),
        "{}",
        told.out
    );
    let checking = "Checking what was done so far; one more Ctrl-C ends it at once";
    assert!(told.err.contains(&checking.into()), "{:?}", told.err);
    told.expect_verified();
    let row = told.row("Volume ");
    let rate: u64 = row[1].replace(',', "").parse().unwrap();
    assert!(row[0] == "1" && rate > 0, "{row:?}");
    assert!(told.out.contains("right  std::fs::File: "), "{}", told.out);
    assert!(!told.out.contains("The map alone"), "{}", told.out);
    assert_eq!(told.figures()["interrupted"], true);
    assert!(told.path("picture.svg").exists());
}

#[test]
fn ctrl_c_while_files_are_laid_out_ends_it_with_one_line() {
    // Five gigabytes, if nobody came.
    let run = Run::start("--extents 20000000 --threads 1 --opponents none --seconds 1");
    let told = run.end(Some("Laying files out"));
    assert_eq!(
        told.err,
        ["throughput: interrupted before anything was measured"]
    );
    assert_eq!(told.code, Some(End::Interrupted as i32));
    assert!(!told.out.contains("operations/s"), "{}", told.out);
    let left = fs::read_dir(told.folder.path()).unwrap().count();
    assert_eq!(left, 0, "files in the folder");
}

#[test]
fn ctrl_c_while_maps_are_filled_tells_of_the_whole_crate() {
    // Seconds of filling, also where nothing is optimized: each map is tried out before.
    let extents = if cfg!(debug_assertions) {
        1_000
    } else {
        1_000_000
    };
    let run = Run::start(&format!(
        "--device memory --extents {extents} --threads 1 --opponents all --seconds 1"
    ));
    let told = run.end(Some("Filling maps"));
    told.expect_verified();
    assert!(told.out.contains("The whole crate"), "{}", told.out);
    assert!(!told.out.contains("The map alone"), "{}", told.out);
}

#[test]
fn the_file_of_figures_has_kinds_percentiles_and_opponents() {
    let told = Run::start(
        "--device memory --extents 1000 --threads 1,2 --opponents system,btree,skipmap --seconds 2 \
         --mix read=50,write=50",
    )
    .end(None);
    told.expect_verified();
    let figures = told.figures();
    assert_eq!(figures["interrupted"], false);
    assert!(figures["stats"]["bios"].as_u64() > Some(0));
    let whole = ["Volume", "std::fs::File"];
    let maps = [
        "ExtentMap",
        "parking_lot RwLock<BTreeMap>",
        "crossbeam SkipMap",
    ];
    for (outcome, (title, names)) in [
        ("The whole crate", &whole[..]),
        ("The map alone", &maps[..]),
    ]
    .into_iter()
    .enumerate()
    {
        let outcome = &figures["outcomes"][outcome];
        assert_eq!(outcome["title"], title);
        let entries = outcome["entries"].as_array().unwrap();
        let found: Vec<_> = entries.iter().map(|entry| &entry["name"]).collect();
        assert_eq!(found, names);
        for entry in entries {
            for (by_threads, threads) in entry["by_threads"].as_array().unwrap().iter().zip([1, 2])
            {
                expect_measured(by_threads, threads);
            }
        }
    }
    let verified = figures["verified"].as_array().unwrap();
    assert!(verified.iter().all(|found| found["right"] == true));
}

/// Five rounds, and the times of both kinds of operations in order.
fn expect_measured(by_threads: &Value, threads: u64) {
    assert_eq!(by_threads["threads"], threads);
    let rates = by_threads["operations_per_second"].as_array().unwrap();
    assert_eq!(rates.len(), 5);
    assert!(
        rates.iter().all(|rate| rate.as_f64() > Some(0.0)),
        "{rates:?}"
    );
    let times = by_threads["nanoseconds"].as_object().unwrap();
    let kinds: BTreeSet<_> = times.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["read", "write"].into());
    for of_kind in times.values() {
        assert!(of_kind["timed"].as_u64() > Some(0), "{of_kind}");
        let shares = ["p50", "p99", "p99.9", "max"].map(|share| of_kind[share].as_u64());
        assert!(shares[0] > Some(0) && shares.is_sorted(), "{of_kind}");
    }
}

#[test]
fn a_debug_build_refuses_to_measure_and_tells_how_it_is_called() {
    assert_eq!(answer(["throughput"], true), End::Refused);
    assert_eq!(answer(["throughput", "--help"], true), End::Right);
}
