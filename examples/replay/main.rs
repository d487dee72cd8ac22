//! Replays recorded file system traces and tells where this crate answers otherwise.
//!
//! On the device `direct` on Linux only, on `uring` with the feature of that name.
//!
//! ```text
//! cargo run --release --example replay -- [--device memory|file|direct|uring] [--store memory|log] [--check] [--shrink P] [PATHS]
//! ```

mod blackbox;
mod mount;
mod observation;
#[path = "../../tests/common/random.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod random;
mod recording;
mod report;
mod trace;
mod whitebox;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use blackbox::Settings;
use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget};
use rayon::prelude::*;
use report::Failure;

/// A replay that ends sooner shows no progress bar.
const LONG: Duration = Duration::from_secs(1);

/// Replays recorded file system traces and tells where this crate answers otherwise.
#[derive(Debug, Parser)]
struct Arguments {
    /// Recordings, or folders of them [default: those of this crate's tests]
    paths: Vec<PathBuf>,
    /// Recordings replayed at the same time [default: the number of cores]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    #[command(flatten)]
    settings: Settings,
}

/// Each recording with the lines to print about it: none if it passed.
type Outcome = (PathBuf, Vec<String>);

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody may be listening there either.
            let _ = writeln!(io::stderr(), "replay: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Replays everything and prints what came of it; returns whether all passed.
fn run(arguments: &Arguments) -> io::Result<bool> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(arguments.jobs.unwrap_or(0))
        .build()
        .map_err(io::Error::other)?;
    let outcomes = pool.install(|| replay_all(arguments));
    let mut out = io::stdout().lock();
    for (path, lines) in &outcomes {
        for line in lines {
            writeln!(out, "{}: {line}", path.display())?;
        }
    }
    let failed = outcomes.iter().filter(|(_, lines)| !lines.is_empty());
    let failed = failed.count();
    writeln!(out, "{} passed, {failed} failed", outcomes.len() - failed)?;
    Ok(failed == 0)
}

fn replay_all(arguments: &Arguments) -> Vec<Outcome> {
    let committed = [Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces")];
    let paths = match arguments.paths.is_empty() {
        true => &committed[..],
        false => &arguments.paths,
    };
    let mut outcomes = Vec::new();
    let mut recordings = Vec::new();
    for path in paths {
        match recording::find(path) {
            Ok(found) if found.is_empty() => {
                outcomes.push((path.clone(), vec!["no recordings".into()]));
            }
            Ok(found) => recordings.extend(found),
            Err(error) => outcomes.push((path.clone(), vec![error.to_string()])),
        }
    }
    let bar = ProgressBar::hidden();
    bar.set_length(recordings.len() as u64);
    outcomes.par_extend(recordings.into_par_iter().map(|path| {
        let lines = replay(&path, &arguments.settings);
        if bar.is_hidden() && bar.elapsed() > LONG {
            // Stays hidden where standard error is no terminal.
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        bar.inc(1);
        (path, lines)
    }));
    bar.finish_and_clear();
    outcomes
}

/// Replays one recording; returns a line for each thing that is wrong.
fn replay(path: &Path, settings: &Settings) -> Vec<String> {
    let report = recording::read(path)
        .and_then(|text| Ok(recording::replay(&text, settings)?))
        .map(|report| report.failures);
    match report {
        Ok(failures) => failures.iter().map(describe).collect(),
        Err(error) => vec![error.to_string()],
    }
}

fn describe(failure: &Failure) -> String {
    let Failure {
        step,
        field,
        expected,
        got,
    } = failure;
    format!("step {step}: {field}: expected {expected}, got {got}")
}
