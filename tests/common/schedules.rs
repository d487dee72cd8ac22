//! Models under shuttle: random schedules of three kinds, a bounded search, and the first schedule that shows a defect.

use std::cell::Cell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};

use shuttle::scheduler::{
    DfsScheduler, PctScheduler, RandomScheduler, Scheduler, UrwRandomScheduler,
};
use shuttle::{Config, FailurePersistence, Runner};

/// A number that the environment may set.
fn number(name: &str, otherwise: usize) -> usize {
    let from_env = std::env::var(name).ok();
    from_env.map_or(otherwise, |text| text.parse().expect("a number"))
}

/// What was searched without finding anything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    random: usize,
    depth_first: usize,
    /// Depth first came to its end: there are no other schedules.
    complete: bool,
}

impl fmt::Display for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.complete {
            true => write!(f, "all {}", self.depth_first),
            false => write!(f, "{} of more", self.random + self.depth_first),
        }
    }
}

/// How many schedules were run.
fn run(
    scheduler: impl Scheduler + 'static,
    body: &Arc<impl Fn() + Send + Sync + 'static>,
) -> usize {
    let mut config = Config::new();
    // Some models copy pages by way of the stack.
    config.stack_size = 256 << 10;
    config.silence_warnings = true;
    if QUIET.get() {
        config.failure_persistence = FailurePersistence::None;
    }
    let body = Arc::clone(body);
    Runner::new(scheduler, config).run(move || body())
}

/// How much longer a search is that must find something.
pub(crate) const PATIENCE: usize = 8;

thread_local! {
    /// Whether panics are expected.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, which may panic, without the messages of a panic.
pub(crate) fn quietly<T>(work: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                loud(info);
            }
        }));
    });
    QUIET.set(true);
    let done = work();
    QUIET.set(false);
    done
}

/// Runs `body` under schedules drawn in three ways (by PCT with depth 3; by random walks that are uniform over
/// interleavings; uniformly at each step), and under the first ones of a depth-first search. A panic of it ends the search.
/// Where one is expected, the search is `patience` times as long.
pub(crate) fn explore(patience: usize, body: impl Fn() + Send + Sync + 'static) -> Search {
    let body = Arc::new(body);
    let count = patience * number("SCHEDULES", crate::SCHEDULES);
    // The same schedules in each run unless asked for others.
    let seed = number("SEED", 1) as u64;
    let random = run(PctScheduler::new_from_seed(seed, 3, count), &body)
        + run(UrwRandomScheduler::new_from_seed(seed, count), &body)
        + run(RandomScheduler::new_from_seed(seed, count), &body);
    let limit = (count / 4).max(1);
    let depth_first = run(DfsScheduler::new(Some(limit), true), &body);
    Search {
        random,
        depth_first,
        complete: depth_first < limit,
    }
}

/// Runs `body` under all schedules; a schedule in which it panics fails the test.
pub(crate) fn holds(name: &str, body: impl Fn() + Send + Sync + 'static) {
    println!("{name}: held in {} schedules", explore(1, body));
}

/// Runs `body` until a schedule makes it panic; which one that was.
pub(crate) fn first_violation(body: impl Fn() + Send + Sync + 'static) -> Option<usize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let body = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        body();
    };
    let outcome = quietly(|| catch_unwind(AssertUnwindSafe(|| explore(PATIENCE, body))));
    outcome.is_err().then(|| count.load(Ordering::Relaxed))
}
