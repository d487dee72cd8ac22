//! What the loom models of the extent map run on.
//!
//! Readers are the spawned threads: of the reads before a store loom remembers only the last one, and a writer that
//! reads what it is about to replace would hide the reader's.

use std::fmt::Debug;
use std::sync::Arc;

use extent_map::map::probe::{Mutation, Probe};
use extent_map::map::{ExtentMap, Reclaimer, Value};
use loom::thread::{self, JoinHandle};

use crate::apart::Apart;
use crate::explore::{explore, is_refuted};

/// Which promise of a model's map is broken.
pub(crate) type Broken = Option<Mutation>;

/// What a model may come to, and how much of it loom goes through.
pub(crate) struct Model<T> {
    name: &'static str,
    allowed: Vec<T>,
    preemptions: Option<usize>,
}

impl<T: Clone + Debug + PartialEq + Send + Sync + 'static> Model<T> {
    /// One of which loom goes through all executions. Each of the `allowed` outcomes must occur, and no other.
    pub(crate) fn new(name: &'static str, allowed: impl Into<Vec<T>>) -> Self {
        Self {
            name,
            allowed: allowed.into(),
            preemptions: None,
        }
    }

    /// Only executions with so many forced switches of threads, where all are too many.
    pub(crate) fn within(self, preemptions: usize) -> Self {
        Self {
            preemptions: Some(preemptions),
            ..self
        }
    }

    /// The promises of `body` hold, and do not where any of `mutations` breaks one.
    pub(crate) fn proves(self, mutations: &[Mutation], body: fn(Broken) -> T) {
        for mutation in mutations {
            let (name, mutation) = (format!("{}, {mutation:?}", self.name), Some(*mutation));
            let twin = move || body(mutation);
            let allowed = self.allowed.clone();
            assert!(is_refuted(&name, self.preemptions, allowed, twin));
        }
        explore(self.name, self.preemptions, self.allowed, move || {
            body(None)
        });
    }
}

pub(crate) fn map<V: Value>(broken: Broken) -> Arc<ExtentMap<V>> {
    let sound = Probe::new();
    let probe = match broken {
        None => sound,
        Some(mutation) => sound.mutation(mutation),
    };
    Arc::new(ExtentMap::with_probe(&Reclaimer::new(), probe))
}

/// Five extents 0..2, 4..6 and so on with values 0 and up: the first four in one leaf, the last in another.
pub(crate) fn two_leaves(broken: Broken) -> Arc<ExtentMap<Apart>> {
    let map = map(broken);
    (0..5).for_each(|n| set(&map, 4 * n, 4 * n + 2, n));
    map
}

pub(crate) fn set(map: &ExtentMap<Apart>, start: u64, end: u64, value: u64) {
    map.insert(start..end, Apart(value)).unwrap();
}

/// Reads the map in a thread of its own.
pub(crate) fn reader<V: Value, T: 'static>(
    map: &Arc<ExtentMap<V>>,
    read: impl FnOnce(&ExtentMap<V>) -> T + 'static,
) -> JoinHandle<T> {
    let map = Arc::clone(map);
    thread::spawn(move || read(&map))
}

pub(crate) fn value(map: &ExtentMap<Apart>, block: u64) -> u64 {
    map.get(block).expect("mapped all the time").value().0
}

pub(crate) fn values(map: &ExtentMap<Apart>) -> Vec<u64> {
    map.pin().iter().map(|extent| extent.value().0).collect()
}
