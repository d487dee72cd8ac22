//! The block layer against raw calls of the device below it, in one process and in turns, round by round: compare
//! figures within one run.
//!
//! `cargo bench --bench block`, quickly with `-- --quick`. For a program that counts instructions, `-- --count random
//! 100000` does one kind of work so many times and nothing else.

#[path = "../common/clock.rs"]
#[allow(dead_code, reason = "other benches use the rest")]
mod clock;
#[path = "../common/contest.rs"]
#[allow(dead_code, reason = "other benches use the rest")]
mod contest;
mod count;
#[path = "../common/numbers.rs"]
#[allow(dead_code, reason = "other benches use the rest")]
mod numbers;
mod random;
mod sequential;
#[path = "../common/spread.rs"]
#[allow(dead_code, reason = "other benches use the rest")]
mod spread;

use std::time::Duration;

use clap::Parser;

use contest::{Outcome, Plan};
use count::Work;

/// Measures the block layer against raw calls.
#[derive(Parser)]
struct Options {
    /// Fewer and shorter rounds.
    #[arg(long)]
    quick: bool,
    /// Does only this, as often as the number says.
    #[arg(long)]
    count: Option<Work>,
    #[arg(default_value_t = 0)]
    times: u64,
    /// What cargo says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    extent_map::testing::ignore_lock_order();
    if let Some(work) = options.count {
        return count::run(work, options.times);
    }
    clock::stay_on(0);
    let (rounds, slice) = if options.quick { (7, 10) } else { (31, 25) };
    let plan = Plan {
        rounds,
        slice: Duration::from_millis(slice),
    };
    random::contests(&plan);
    sequential::contests(&plan);
}

/// Prints the nanoseconds of each contestant, and its speed in terms of the first.
fn print(title: &str, outcome: &Outcome) {
    println!("\n{title}");
    let mut first = None;
    for (name, cost) in outcome.costs() {
        let raw = *first.get_or_insert(name);
        let speed = outcome.faster(name, raw);
        println!(
            "  {name:<44} {:>8.1} ns ({:.1} to {:.1}), {:>4.0} % of the speed of {raw} ({:.0} to {:.0})",
            cost.median,
            cost.low,
            cost.high,
            100.0 * speed.median,
            100.0 * speed.low,
            100.0 * speed.high,
        );
    }
}
