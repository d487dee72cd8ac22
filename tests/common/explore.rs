//! Models under loom: every execution of a body, and proof that a broken twin of it is caught.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// Runs `body` in all executions that loom finds with at most `preemptions` forced switches, or simply in all. Its outcomes must be
/// those of `allowed`, and each of them must occur: what loom leaves out shows.
pub(crate) fn explore<T: Debug + PartialEq + Send + Sync + 'static>(
    name: &str,
    preemptions: Option<usize>,
    allowed: Vec<T>,
    body: impl Fn() -> T + Send + Sync + 'static,
) {
    explore_each(name, preemptions, allowed, [body]);
}

/// Runs each of `bodies`, which are the same one in other words; together they must have the outcomes of `allowed`.
pub(crate) fn explore_each<T: Debug + PartialEq + Send + Sync + 'static>(
    name: &str,
    preemptions: Option<usize>,
    allowed: Vec<T>,
    bodies: impl IntoIterator<Item: Fn() -> T + Send + Sync + 'static>,
) {
    let run = Run::new(allowed);
    bodies
        .into_iter()
        .for_each(|body| run.check(preemptions, body));
    let bound = preemptions.map_or("all that loom finds".into(), |bound| {
        format!("at most {bound} preemptions")
    });
    println!("{name}: held in {} executions, {bound}", run.executions());
    let missing: Vec<_> = run
        .seen
        .iter()
        .filter(|(_, seen)| !seen.load(Relaxed))
        .collect();
    assert!(missing.is_empty(), "{name}: never seen: {missing:?}");
}

/// Whether loom finds an execution in which `body` panics or has an outcome that is not `allowed`.
pub(crate) fn is_refuted<T: Debug + PartialEq + Send + Sync + 'static>(
    name: &str,
    preemptions: Option<usize>,
    allowed: Vec<T>,
    body: impl Fn() -> T + Send + Sync + 'static,
) -> bool {
    let run = Run::new(allowed);
    let outcome = catch_unwind(AssertUnwindSafe(|| run.check(preemptions, body)));
    let verdict = if outcome.is_err() { "refuted" } else { "held" };
    println!("{name}: {verdict} in execution {}", run.executions());
    outcome.is_err()
}

/// The outcomes of the executions of one model, and which of them occurred.
struct Run<T> {
    executions: Arc<AtomicUsize>,
    seen: Arc<[(T, AtomicBool)]>,
}

impl<T: Debug + PartialEq + Send + Sync + 'static> Run<T> {
    fn new(allowed: Vec<T>) -> Self {
        let unseen = |outcome| (outcome, AtomicBool::new(false));
        Self {
            executions: Arc::default(),
            seen: allowed.into_iter().map(unseen).collect(),
        }
    }

    fn executions(&self) -> usize {
        self.executions.load(Relaxed)
    }

    fn check(&self, preemptions: Option<usize>, body: impl Fn() -> T + Send + Sync + 'static) {
        let (executions, seen) = (Arc::clone(&self.executions), Arc::clone(&self.seen));
        let mut model = loom::model::Builder::new();
        model.preemption_bound = preemptions;
        model.max_branches = 10_000;
        model.check(move || {
            executions.fetch_add(1, Relaxed);
            let outcome = body();
            let place = seen.iter().find(|(allowed, _)| *allowed == outcome);
            let (_, seen) = place.unwrap_or_else(|| panic!("not allowed: {outcome:?}"));
            seen.store(true, Relaxed);
        });
    }
}
