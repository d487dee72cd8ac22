//! The map against other ways to keep extents, all in one process and in turns, round by round: compare
//! figures within one run. `BENCHMARKS.md` tells the method and what came out.
//!
//! `cargo bench --bench versus`, in about a minute with `-- --quick`; see `-- --help`.

mod candidates;
mod check;
#[path = "../common/clock.rs"]
mod clock;
mod concurrent;
#[path = "../common/contest.rs"]
mod contest;
mod edits;
mod extents;
mod floor;
mod heap;
#[path = "../common/live.rs"]
mod live;
mod locked;
#[path = "../common/numbers.rs"]
mod numbers;
mod ordered;
mod ours;
mod report;
mod single;
#[path = "../common/spread.rs"]
mod spread;
mod threads;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;

use contest::Plan;
use report::{Report, Row, at_least, at_most, shown};
use spread::Spread;

/// Measures the extent map against its opponents.
#[derive(Parser)]
struct Options {
    /// Fewer and shorter rounds.
    #[arg(long)]
    quick: bool,
    /// Only figures whose name contains this.
    #[arg(long, default_value = "")]
    filter: String,
    /// How often everybody takes a turn.
    #[arg(long)]
    rounds: Option<usize>,
    /// Writes the figures to this file too.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only checks that all candidates answer right.
    #[arg(long)]
    check_only: bool,
    /// What cargo says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Figures that are measured together.
struct Group {
    rows: &'static [Row],
    /// Returns one spread for each row.
    run: fn(&Plan, &mut Report) -> Vec<Spread>,
}

/// The lock is that of parking_lot where it is not said.
const GROUPS: &[Group] = &[
    Group {
        rows: &[
            at_most("bytes per extent, built at random", 32.0, 26.0),
            at_most("bytes per extent, loaded in order", 24.0, 18.0),
            at_most("bytes per extent, after churn", 34.0, 27.0),
        ],
        run: heap::bytes,
    },
    Group {
        rows: &[
            at_least(
                "random lookup 1e3, times faster than RwLock<BTreeMap>",
                3.0,
                5.0,
            ),
            shown("random lookup 1e3, times the floor"),
            shown("random lookup 1e3, times faster than SkipMap"),
            shown("random lookup 1e3, 128 at a time, times faster than RwLock<BTreeMap>"),
            shown("random lookup 1e3, 128 at a time, times the floor"),
        ],
        run: |plan, report| single::random(plan, report, "random 1e3, ns", 1_000),
    },
    Group {
        rows: &[
            at_least(
                "random lookup 1e5, times faster than RwLock<BTreeMap>",
                3.0,
                4.0,
            ),
            at_most("random lookup 1e5, times the floor", 1.3, 1.1),
            at_least("random lookup 1e5, times faster than SkipMap", 7.0, 9.0),
            at_least(
                "random lookup 1e5, 128 at a time, times faster than RwLock<BTreeMap>",
                3.0,
                4.0,
            ),
            at_most(
                "random lookup 1e5, 128 at a time, times the floor",
                1.3,
                1.1,
            ),
        ],
        run: |plan, report| single::random(plan, report, "random 1e5, ns", 100_000),
    },
    Group {
        rows: &[
            at_least(
                "random lookup 1e6, times faster than RwLock<BTreeMap>",
                2.5,
                3.5,
            ),
            at_most("random lookup 1e6, times the floor", 1.5, 1.2),
            at_least("random lookup 1e6, times faster than SkipMap", 8.0, 12.0),
            at_least(
                "random lookup 1e6, 128 at a time, times faster than RwLock<BTreeMap>",
                2.5,
                3.5,
            ),
            at_most(
                "random lookup 1e6, 128 at a time, times the floor",
                1.5,
                1.2,
            ),
        ],
        run: |plan, report| single::random(plan, report, "random 1e6, ns", 1_000_000),
    },
    Group {
        rows: &[
            shown("holes, random lookup 1e3, times faster than RwLock<BTreeMap>"),
            shown("holes, random lookup 1e3, times the floor"),
        ],
        run: |plan, report| single::holed(plan, report, "holes, random 1e3, ns", 1_000),
    },
    Group {
        rows: &[
            shown("holes, random lookup 1e5, times faster than RwLock<BTreeMap>"),
            shown("holes, random lookup 1e5, times the floor"),
        ],
        run: |plan, report| single::holed(plan, report, "holes, random 1e5, ns", 100_000),
    },
    Group {
        rows: &[
            shown("holes, random lookup 1e6, times faster than RwLock<BTreeMap>"),
            shown("holes, random lookup 1e6, times the floor"),
        ],
        run: |plan, report| single::holed(plan, report, "holes, random 1e6, ns", 1_000_000),
    },
    Group {
        rows: &[at_most("dependent lookup 1e6, times the floor", 1.4, 1.1)],
        run: single::dependent,
    },
    Group {
        rows: &[at_least(
            "sequential lookup 1e5, times faster than lock + tree + last",
            1.0,
            1.3,
        )],
        run: single::sequential,
    },
    Group {
        rows: &[at_least(
            "lookup with own pin 1e5, times faster than RwLock<BTreeMap>",
            2.5,
            3.0,
        )],
        run: single::own_pin,
    },
    Group {
        rows: &[
            at_least("two readers 1e5, times one reader", 1.9, 2.0),
            shown("two readers 1e5, times one reader, by processor time"),
        ],
        run: threads::two_readers,
    },
    Group {
        rows: &[
            at_least(
                "reader beside writer, times faster than RwLock<BTreeMap>",
                15.0,
                40.0,
            ),
            at_least(
                "reader beside writer, times faster than std RwLock<BTreeMap>",
                5.0,
                10.0,
            ),
            at_least("reader beside writer, share of its speed alone", 0.6, 0.75),
            shown("reader beside writer, share kept, by processor time"),
        ],
        run: threads::free_writer,
    },
    Group {
        rows: &[at_least(
            "p99.9 beside writer, times less than std RwLock<BTreeMap>",
            20.0,
            60.0,
        )],
        run: threads::tail,
    },
    Group {
        rows: &[
            at_least(
                "reader beside 100,000 edits/s, share of its speed alone",
                0.93,
                0.97,
            ),
            shown("reader beside 100,000 edits/s, share kept, by processor time"),
        ],
        run: threads::paced_writer,
    },
    Group {
        rows: &[
            at_most("impossible answers per million, 200 extents", 0.0, 0.0),
            at_most("impossible answers per million, 1e5 extents", 0.0, 0.0),
        ],
        run: threads::never_true,
    },
    Group {
        rows: &[at_least(
            "split + merge 1e5, times faster than RwLock<BTreeMap>",
            2.2,
            3.0,
        )],
        run: single::split_and_merge,
    },
    Group {
        rows: &[at_least(
            "overwrite 1..64 blocks 1e5, times faster than RwLock<BTreeMap>",
            2.5,
            4.0,
        )],
        run: single::overwrite,
    },
    Group {
        rows: &[
            at_least(
                "append, not merging, times faster than RwLock<BTreeMap>",
                1.0,
                1.5,
            ),
            at_least(
                "append, merging, times faster than RwLock<BTreeMap>",
                1.0,
                1.5,
            ),
        ],
        run: single::append,
    },
    Group {
        rows: &[at_least(
            "flip of one extent 1e5, times faster than RwLock<BTreeMap>",
            2.0,
            5.0,
        )],
        run: single::flip,
    },
    Group {
        rows: &[at_least("walk 1e6, times faster than BTreeMap", 8.0, 14.0)],
        run: single::walk,
    },
];

fn main() -> std::io::Result<()> {
    let options = Options::parse();
    let (rounds, slice) = if options.quick { (5, 12) } else { (21, 25) };
    let plan = Plan {
        rounds: options.rounds.unwrap_or(rounds).max(1),
        slice: Duration::from_millis(slice),
    };
    let start = Instant::now();
    candidates::check_all();
    println!("All candidates answer right ({:.0?}).\n", start.elapsed());
    if options.check_only {
        return Ok(());
    }
    let mut report = Report::default();
    let wanted = |row: &Row| row.name.contains(&options.filter);
    Report::print_head();
    for group in GROUPS.iter().filter(|group| group.rows.iter().any(wanted)) {
        let found = (group.run)(&plan, &mut report);
        assert_eq!(found.len(), group.rows.len(), "one spread for each row");
        for (row, found) in group.rows.iter().zip(found).filter(|(row, _)| wanted(row)) {
            report.row(*row, found);
        }
    }
    report.print_summary();
    report.print_candidates();
    println!("\n{} rounds in {:.0?}", plan.rounds, start.elapsed());
    match options.json {
        Some(path) => std::fs::write(path, format!("{:#}\n", report.json())),
        None => Ok(()),
    }
}
