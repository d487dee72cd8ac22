//! Records what threads see of a map, a file or a status tree that others change, and checks that it is linearizable,
//! for as long as you like. Prints violations, and exits with 1 if there was one, or if more than one history in a
//! thousand could not be proven.
//!
//! ```text
//! cargo run --release --example history -- [--of map|file|status|all] [--seconds N] [--threads N] [--seed N]
//! ```

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

mod subjects;

#[path = "../../tests/common/history/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "tests also make histories by hand"
)]
mod history;
#[path = "../../tests/common/linear/mod.rs"]
#[allow(dead_code, reason = "tests also break things")]
mod linear;
#[path = "../../tests/common/random.rs"]
mod random;

use linear::{Rounds, Totals};

/// How long one kind of history is recorded before the next has its turn.
const TURN: Duration = Duration::from_secs(10);

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Of {
    /// Extent maps
    Map,
    /// Files of volumes
    File,
    /// Extent status trees
    Status,
    /// One after the other
    All,
}

/// Records what threads see of something that others change and checks that it is linearizable.
#[derive(Debug, Parser)]
struct Arguments {
    /// What is watched
    #[arg(long, value_enum, default_value = "all")]
    of: Of,
    /// No round begins later
    #[arg(long, value_name = "N", default_value_t = 10)]
    seconds: u64,
    /// How many; of a map, half of them write
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(2..=8))]
    threads: u8,
    /// What threads do depends on it, when they do it does not
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let begin = Instant::now();
    let time = Duration::from_secs(arguments.seconds);
    let mut subjects = subjects::of(arguments.of, usize::from(arguments.threads));
    let turn = TURN.min(time / subjects.len() as u32);
    let mut all = Totals::default();
    while begin.elapsed() < time {
        for subject in &mut subjects {
            let rounds = Rounds {
                seed: arguments.seed.wrapping_add(subject.rounds_done),
                rounds: u64::MAX,
                time: turn.min(time.saturating_sub(begin.elapsed())),
                stop_at_violation: false,
            };
            let totals = rounds.run(&subject.round);
            if totals.histories == 0 {
                break;
            }
            subject.rounds_done += totals.histories;
            for (seed, violation) in &totals.violations {
                println!("{}, seed {seed}: {violation}", subject.name);
            }
            all += totals;
            println!("{:6} s, {}: {all}", begin.elapsed().as_secs(), subject.name);
        }
    }
    match all.are_good() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
