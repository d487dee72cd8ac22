//! How an allocator would do with many workers that each append to a file of their own, truncate it and begin
//! again (`fallocate2` of will-it-scale): calibrated with one and two threads of this machine, the rest simulated.
//!
//! ```text
//! cargo run --release --example scaling [-- --transfer NS]
//! ```

mod calibrate;
#[path = "../../benches/common/clock.rs"]
#[allow(dead_code, reason = "benches use the rest")]
mod clock;
mod model;
mod ours;

use clap::Parser;

use model::{sections, share_of_ideal, shared_line_writes};

/// Between cores that are far apart, as on machines with many.
const FAR: f64 = 100.0;
/// Simulated time: some milliseconds.
const DURATION: f64 = 5e6;
/// Of two threads beside one, for comparison with the model.
const TRIALS: usize = 21;

/// Simulates up to 64 workers on the allocator.
#[derive(Debug, Parser)]
struct Arguments {
    /// What it takes to bring a cache line from another core, instead of what is measured here
    #[arg(long, value_name = "NS")]
    transfer: Option<f64>,
}

fn main() {
    let arguments = Arguments::parse();
    let times = ours::sections();
    let transfer = arguments
        .transfer
        .or_else(calibrate::transfer)
        .unwrap_or(FAR);
    let trace = |worker| ours::trace(worker, &times);
    tell(&times, transfer);

    let operations = trace(0);
    let named = [
        ("The second append of a file", &operations[1]),
        ("A later one", &operations[2]),
        ("A truncation", &operations[operations.len() - 1]),
    ];
    for (name, operation) in named {
        let (count, held) = sections(operation);
        let writes = shared_line_writes(operation);
        println!(
            "{name} writes {writes} lines that others write, in {count} sections that exclude others, {held:.0} ns in all."
        );
    }

    println!("\n| workers | % of ideal, lines moved in {transfer:.0} ns | in {FAR:.0} ns |");
    println!("|---|---|---|");
    for workers in (0..7).map(|power| 1 << power) {
        let [here, far] = [transfer, FAR]
            .map(|transfer| 100.0 * share_of_ideal(workers, trace, transfer, DURATION));
        println!("| {workers} | {here:.1} | {far:.1} |");
    }
    println!(
        "\next4 of Linux 6.17, recorded with 80 and 96 workers on as many cores: 6 to 25 % of ideal."
    );
    println!("That includes system calls and the journal, of which there are none here.\n");

    let allocator = ours::allocator();
    let measured =
        |threads| calibrate::measured(threads, ours::APPENDS + 1, || ours::file(&allocator));
    let trial = || 100.0 * measured(2) / (2.0 * measured(1));
    let mut trials: Vec<f64> = std::iter::repeat_with(trial).take(TRIALS).collect();
    trials.sort_by(f64::total_cmp);
    println!(
        "Two threads measured here, the median of {TRIALS} trials: {:.0} % of ideal ({:.0} to {:.0}).",
        trials[TRIALS / 2],
        trials[0],
        trials[TRIALS - 1]
    );
}

/// The model and what it leaves out.
fn tell(times: &ours::Sections, transfer: f64) {
    println!("\
Each worker appends 8 KiB pieces to a file of its own until it has 1 MiB, truncates it, and begins again.
An operation is a row of steps. A step is a section under a lock or the change of a word; both exclude all
others that need the same, who come first is served first. If another worker had it last its cache lines
must be brought first, one after the other.

Measured here with one thread: {:.0} ns for the first append of a file, {:.0} for the second, {:.0} for each later one,
{:.0} to truncate.
Measured with two: {transfer:.0} ns to bring a line. Counted in the source: which lines an operation writes.

Assumed, to the bad side: all that is no change of a shared word happens under the lock, and workers take turns
(real locks and caches let one go on for a while, so that fewer lines move). Assumed, to the good side: who
waits takes over at once (real locks put threads to sleep), a compare-and-swap does not fail, lines that are
only read stay at hand, and a line is as near to each worker as to any other.
", times.first, times.opening, times.append, times.truncate);
}
