//! One thread against two, each on a core of its own.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::clock::{stay_on, thread_time};
use super::contest::{Contestant, Plan, contest};
use super::spread::Spread;
use super::table::Cell;

/// What one thread did, and how long it took.
struct Share {
    operations: u64,
    wall: Duration,
    processor: Duration,
}

/// How long threads work side by side in a round: longer than one thread alone, because the scheduler has a
/// hand in it.
fn together(plan: &Plan) -> Duration {
    plan.slice * 4
}

/// Nanoseconds per operation of `count` threads, counted together: by the clock on the wall and by processor time.
/// `make` makes the work of a thread; each call of that does some operations and tells how many.
fn cost<W: FnMut() -> u64>(
    count: usize,
    time: Duration,
    make: &(impl Fn(u64) -> W + Sync),
) -> (f64, f64) {
    let (start, stop) = (&Barrier::new(count), &AtomicBool::new(false));
    let one = |number: usize| {
        stay_on(number);
        let mut work = make(number as u64);
        work();
        start.wait();
        let (mut operations, begin, used) = (0, Instant::now(), thread_time());
        while begin.elapsed() < time && !stop.load(Ordering::Relaxed) {
            operations += work();
        }
        // Nobody is left to work alone.
        stop.store(true, Ordering::Relaxed);
        Share {
            operations,
            wall: begin.elapsed(),
            processor: thread_time() - used,
        }
    };
    let shares: Vec<Share> = thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|number| scope.spawn(move || one(number)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("workers do not panic"))
            .collect()
    });
    let together = |time: fn(&Share) -> Duration| {
        let speeds = shares
            .iter()
            .map(|share| share.operations as f64 / time(share).as_nanos() as f64);
        1.0 / speeds.sum::<f64>()
    };
    (
        together(|share| share.wall),
        together(|share| share.processor),
    )
}

/// Cost of one thread, cost of two, and how many times faster two are, by both clocks.
pub(crate) fn one_and_two<W: FnMut() -> u64>(
    plan: &Plan,
    make: impl Fn(u64) -> W + Sync,
) -> Vec<Cell> {
    let mut by_processor = [Vec::new(), Vec::new()];
    let outcome = {
        let [alone, both] = &mut by_processor;
        let turn = |count: usize, used: &mut Vec<f64>| {
            let (wall, processor) = cost(count, together(plan), &make);
            used.push(processor);
            wall
        };
        let contestants = vec![
            Contestant::new("one", || turn(1, alone)),
            Contestant::new("two", || turn(2, both)),
        ];
        contest(plan, contestants)
    };
    let [alone, both] = by_processor;
    let gains = alone.iter().zip(&both).map(|(alone, both)| alone / both);
    let mut cells: Vec<Cell> = outcome
        .costs()
        .map(|(_, cost)| Cell::Figure(cost))
        .collect();
    cells.push(Cell::Figure(outcome.faster("two", "one")));
    cells.push(Cell::Figure(Spread::of(gains).expect("there was a round")));
    cells
}

pub(crate) const COLUMNS: &[&str] = &[
    "ns, one thread",
    "ns, two threads together",
    "times faster with two",
    "the same by processor time, sleep not counted",
    "remark",
];
