//! Records what threads see of a map that others edit and checks that it is linearizable, for as long as you like.
//!
//! ```text
//! cargo run --release --example history -- [--seconds N] [--threads N] [--seed N]
//! ```

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use extent_map::map::ExtentMap;

#[path = "../../tests/common/history/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "tests also make histories by hand"
)]
mod history;
#[path = "../../tests/common/random.rs"]
mod random;

use history::{MIXES, check, record};

/// Reads of one reader in one round.
const READS: usize = 100_000;

/// Records what threads see of a map that others edit and checks that it is linearizable.
#[derive(Debug, Parser)]
struct Arguments {
    /// No round begins later
    #[arg(long, value_name = "N", default_value_t = 10)]
    seconds: u64,
    /// Half of them write
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(2..))]
    threads: u8,
    /// What threads do depends on it, when they do it does not
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let begin = Instant::now();
    let (mut rounds, mut operations, mut violations) = (0, 0, 0);
    while begin.elapsed() < Duration::from_secs(arguments.seconds) {
        let mix = MIXES[rounds as usize % MIXES.len()];
        let seed = arguments.seed.wrapping_add(rounds);
        let threads = usize::from(arguments.threads);
        let history = record(&ExtentMap::new(), mix, threads, READS, seed);
        if let Err(violation) = check(&history) {
            println!("{}, seed {seed}: {violation}", mix.name);
            violations += 1;
        }
        rounds += 1;
        operations += history.operations();
    }
    println!("{operations} operations in {rounds} rounds, {violations} with a violation");
    match violations {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
