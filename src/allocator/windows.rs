//! The windows of one file, by place.

use std::collections::BTreeMap;
use std::mem;
use std::ops::Bound::{Excluded, Unbounded};

use super::window::Kept;

/// Windows of which none is empty and no two overlap, each by the cluster of the file behind its last one: that stays the
/// same while clusters are taken from its start.
#[derive(Debug, Default)]
pub(super) struct Windows(BTreeMap<u64, Kept>);

impl Windows {
    /// The window that covers cluster `at`, or else the next one behind it, with its start and end.
    #[inline]
    pub(super) fn next(&mut self, at: u64) -> Option<(u64, u64, &mut Kept)> {
        let (&end, kept) = self.0.last_key_value()?;
        // The last one is asked first: a file that grows takes from it.
        let (end, kept) = match end - kept.len() <= at {
            true => (end, self.0.last_entry()?.into_mut()),
            false => {
                let mut behind = self.0.range_mut((Excluded(at), Unbounded));
                behind.next().map(|(end, kept)| (*end, kept))?
            }
        };
        (at < end).then(|| (end - kept.len(), end, kept))
    }

    /// Adds a window from cluster `at` on.
    pub(super) fn insert(&mut self, at: u64, kept: Kept) {
        self.0.insert(at + kept.len(), kept);
    }

    /// Forgets the window with that end.
    pub(super) fn remove(&mut self, end: u64) -> Option<Kept> {
        self.0.remove(&end)
    }

    /// Forgets all of them.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Kept> + use<> {
        mem::take(&mut self.0).into_values()
    }

    /// All of them, with the first cluster that each is for.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Kept)> {
        self.0.iter().map(|(end, kept)| (end - kept.len(), kept))
    }
}
