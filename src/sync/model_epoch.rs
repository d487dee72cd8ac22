//! Epochs for shuttle: the part of the interface of `crossbeam-epoch` that the map uses, with pinning and unpinning as
//! scheduling points and with no delay: a deferred function runs at the very instant its last possible reader unpins,
//! so that memory which is given back too early is missed as soon as can be.
//!
//! Every guard counts by itself, also a nested one: it protects what it found reachable for as long as it lives itself,
//! not for as long as its handle stays pinned.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shuttle::thread;

type Deferred = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Pins {
    /// The number of the next guard. Later guards have larger numbers.
    next: u64,
    live: BTreeSet<u64>,
    /// What waits until every guard with a smaller number is gone; oldest, and hence smallest number, first.
    deferred: VecDeque<(u64, Deferred)>,
}

impl Pins {
    /// Takes out what no live guard holds back.
    fn due(&mut self) -> Vec<Deferred> {
        let oldest = self.live.first().copied().unwrap_or(self.next);
        let due = self.deferred.partition_point(|(below, _)| *below <= oldest);
        self.deferred.drain(..due).map(|(_, run)| run).collect()
    }
}

/// Who is pinned, and what waits for whom.
#[derive(Clone, Default)]
pub(crate) struct Collector {
    /// Not a lock of shuttle: no other task runs while it is held, and giving it back is no step of its own.
    pins: Arc<Mutex<Pins>>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}

impl Collector {
    pub(crate) fn register(&self) -> LocalHandle {
        LocalHandle(self.clone())
    }

    fn with<R>(&self, change: impl FnOnce(&mut Pins) -> R) -> R {
        change(&mut self.pins.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a task pins with.
pub(crate) struct LocalHandle(Collector);

impl LocalHandle {
    pub(crate) fn pin(&self) -> Guard {
        scheduling_point();
        let number = self.0.with(|pins| {
            let number = pins.next;
            pins.next += 1;
            pins.live.insert(number);
            number
        });
        Guard {
            collector: self.0.clone(),
            number,
        }
    }
}

/// While it lives, nothing runs that is deferred from now on.
pub(crate) struct Guard {
    collector: Collector,
    number: u64,
}

impl Guard {
    pub(crate) fn defer(&self, run: impl FnOnce() + Send + 'static) {
        self.collector.with(|pins| {
            let below = pins.next;
            pins.deferred.push_back((below, Box::new(run)));
        });
    }

    /// Nothing to do: what may run has run.
    pub(crate) fn flush(&self) {}
}

impl Drop for Guard {
    fn drop(&mut self) {
        scheduling_point();
        let due = self.collector.with(|pins| {
            pins.live.remove(&self.number);
            pins.due()
        });
        // Outside the lock: they may pin and defer.
        due.into_iter().for_each(|run| run());
    }
}

/// To shuttle, sleeping is a step of its own and nothing else; yielding would count as a hint that others go first.
fn scheduling_point() {
    thread::sleep(Duration::ZERO);
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

    use super::super::Witness;
    use super::*;

    /// Whether `body` panics under one of all schedules.
    fn is_refuted(body: fn()) -> bool {
        catch_unwind(|| shuttle::check_dfs(body, None)).is_err()
    }

    #[test]
    fn a_deferred_function_waits_for_the_guards_before_it_and_for_no_other() {
        shuttle::check_dfs(
            || {
                let ran = Arc::new(AtomicBool::new(false));
                let collector = Collector::default();
                let handle = collector.register();
                let elsewhere = collector.register().pin();
                let (outer, inner) = (handle.pin(), handle.pin());
                let run = Arc::clone(&ran);
                outer.defer(move || run.store(true, Relaxed));
                let _later = handle.pin();
                drop(outer);
                drop(elsewhere);
                assert!(!ran.load(Relaxed), "the nested guard was not counted");
                drop(inner);
                assert!(ran.load(Relaxed), "a later guard was counted");
                assert_eq!(Arc::strong_count(&ran), 1, "the function was kept");
            },
            None,
        );
    }

    #[test]
    fn a_deferred_function_may_pin_and_defer() {
        shuttle::check_dfs(
            || {
                let ran = Arc::new(AtomicUsize::new(0));
                let collector = Collector::default();
                let (inside, count) = (collector.clone(), Arc::clone(&ran));
                collector.register().pin().defer(move || {
                    count.fetch_add(1, Relaxed);
                    let guard = inside.register().pin();
                    guard.defer(move || {
                        count.fetch_add(1, Relaxed);
                    });
                });
                assert_eq!(ran.load(Relaxed), 2);
            },
            None,
        );
    }

    /// Something published, looked at by one task while another one takes it back and frees it.
    struct Published {
        // Not shuttle's: pinning and unpinning are the only scheduling points here.
        reachable: AtomicBool,
        memory: Witness,
        collector: Collector,
    }

    fn read_beside_free(read: fn(&Published), free: fn(Arc<Published>)) {
        let published = Arc::new(Published {
            reachable: AtomicBool::new(true),
            memory: Witness::new(),
            collector: Collector::default(),
        });
        let shared = Arc::clone(&published);
        let reader = thread::spawn(move || read(&shared));
        free(Arc::clone(&published));
        reader.join().unwrap();
        assert_eq!(Arc::strong_count(&published), 1, "a function was kept");
        assert!(catch_unwind(|| published.memory.read()).is_err());
    }

    fn read_pinned(published: &Published) {
        let _guard = published.collector.register().pin();
        if published.reachable.load(Relaxed) {
            scheduling_point();
            published.memory.read();
        }
    }

    fn look_then_pin(published: &Published) {
        if published.reachable.load(Relaxed) {
            let _guard = published.collector.register().pin();
            published.memory.read();
        }
    }

    fn look_unpin_read(published: &Published) {
        let guard = published.collector.register().pin();
        let reachable = published.reachable.load(Relaxed);
        drop(guard);
        if reachable {
            scheduling_point();
            published.memory.read();
        }
    }

    fn take_back_then_defer(published: Arc<Published>) {
        let guard = published.collector.register().pin();
        published.reachable.store(false, Relaxed);
        let memory = Arc::clone(&published);
        guard.defer(move || memory.memory.freed());
    }

    fn defer_then_take_back(published: Arc<Published>) {
        let guard = published.collector.register().pin();
        let memory = Arc::clone(&published);
        guard.defer(move || memory.memory.freed());
        drop(guard);
        published.reachable.store(false, Relaxed);
    }

    #[test]
    fn what_is_read_under_a_guard_outlives_it() {
        shuttle::check_dfs(|| read_beside_free(read_pinned, take_back_then_defer), None);
    }

    #[test]
    fn each_broken_reader_and_writer_is_refuted() {
        assert!(is_refuted(|| {
            read_beside_free(look_then_pin, take_back_then_defer)
        }));
        assert!(is_refuted(|| {
            read_beside_free(look_unpin_read, take_back_then_defer)
        }));
        assert!(is_refuted(|| {
            read_beside_free(read_pinned, defer_then_take_back)
        }));
    }

    #[test]
    fn unpinning_is_a_scheduling_point_at_which_the_guard_still_counts() {
        let seen = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&seen);
        shuttle::check_dfs(
            move || {
                let collector = Collector::default();
                let step = Arc::new(AtomicUsize::new(0));
                let (other, count) = (collector.clone(), Arc::clone(&step));
                let pinned = thread::spawn(move || {
                    let guard = other.register().pin();
                    count.store(1, Relaxed);
                    drop(guard);
                    count.store(2, Relaxed);
                });
                scheduling_point();
                if step.load(Relaxed) == 1 {
                    assert_eq!(collector.with(|pins| pins.live.len()), 1);
                    noted.store(true, Relaxed);
                }
                pinned.join().unwrap();
            },
            None,
        );
        assert!(seen.load(Relaxed));
    }
}
