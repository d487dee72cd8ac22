//! Which pages of a file are dirty, so that writeback looks at no others, how many, and since when.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::sync::uncounted::{AtomicU64, Ordering::Relaxed};
use crate::sync::{Arc, Mutex, Rank};

use super::memory::PageMemory;

/// Pages in a word.
const WORD: u64 = u64::BITS as u64;

/// The dirty pages of one file.
#[derive(Debug)]
pub(super) struct DirtyPages {
    memory: Arc<PageMemory>,
    count: AtomicU64,
    /// When the first of them became dirty, in milliseconds of the volume.
    since: AtomicU64,
    /// One bit for each, by the number of the word; no word is 0. A leaf lock.
    words: Mutex<BTreeMap<u64, u64>>,
}

impl DirtyPages {
    pub(super) fn new(memory: Arc<PageMemory>) -> Self {
        Self {
            memory,
            count: AtomicU64::new(0),
            since: AtomicU64::new(0),
            words: Mutex::new(Rank::DirtyPages, BTreeMap::new()),
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// When the oldest became dirty, in milliseconds of the volume; not later than that.
    pub(super) fn since(&self) -> u64 {
        self.since.load(Relaxed)
    }

    /// All that is dirty now is about to be written.
    pub(super) fn begin_anew(&self) {
        self.since.store(self.memory.now(), Relaxed);
    }

    /// One page more, whose folio lock is held.
    pub(super) fn add(&self, page: u64) {
        *self.words.lock().entry(page / WORD).or_default() |= 1 << (page % WORD);
        self.memory.dirtied();
        if self.count.fetch_add(1, Relaxed) == 0 {
            self.begin_anew();
        }
    }

    /// One page fewer, whose folio lock is held.
    pub(super) fn remove(&self, page: u64) {
        let mut words = self.words.lock();
        if let Some(word) = words.get_mut(&(page / WORD)) {
            *word &= !(1 << (page % WORD));
            if *word == 0 {
                words.remove(&(page / WORD));
            }
        }
        drop(words);
        self.count.fetch_sub(1, Relaxed);
        self.memory.cleaned();
    }

    /// The first of `pages` that are dirty, as far as they follow each other.
    pub(super) fn first_run(&self, pages: Range<u64>) -> Option<Range<u64>> {
        let words = self.words.lock();
        let start = words
            .range(pages.start / WORD..)
            .find_map(|(number, word)| {
                let before = pages.start.saturating_sub(number * WORD);
                let behind = word >> before << before;
                (behind != 0).then(|| number * WORD + u64::from(behind.trailing_zeros()))
            })?;
        let mut end = start;
        while let Some(word) = words.get(&(end / WORD)) {
            let more = (word >> (end % WORD)).trailing_ones();
            end += u64::from(more);
            if more == 0 || !end.is_multiple_of(WORD) {
                break;
            }
        }
        let run = start..end.min(pages.end);
        (!run.is_empty()).then_some(run)
    }
}

#[cfg(all(test, not(any(loom, feature = "shuttle"))))]
mod tests {
    use super::*;
    use crate::probe::Probe;

    #[test]
    fn runs_are_those_of_the_pages_that_were_added_and_not_removed() {
        let memory = PageMemory::new(0, Arc::default(), Probe::default());
        let dirty = DirtyPages::new(Arc::new(memory));
        let is_dirty = |page: u64| page < 200 && page % 67 != 5 && !(100..103).contains(&page);
        (0..200).for_each(|page| dirty.add(page));
        let clean = (0..200).filter(|page| !is_dirty(*page));
        clean.for_each(|page| dirty.remove(page));
        for start in 0..210 {
            for end in start..210 {
                let first = (start..end).find(|page| is_dirty(*page));
                let run = first.map(|first| {
                    let behind = (first..end).find(|page| !is_dirty(*page));
                    first..behind.unwrap_or(end)
                });
                assert_eq!(dirty.first_run(start..end), run, "{start}..{end}");
            }
        }
        (0..200)
            .filter(|page| is_dirty(*page))
            .for_each(|page| dirty.remove(page));
        assert!(dirty.words.lock().is_empty());
        assert_eq!(dirty.count(), 0);
    }
}
