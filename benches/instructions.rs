//! One kind of operation, so many times, for a program that counts instructions: what an operation costs is
//! the difference to a run with none of them, divided. `BENCHMARKS.md` shows how.

#[allow(dead_code, reason = "shared with the bench `versus`")]
mod versus {
    pub(crate) mod edits;
    pub(crate) mod extents;
    pub(crate) mod locked;
    #[path = "../common/numbers.rs"]
    pub(crate) mod numbers;
    pub(crate) mod ordered;
    pub(crate) mod ours;
}

use std::hint::black_box;

use clap::{CommandFactory, Parser, ValueEnum};
use extent_map::allocator::Ledger;

use versus::edits;
use versus::extents::{Anywhere, Extents, Pattern, Run, STRIDE};
use versus::ordered::{Ordered, Tree};
use versus::ours::Ours;

const EXTENTS: u64 = 100_000;

/// Builds a map of 100,000 extents, or a ledger, and does one operation on it, so many times.
#[derive(Parser)]
struct Options {
    operation: Option<Operation>,
    #[arg(default_value_t = 0)]
    times: u64,
    /// On a tree of the standard library, or a number, behind a lock of parking_lot.
    #[arg(long)]
    peer: bool,
    /// What cargo says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Operation {
    /// A random lookup through a view that is kept
    Lookup,
    /// A random lookup without one
    OwnPinLookup,
    /// A split of an extent or the merge that undoes it, in turns
    Insert,
    /// An extent behind the last one
    Append,
    /// A second look at what was found, under the writer lock; the peer must look it up again
    Revalidate,
    /// A promise of a cluster, given back at once
    Reserve,
}

fn main() {
    let options = Options::parse();
    match options.operation {
        None => Options::command()
            .print_help()
            .expect("the terminal takes it"),
        Some(Operation::Reserve) => reserve(options.times, options.peer),
        Some(operation) if options.peer => on_peer(operation, options.times),
        Some(operation) => on_ours(operation, options.times),
    }
}

type Locked = parking_lot::RwLock<Tree>;

fn on_ours(operation: Operation, times: u64) {
    let map = Ours::filled(EXTENTS, Run::dense);
    match operation {
        Operation::OwnPinLookup => look_up(times, |block| map.get(block).map(Run::from)),
        Operation::Revalidate => {
            let (view, mut editor) = (map.pin(), map.edit());
            let found = view.lookup(EXTENTS / 2);
            (0..times).for_each(|_| assert!(black_box(&mut editor).revalidate(&found)));
        }
        _ => on_either(operation, times, &map),
    }
}

fn on_peer(operation: Operation, times: u64) {
    let map = Locked::filled(EXTENTS, Run::dense);
    match operation {
        // It has nothing to keep.
        Operation::OwnPinLookup => look_up(times, map.reader()),
        Operation::Revalidate => {
            let tree = map.write();
            look_up(times, |block| black_box(&*tree).find(block));
        }
        _ => on_either(operation, times, &map),
    }
}

fn on_either(operation: Operation, times: u64, map: &impl Extents) {
    match operation {
        Operation::Insert => write(map, edits::split_and_merge(EXTENTS).take(times as usize)),
        Operation::Append => {
            let behind = EXTENTS..EXTENTS + times;
            write(map, behind.map(Run::dense));
        }
        _ => look_up(times, map.reader()),
    }
}

fn reserve(times: u64, peer: bool) {
    const CLUSTERS: u64 = 1 << 24;
    let number = parking_lot::Mutex::new(CLUSTERS);
    let ledger = Ledger::new(CLUSTERS).expect("few enough");
    match peer {
        true => (0..times).for_each(|_| {
            *black_box(&number).lock() -= 1;
            *black_box(&number).lock() += 1;
        }),
        false => {
            (0..times).for_each(|_| drop(black_box(&ledger).reserve(1).expect("there is one")))
        }
    }
}

fn look_up(times: u64, get: impl Fn(u64) -> Option<Run>) {
    black_box(Anywhere::new(EXTENTS * STRIDE).run(times, get));
}

fn write(map: &impl Extents, runs: impl Iterator<Item = Run>) {
    runs.for_each(|run| map.overwrite(run));
}
