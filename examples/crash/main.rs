//! Cuts the power after device operations of recorded traces and of random runs, and looks whether what is left opens,
//! passes the check and holds what the last sync promised.
//!
//! ```text
//! cargo run --release --example crash -- [--states N] [--seed N] [--random N] [PATHS]
//! ```

#[path = "../replay/blackbox.rs"]
#[allow(dead_code, reason = "replay uses the rest")]
mod blackbox;
mod history;
mod judge;
#[path = "../replay/mount.rs"]
#[allow(dead_code, reason = "replay uses the rest")]
mod mount;
#[path = "../replay/observation.rs"]
#[allow(dead_code, reason = "replay uses the rest")]
mod observation;
#[path = "../../tests/common/random.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod random;
#[path = "../replay/recording.rs"]
#[allow(dead_code, reason = "replay uses the rest")]
mod recording;
#[path = "../replay/report.rs"]
#[allow(dead_code, reason = "replay uses the rest")]
mod report;
mod run;
#[path = "../replay/trace.rs"]
#[allow(dead_code, reason = "replay uses the rest")]
mod trace;
#[path = "../replay/whitebox.rs"]
#[allow(dead_code, reason = "replay uses the rest")]
mod whitebox;
mod workload;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use rayon::prelude::*;
use run::Mishaps;

/// Cuts the power at moments of traces and random runs, and judges what is left.
#[derive(Debug, Parser)]
struct Arguments {
    /// Recordings, or folders of them [default: those of this crate's tests]
    paths: Vec<PathBuf>,
    /// How many states to judge, at least: half of them of traces, each in its turn, the rest of random runs
    #[arg(long, default_value_t = 100_000)]
    states: u64,
    /// Chooses what arrives, and the random runs
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Random subsets of what is not durable, for each moment
    #[arg(long, default_value_t = 4)]
    random: u64,
}

/// Random runs, at least; of each eight, two have several threads and no mishap.
const RUNS: u64 = 800;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = traces(&arguments).and_then(|(traces, states)| {
        let (runs, more) = random_runs(&arguments, states)?;
        Ok(format!(
            "{} states of {traces} traces and {runs} random runs, of which {} are concurrent without a mishap and {} \
             with one: all as they should be",
            states + more,
            runs / 4,
            runs / 4,
        ))
    });
    let (text, code) = match outcome {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(wrong) => (wrong, ExitCode::FAILURE),
    };
    // Nobody may be listening.
    let _ = writeln!(io::stdout(), "{text}");
    code
}

/// Judges all traces, each at as many moments as its share of the states allows; how many, and how many states.
fn traces(arguments: &Arguments) -> Result<(usize, u64), String> {
    let committed = [Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces")];
    let folders = match arguments.paths.is_empty() {
        true => &committed[..],
        false => &arguments.paths,
    };
    let found = folders.iter().map(|path| recording::find(path));
    let paths: io::Result<Vec<Vec<PathBuf>>> = found.collect();
    let paths = paths.map_err(|error| error.to_string())?.concat();
    let most = arguments.states / 2 / (paths.len() as u64).max(1);
    let judged = paths.par_iter().map(|path| {
        let name = |wrong| format!("{}: {wrong}", path.display());
        let run = workload::recorded(path, |options| options).map_err(name)?;
        judge::judge(&run, arguments.random, arguments.seed, most).map_err(name)
    });
    let states: Result<Vec<u64>, String> = judged.collect();
    Ok((paths.len(), states?.iter().sum()))
}

/// Judges random runs until there are enough of them and of states, which are spread over all.
fn random_runs(arguments: &Arguments, before: u64) -> Result<(u64, u64), String> {
    let states = AtomicU64::new(before);
    let most = arguments.states.saturating_sub(before).div_ceil(RUNS);
    let batch = rayon::current_num_threads() as u64 * 8;
    let mut runs = 0;
    while states.load(Ordering::Relaxed) < arguments.states || runs < RUNS {
        (runs..runs + batch)
            .into_par_iter()
            .try_for_each(|number| {
                let seed = arguments.seed.wrapping_mul(1_000_003) + number;
                let run = random_run(number, seed);
                let judged = run.and_then(|run| judge::judge(&run, arguments.random, seed, most));
                let judged =
                    judged.map_err(|wrong| format!("run {number}, seed {seed}: {wrong}"))?;
                states.fetch_add(judged, Ordering::Relaxed);
                Ok::<_, String>(())
            })?;
        runs += batch;
    }
    Ok((runs, states.into_inner() - before))
}

/// One file after the other, after power cuts, or several threads; with a device error, with a process that is killed,
/// or neither.
fn random_run(number: u64, seed: u64) -> Result<run::Run, String> {
    let nth = Some(seed / 8 % 150);
    let kind = number % 8;
    // Not both: what the device has failed to write it may lose much later, and whoever is told must live.
    let (fails, is_killed) = match kind {
        0..4 => (number / 8 % 3 == 1, number / 8 % 3 == 2),
        _ => (kind == 6, kind == 7),
    };
    let mishaps = Mishaps {
        fault: nth.filter(|_| fails),
        killed: nth.filter(|_| is_killed),
    };
    match kind {
        0..2 => workload::random(seed, 60, |options| options, mishaps),
        2..4 => workload::after_power_cuts(seed, 40, |options| options, mishaps),
        _ => workload::concurrent(seed, 25, |options| options, mishaps),
    }
}
