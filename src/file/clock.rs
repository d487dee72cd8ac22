//! Which clean pages leave memory first: a clock whose hand goes over the files of a volume and over their pages in
//! order. A page that was used since the hand came by last stays for one more turn.

use std::sync::Weak;

use crate::probe::Probe;

use super::page_cache::PageCache;

/// Pages of a file looked at under one look at which there are.
const AT_ONCE: usize = 16;

/// The hand of the clock, and what it goes over.
#[derive(Debug, Default)]
pub(super) struct Clock {
    caches: Vec<Weak<PageCache>>,
    /// The cache that the hand stands in.
    at: usize,
    next_page: u64,
}

impl Clock {
    /// Pages looked at at once: enough to find a clean one when nine of ten are dirty or in use, few enough not to matter
    /// when all are.
    pub(super) const LOOKS: u64 = 64;

    /// Goes over the pages of one more file.
    pub(super) fn add(&mut self, cache: Weak<PageCache>) {
        self.caches.push(cache);
    }

    /// Evicts pages until there are no longer `too_many`, or until enough were looked at; returns how many left.
    pub(super) fn evict(&mut self, too_many: impl Fn() -> bool, probe: &Probe) -> u64 {
        let mut evicted = 0;
        let mut looks = 0;
        while looks < Self::LOOKS && !self.caches.is_empty() {
            // Also a file without pages costs a look.
            looks += 1;
            self.at %= self.caches.len();
            let Some(cache) = self.caches[self.at].upgrade() else {
                self.caches.swap_remove(self.at);
                self.next_page = 0;
                continue;
            };
            let pages = cache.existing(self.next_page..u64::MAX, AT_ONCE);
            let ends = pages.len() < AT_ONCE;
            for page in pages {
                if !too_many() {
                    return evicted;
                }
                looks += 1;
                self.next_page = page.index() + 1;
                evicted += u64::from(cache.evict(&page, probe));
            }
            if ends {
                (self.at, self.next_page) = (self.at + 1, 0);
            }
        }
        evicted
    }
}
