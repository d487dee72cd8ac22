//! Cuts the power after every device operation of recorded traces and of random runs, and looks whether what is left opens,
//! passes the check and holds what the last sync promised.
//!
//! ```text
//! cargo run --release --example crash -- [--states N] [--seed N] [--random N]
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
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use rayon::prelude::*;
use run::Mishaps;

/// Cuts the power at every moment of traces and random runs, and judges what is left.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many states to judge, at least: all traces first, then random runs
    #[arg(long, default_value_t = 100_000)]
    states: u64,
    /// Chooses what arrives, and the random runs
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Random subsets of what is not durable, for each moment
    #[arg(long, default_value_t = 4)]
    random: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = traces(&arguments).and_then(|(traces, states)| {
        let (runs, more) = random_runs(&arguments, states)?;
        Ok(format!(
            "{} states of {traces} traces and {runs} random runs: all as they should be",
            states + more
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

/// Judges all committed traces; how many, and how many states.
fn traces(arguments: &Arguments) -> Result<(usize, u64), String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let paths = recording::find(&folder).map_err(|error| error.to_string())?;
    let judged = paths.par_iter().map(|path| {
        let name = |wrong| format!("{}: {wrong}", path.display());
        let run = workload::recorded(path, |options| options).map_err(name)?;
        judge::judge(&run, arguments.random, arguments.seed).map_err(name)
    });
    let states: Result<Vec<u64>, String> = judged.collect();
    Ok((paths.len(), states?.iter().sum()))
}

/// Judges random runs until there are enough states: some with several threads, with a device error, with a process
/// that is killed, or after a power cut.
fn random_runs(arguments: &Arguments, before: u64) -> Result<(u64, u64), String> {
    let states = AtomicU64::new(before);
    let batch = rayon::current_num_threads() as u64 * 4;
    let mut runs = 0;
    while states.load(Ordering::Relaxed) < arguments.states || runs < 200 {
        (runs..runs + batch)
            .into_par_iter()
            .try_for_each(|number| {
                let seed = arguments.seed.wrapping_mul(1_000_003) + number;
                // Not both: what the device has failed to write it may lose much later, and whoever is told must live.
                let nth = Some(seed / 8 % 150);
                let fails = matches!(number % 16, 1 | 5 | 7 | 9 | 13);
                let mishaps = Mishaps {
                    fault: nth.filter(|_| fails),
                    killed: nth.filter(|_| !fails && number % 4 >= 2),
                };
                let run = match number % 8 {
                    0..4 => workload::random(seed / 8, 60, |options| options, mishaps),
                    4..7 => workload::after_power_cuts(seed / 8, 40, |options| options, mishaps),
                    _ => workload::concurrent(seed / 2, 25, |options| options, mishaps),
                };
                let judged = run.and_then(|run| judge::judge(&run, arguments.random, seed));
                let judged =
                    judged.map_err(|wrong| format!("run {number}, seed {seed}: {wrong}"))?;
                states.fetch_add(judged, Ordering::Relaxed);
                Ok::<_, String>(())
            })?;
        runs += batch;
    }
    Ok((runs, states.into_inner() - before))
}
