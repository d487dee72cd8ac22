//! Promises of space by two threads against one: how much more they get done together.
//!
//! `cargo bench --bench ledger` prints millions of promises, each given back, in a second: the best of short rounds that
//! take turns, because other work on the machine only slows them, with the ledger and with one atomic word, which all
//! threads share.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use extent_map::allocator::Ledger;

const CLUSTERS: u64 = 1 << 24;
const ROUNDS: usize = 400;
const TIMES: u32 = 200_000;

fn main() {
    let ledger = Ledger::new(CLUSTERS).expect("few enough");
    let in_shares = || drop(black_box(&ledger).reserve(1).expect("there is one"));
    let word = AtomicU64::new(CLUSTERS);
    let in_one_word = || {
        let less = |available: u64| available.checked_sub(1);
        let taken = word.fetch_update(Ordering::Acquire, Ordering::Relaxed, less);
        assert!(black_box(taken).is_ok());
        word.fetch_add(1, Ordering::Release);
    };
    let mut best = [0.0; 4];
    for _ in 0..ROUNDS {
        let rates = [
            rate(1, in_shares),
            rate(2, in_shares),
            rate(1, in_one_word),
            rate(2, in_one_word),
        ];
        best = std::array::from_fn(|at| rates[at].max(best[at]));
    }
    let [one, two, one_word, two_word] = best;
    let row = |name, one, two| println!("{name:<12}{one:>10.1}{two:>10.1}{:>8.2}x", two / one);
    println!("{:<12}{:>10}{:>10}", "M/s", "1 thread", "2");
    row("ledger", one, two);
    row("one word", one_word, two_word);
}

/// Millions of steps in a second that all threads do together, from the first that begins to the last that ends.
fn rate(threads: usize, step: impl Fn() + Sync) -> f64 {
    let start = Barrier::new(threads);
    let times: Vec<[Instant; 2]> = thread::scope(|scope| {
        let work = || {
            start.wait();
            let began = Instant::now();
            (0..TIMES).for_each(|_| step());
            [began, Instant::now()]
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let times = running
            .into_iter()
            .map(|thread| thread.join().expect("no panic"));
        times.collect()
    });
    let began = times.iter().map(|[began, _]| *began).min();
    let ended = times.iter().map(|[_, ended]| *ended).max();
    let time = began
        .zip(ended)
        .map_or(Duration::ZERO, |(began, ended)| ended - began);
    threads as f64 * f64::from(TIMES) / time.as_secs_f64() / 1e6
}
