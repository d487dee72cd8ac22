//! What this machine takes for what the model needs to know. The fastest of many short trials counts: the others
//! were disturbed.

use std::hint::spin_loop;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::clock::stay_on;

const TRIALS: usize = 20_000;

/// Nanoseconds per operation in the fastest of many trials of so many operations.
pub(crate) fn fastest(operations: u64, trial: impl FnMut() -> Duration) -> f64 {
    let times = std::iter::repeat_with(trial).take(TRIALS);
    times
        .min()
        .map_or(0.0, |time| time.as_nanos() as f64 / operations as f64)
}

/// Nanoseconds to bring a line from the core that wrote it: two threads answer each other through one word. None
/// on a machine with one core.
pub(crate) fn transfer() -> Option<f64> {
    const ROUND_TRIPS: u64 = 50;
    thread::available_parallelism()
        .ok()
        .filter(|cores| cores.get() > 1)?;
    let word = &AtomicU64::new(0);
    let total = ROUND_TRIPS * TRIALS as u64;
    let answer = move |from: u64, to: u64| {
        for turn in (from..to).step_by(2) {
            while word.load(Ordering::Acquire) != turn {
                spin_loop();
            }
            word.store(turn + 1, Ordering::Release);
        }
    };
    let time = thread::scope(|scope| {
        scope.spawn(move || {
            stay_on(1);
            answer(1, 2 * total);
        });
        let asker = scope.spawn(move || {
            stay_on(0);
            let mut next = 0;
            fastest(2 * ROUND_TRIPS, || {
                let start = Instant::now();
                answer(next, next + 2 * ROUND_TRIPS);
                next += 2 * ROUND_TRIPS;
                start.elapsed()
            })
        });
        asker.join().expect("nobody panics")
    });
    Some(time)
}

/// Operations per nanosecond of so many threads that each repeat `work`, which is so many operations, for some
/// milliseconds.
pub(crate) fn measured(threads: usize, operations: u64, work: impl Fn() + Sync) -> f64 {
    const TIME: Duration = Duration::from_millis(20);
    let (work, start) = (&work, &Barrier::new(threads));
    let one = move |core| {
        stay_on(core);
        start.wait();
        let begin = Instant::now();
        let mut done = 0;
        while begin.elapsed() < TIME {
            work();
            done += operations;
        }
        done
    };
    let done: u64 = thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|core| scope.spawn(move || one(core)))
            .collect();
        let done = running
            .into_iter()
            .map(|thread| thread.join().expect("nobody panics"));
        done.sum()
    });
    done as f64 / TIME.as_nanos() as f64
}
