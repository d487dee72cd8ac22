//! Groups that are read when they are first needed, and groups that cannot be trusted.

use std::fmt::Debug;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::sync::IoAllowed;

use super::Allocator;
use super::span::Span;

/// Where the groups of a volume come from that is opened. Clusters are counted from the start of the group; the
/// clusters that the volume has for itself are in use.
pub trait GroupSource: Debug + Send + Sync {
    /// How many clusters of a group are free: what its descriptor says. Asked of every group when the allocator is
    /// made, so it must be cheap.
    fn free_clusters(&self, group: u64) -> u64;

    /// The clusters in use, in ascending order. Asked when a group is first needed, with none of the allocator's locks
    /// held that a search could wait for; sometimes more than once.
    ///
    /// # Errors
    /// When the bitmap cannot be read or fails its checksum. The group is fenced off then.
    fn used_clusters(&self, group: u64) -> Result<Vec<Range<u64>>>;
}

impl Allocator {
    /// Reads a group if nobody has. One that cannot be read, or that contradicts its descriptor, is fenced off: nothing
    /// in it is allocated or freed, and its free clusters leave the totals.
    pub(super) fn read(&self, number: usize) {
        let Some(source) = &self.source else { return };
        if !self.unread.contains(number) {
            return;
        }
        let used = {
            let _io = IoAllowed::new();
            source.used_clusters(number as u64)
        };
        let mut group = self.locked(number);
        if !self.unread.remove(number) {
            return;
        }
        let promised = source.free_clusters(number as u64);
        let spans = used.and_then(|used| spans(used, group.len()));
        let own = self.own_clusters(number);
        match spans {
            Ok(spans) if group.len() - clusters(&spans) == promised && covers(&spans, own) => {
                group.read(spans);
            }
            _ => {
                group.fence();
                self.ledger.withdraw(promised);
            }
        }
    }

    /// Reads the next group that nobody has read, from `first` on and around.
    pub(super) fn read_another(&self, first: usize) -> Option<usize> {
        self.unread.next(first).inspect(|number| self.read(*number))
    }

    /// Recounts all groups and fences those off whose counters, index or lists contradict their bitmaps; returns their
    /// numbers. Nothing in such a group is allocated or freed any more (what is lost in it is lost), and its free
    /// clusters leave the totals. Groups that are fenced off already are not named again.
    pub fn fence_damaged(&self) -> Vec<u64> {
        let mut groups = self.lock_all();
        let damaged: Vec<usize> = groups
            .iter()
            .filter(|group| !group.is_sound())
            .map(|group| group.number())
            .collect();
        for number in &damaged {
            groups[*number].fence();
            self.end_listed(&mut groups[*number]);
        }
        // What the ledger counts and no other group has was theirs, whatever they say themselves.
        let unspent: u64 = groups.iter().map(|group| group.unspent()).sum();
        self.ledger
            .withdraw(self.ledger.snapshot().free().saturating_sub(unspent));
        damaged.into_iter().map(|number| number as u64).collect()
    }

    /// Breaks the bitmap of a group, as bad memory would.
    #[cfg(feature = "testing")]
    pub fn damage(&self, group: u64) {
        self.locked(group as usize).damage();
    }
}

/// Ascending, disjoint spans inside a group of `len` clusters.
fn spans(used: Vec<Range<u64>>, len: u64) -> Result<Vec<Span>> {
    let spans: Vec<Span> = used
        .into_iter()
        .filter(|range| !range.is_empty())
        .map(|Range { start, end }| Span { start, end })
        .collect();
    let ordered = spans.is_sorted_by(|one, next| one.end <= next.start);
    match ordered && spans.last().is_none_or(|last| last.end <= len) {
        true => Ok(spans),
        false => Err(Error::Corrupt("the clusters in use of a group")),
    }
}

/// Whether the first `len` clusters are all in use.
fn covers(spans: &[Span], len: u64) -> bool {
    let without_gap = |end, span: &Span| if span.start <= end { span.end } else { end };
    spans.iter().fold(0, without_gap) >= len
}

fn clusters(spans: &[Span]) -> u64 {
    spans.iter().map(|span| span.len()).sum()
}
