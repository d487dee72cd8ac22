//! Promises of space by two threads against one: how much more they get done together.
//!
//! `cargo bench --bench ledger` prints millions of promises, each given back, in a second: medians of rounds that take
//! turns, with the ledger and with one atomic word, which all threads share.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use extent_map::allocator::Ledger;

const CLUSTERS: u64 = 1 << 24;
const ROUNDS: usize = 15;
const TIMES: u32 = 4_000_000;

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
    let mut rates: [Vec<f64>; 4] = Default::default();
    for _ in 0..ROUNDS {
        rates[0].push(rate(1, in_shares));
        rates[1].push(rate(2, in_shares));
        rates[2].push(rate(1, in_one_word));
        rates[3].push(rate(2, in_one_word));
    }
    let [one, two, one_word, two_word] = rates.map(median);
    let row = |name, one, two| println!("{name:<12}{one:>10.1}{two:>10.1}{:>8.2}x", two / one);
    println!("{:<12}{:>10}{:>10}", "M/s", "1 thread", "2");
    row("ledger", one, two);
    row("one word", one_word, two_word);
}

/// Millions of steps in a second that all threads do together.
fn rate(threads: usize, step: impl Fn() + Sync) -> f64 {
    let start = Barrier::new(threads);
    let seconds = thread::scope(|scope| {
        let work = || {
            start.wait();
            let began = Instant::now();
            (0..TIMES).for_each(|_| step());
            began.elapsed().as_secs_f64()
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let seconds = running
            .into_iter()
            .map(|thread| thread.join().expect("no panic"));
        seconds.fold(0.0, f64::max)
    });
    threads as f64 * f64::from(TIMES) / seconds / 1e6
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
