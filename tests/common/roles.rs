//! Two threads in either role.
//!
//! loom (0.7) may overlook executions: a load of a thread can hide from its search that another thread had loaded the
//! same atomic before (reported to it as issue 166). Which ones, depends on the thread that begins. So each model here is
//! run with either of its threads as the main one, and "all" means all that loom finds.

use std::fmt::Debug;

use extent_map::probe::Mutation;
use loom::thread;

use crate::explore::{explore_each, is_refuted};

/// Which thread is the main one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Main {
    First,
    Second,
}

/// Does both at once; what each of them returned.
pub(crate) fn race<A: 'static, B: 'static>(
    main: Main,
    first: impl FnOnce() -> A + 'static,
    second: impl FnOnce() -> B + 'static,
) -> (A, B) {
    match main {
        Main::First => {
            let second = thread::spawn(second);
            (first(), second.join().unwrap())
        }
        Main::Second => {
            let first = thread::spawn(first);
            let second = second();
            (first.join().unwrap(), second)
        }
    }
}

/// Goes through all executions of `model` in both roles, and refutes it without some protections.
pub(crate) fn proves<T: Debug + PartialEq + Clone + Send + Sync + 'static>(
    name: &str,
    allowed: &[T],
    model: fn(&[Mutation], Main) -> T,
    broken: &'static [Mutation],
) {
    let roles = [Main::First, Main::Second];
    let sound = roles.map(|main| move || model(&[], main));
    explore_each(name, None, allowed.to_vec(), sound);
    let refuted = roles.map(|main| {
        let without = format!("{name}, main thread {main:?}, without {broken:?}");
        is_refuted(&without, None, allowed.to_vec(), move || {
            model(broken, main)
        })
    });
    assert!(refuted.contains(&true), "{name}: {broken:?} is not missed");
}
