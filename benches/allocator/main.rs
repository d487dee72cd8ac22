//! The allocator against other ways to keep the free space of a volume, all in one process and in turns, round by
//! round: compare figures within one run.
//!
//! `cargo bench --bench allocator`, quickly with `-- --quick`; see `-- --help`.

mod ageing;
mod best_fit;
#[path = "../common/clock.rs"]
mod clock;
#[path = "../common/contest.rs"]
mod contest;
mod crates;
mod effort;
mod entries;
mod fallocate;
mod file;
mod fill;
mod half_full;
mod interleaved;
mod ledger;
#[path = "../common/live.rs"]
mod live;
mod next_fit;
#[path = "../common/numbers.rs"]
mod numbers;
mod oracle;
mod ours;
#[path = "../common/spread.rs"]
mod spread;
mod subject;
mod subjects;
mod table;
mod threads;
mod twins;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;

use contest::Plan;
use effort::{Ageing, Effort};
use table::Table;

/// Measures the allocator against its opponents.
#[derive(Parser)]
struct Options {
    /// Fewer and shorter rounds, smaller volumes.
    #[arg(long)]
    quick: bool,
    /// Only these workloads, for example a,c.
    #[arg(long, value_delimiter = ',')]
    only: Vec<char>,
    /// How often everybody takes a turn.
    #[arg(long)]
    rounds: Option<usize>,
    /// Writes the figures to this file too.
    #[arg(long)]
    json: Option<PathBuf>,
    /// What cargo says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

type Workload = fn(&Effort) -> Vec<Table>;

const WORKLOADS: &[(char, Workload)] = &[
    ('a', |effort| vec![half_full::replace(effort)]),
    ('b', |effort| vec![fill::fill(effort)]),
    ('c', |effort| vec![fallocate::fallocate(effort)]),
    ('d', |effort| vec![interleaved::interleaved(effort)]),
    ('e', |effort| vec![half_full::memory(effort)]),
    ('f', ageing::age),
    ('g', |effort| vec![ledger::ledger(effort)]),
];

/// 1 GiB, in blocks of 4 KiB.
const GIB: u64 = 1 << 18;

const NOTE: &str = "LLFree has no crate to run here. Measured before on the code of its paper (ATC '23), one block at a time: 263
instructions and 19.7 ns to allocate, 216 and 16.4 ns to free, 1.27 bits of memory per block.

Benches are built with the feature `testing`: our own locks ask here whether they are to check their order (they are not).";

fn main() -> std::io::Result<()> {
    let options = Options::parse();
    extent_map::testing::ignore_lock_order();
    let (rounds, slice, gigabytes, volumes) = match options.quick {
        true => (5, 12, 1, 5),
        false => (21, 25, 4, 20),
    };
    let effort = Effort {
        plan: Plan {
            rounds: options.rounds.unwrap_or(rounds).max(1),
            slice: Duration::from_millis(slice),
        },
        blocks: 8 * GIB,
        ageing: Ageing {
            blocks: gigabytes * GIB,
            volumes,
            seeds: 6,
        },
    };

    let start = Instant::now();
    twins::check_oracle();
    let wanted = |letter: char| options.only.is_empty() || options.only.contains(&letter);
    let mut tables = Vec::new();
    for (_, run) in WORKLOADS.iter().filter(|(letter, _)| wanted(*letter)) {
        let found = run(&effort);
        found.iter().for_each(Table::print);
        tables.extend(found);
    }
    println!("\n{NOTE}");
    println!(
        "\nNo block was handed out twice or lost. {} rounds in {:.0?}",
        effort.plan.rounds,
        start.elapsed()
    );
    match options.json {
        Some(path) => {
            let tables: Vec<_> = tables.iter().map(Table::json).collect();
            std::fs::write(
                path,
                format!("{:#}\n", serde_json::json!({ "tables": tables })),
            )
        }
        None => Ok(()),
    }
}
