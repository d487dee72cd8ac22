//! Models under shuttle: random schedules of three kinds, and the first one that shows a defect.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler, UrwRandomScheduler};
use shuttle::{Config, Runner};

/// Schedules of each kind for one model.
fn schedules() -> usize {
    let from_env = std::env::var("SCHEDULES").ok();
    from_env.map_or(crate::SCHEDULES, |text| {
        text.parse().expect("SCHEDULES is a number")
    })
}

fn run(scheduler: impl Scheduler + 'static, body: &Arc<impl Fn() + Send + Sync + 'static>) {
    let mut config = Config::new();
    // Some models copy pages by way of the stack.
    config.stack_size = 256 << 10;
    config.silence_warnings = true;
    let body = Arc::clone(body);
    Runner::new(scheduler, config).run(move || body());
}

fn run_all(body: &Arc<impl Fn() + Send + Sync + 'static>) {
    run(RandomScheduler::new(schedules()), body);
    run(PctScheduler::new(3, schedules()), body);
    run(UrwRandomScheduler::new(schedules()), body);
}

/// Runs `body` under all schedules; a schedule in which it panics fails the test.
pub(crate) fn holds(name: &str, body: impl Fn() + Send + Sync + 'static) {
    run_all(&Arc::new(body));
    println!("{name}: held in {} schedules", 3 * schedules());
}

/// Runs `body` until a schedule makes it panic; which one that was.
pub(crate) fn first_violation(body: impl Fn() + Send + Sync + 'static) -> Option<usize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let body = Arc::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        body();
    });
    let outcome = catch_unwind(AssertUnwindSafe(|| run_all(&body)));
    outcome.is_err().then(|| count.load(Ordering::Relaxed))
}
