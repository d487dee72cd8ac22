//! A model: what threads do at once, what must hold whatever the schedule, and what it must not hold without.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use extent_map::probe::{Mutation, Probe};
use extent_map::testing::{self, Story};

use crate::schedules::{PATIENCE, Search, explore, quietly};

/// One execution of a model.
pub(crate) struct Case {
    /// What is missing in it.
    pub(crate) probe: Probe,
    /// What its threads tell.
    pub(crate) story: Story,
}

/// Something that runs in a number of threads.
pub(crate) struct Model {
    pub(crate) name: &'static str,
    /// The invariants that it asserts, by their numbers, beside those of the checker ([`testing::check`]).
    pub(crate) asserts: &'static [u8],
    /// Sets of protections without each of which it must fail.
    pub(crate) broken: &'static [&'static [Mutation]],
    /// Panics by way of [`violated`] when an invariant does not hold.
    pub(crate) body: fn(&Case),
}

/// Ends an execution in which an invariant does not hold.
pub(crate) fn violated(invariant: u8, what: impl std::fmt::Display) -> ! {
    panic!("I{invariant}: {what}")
}

/// Asserts an invariant.
pub(crate) fn ensure(invariant: u8, holds: bool, what: impl FnOnce() -> String) {
    if !holds {
        violated(invariant, what());
    }
}

/// How the first execution that went wrong did.
pub(crate) struct Failure {
    /// Executions until then.
    pub(crate) schedule: usize,
    pub(crate) message: String,
    pub(crate) story: String,
}

impl Model {
    /// Explores the model as it is, in which nothing may go wrong, and without each of its protections, which must
    /// show.
    pub(crate) fn verify(self) {
        let search = self.explore(&[]);
        if let Err(failure) = &search {
            panic!("{}: {}\n{}", self.name, failure.message, failure.story);
        }
        let asserts: Vec<_> = self.asserts.iter().map(|n| format!("I{n}")).collect();
        let searched = search.map_or_else(|_| String::new(), |search| search.to_string());
        let row = format!("| {} | {} | {searched} |", self.name, asserts.join(" "));
        assert!(!self.broken.is_empty(), "{}: nothing can fail", self.name);
        for mutations in self.broken {
            let names: Vec<_> = mutations.iter().map(|m| format!("`{m:?}`")).collect();
            let names = names.join(" and ");
            let Err(failure) = self.explore(mutations) else {
                panic!("{}: does not notice that {names} is missing", self.name);
            };
            let what = failure.message.lines().next().unwrap_or_default();
            let number = what.strip_prefix('I').unwrap_or_default();
            assert!(
                number.starts_with(|digit: char| digit.is_ascii_digit()),
                "{}: without {names} no invariant breaks, but: {what}",
                self.name
            );
            println!("{row} {names} | {} | {what} |", failure.schedule);
        }
    }

    /// The first failure without `mutations`, or how many schedules there were.
    pub(crate) fn explore(&self, mutations: &'static [Mutation]) -> Result<Search, Failure> {
        let executions = Arc::new(AtomicUsize::new(0));
        let last = Arc::new(Mutex::new(Story::new()));
        let body = {
            let (executions, last, body) = (Arc::clone(&executions), Arc::clone(&last), self.body);
            move || {
                executions.fetch_add(1, Relaxed);
                let case = Case {
                    probe: Probe::new().mutations(mutations.iter().copied()),
                    story: Story::new(),
                };
                *last.lock().unwrap() = case.story.clone();
                body(&case);
            }
        };
        let search = |patience| catch_unwind(AssertUnwindSafe(|| explore(patience, body)));
        let found = match mutations {
            [] => search(1),
            _ => quietly(|| search(PATIENCE)),
        };
        found.map_err(|panic| Failure {
            schedule: executions.load(Relaxed),
            message: original(panic.as_ref()),
            story: last.lock().unwrap().to_string(),
        })
    }
}

/// What a panic said before the model checker added its schedule.
fn original(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    let text = text.unwrap_or("a panic without words");
    let from = text
        .find("original panic: ")
        .map(|at| at + "original panic: ".len());
    text[from.unwrap_or(0)..].trim().to_owned()
}

/// Ends the execution if the checker finds something, by the first invariant that does not hold.
pub(crate) fn checked(found: Result<(), Vec<testing::Violation>>) {
    if let Err(violations) = found {
        let texts: Vec<_> = violations.iter().map(ToString::to_string).collect();
        panic!("{}", texts.join("; "));
    }
}
