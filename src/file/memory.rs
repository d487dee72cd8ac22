//! What the page caches of a volume's files share: how many pages there are, how many of them dirty, and how many
//! there may be.

use std::time::Instant;

use crate::probe::Probe;
use crate::stats::{Counter, Counters};
use crate::sync::uncounted::{AtomicU64, Ordering::Relaxed};
use crate::sync::{Arc, Mutex, Rank};

use super::clock::Clock;
use super::page_cache::PageCache;

/// The memory that the pages of a volume take.
#[derive(Debug)]
pub(super) struct PageMemory {
    /// The most pages, dirty ones aside.
    limit: u64,
    cached: AtomicU64,
    dirty: AtomicU64,
    clock: Mutex<Clock>,
    counters: Arc<Counters>,
    probe: Probe,
    /// Ages are counted from here.
    beginning: Instant,
}

impl PageMemory {
    pub(super) fn new(limit: u64, counters: Arc<Counters>, probe: Probe) -> Self {
        Self {
            limit,
            cached: AtomicU64::new(0),
            dirty: AtomicU64::new(0),
            clock: Mutex::new(Rank::Clock, Clock::default()),
            counters,
            probe,
            beginning: Instant::now(),
        }
    }

    /// Lets the clock go over the pages of a file too.
    pub(super) fn register(&self, cache: &Arc<PageCache>) {
        self.clock.lock().add(Arc::downgrade(cache));
    }

    /// Dirty pages of all files.
    pub(super) fn dirty(&self) -> u64 {
        self.dirty.load(Relaxed)
    }

    /// Milliseconds since the volume was made.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.beginning.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A page has become dirty.
    pub(super) fn dirtied(&self) {
        self.dirty.fetch_add(1, Relaxed);
    }

    /// A dirty page has become clean, or was dropped.
    pub(super) fn cleaned(&self) {
        self.dirty.fetch_sub(1, Relaxed);
    }

    /// A page has left.
    pub(super) fn left(&self) {
        self.cached.fetch_sub(1, Relaxed);
    }

    /// A page has come in: where there are too many now, others leave. The caller holds no lock below the folio lock.
    pub(super) fn came_in(&self) {
        self.counters.count(Counter::PagesCached);
        let others = self.cached.fetch_add(1, Relaxed);
        // Dirty ones would stay.
        if others >= self.limit && others > self.dirty() {
            self.evict();
        }
    }

    /// Pages have become clean: what is too many of them leaves. The caller holds no lock below the folio lock.
    pub(super) fn trim(&self) {
        let cached = self.cached.load(Relaxed);
        // Few clean ones are not looked for among many that stay.
        let clean = cached.saturating_sub(self.dirty());
        // Each page is come by twice, as one that was used lately stays for a turn.
        let mut looks = 2 * cached.min(Clock::LOOKS * clean);
        while self.is_crowded() && looks > 0 {
            self.evict();
            looks = looks.saturating_sub(Clock::LOOKS);
        }
    }

    fn is_crowded(&self) -> bool {
        self.cached.load(Relaxed) > self.limit
    }

    /// Lets some pages leave. Who finds others doing the same leaves it to them.
    fn evict(&self) {
        if let Some(mut clock) = self.clock.try_lock() {
            let evicted = clock.evict(|| self.is_crowded(), &self.probe);
            self.counters.add(Counter::PagesEvicted, evicted);
        }
    }
}
