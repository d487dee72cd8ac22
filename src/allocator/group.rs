//! One group of clusters: which are free, and which are taken but not committed.

use super::bitmap::Bitmap;
use super::span::Span;

/// A group; clusters are counted from its start.
#[derive(Debug)]
pub(super) struct Group {
    /// A set bit is a cluster in use.
    used: Bitmap,
    /// Clear bits.
    free: u64,
    /// Taken, but still promised: an [`Allocation`](super::Allocation) exists for each.
    uncommitted: Vec<Span>,
}

impl Group {
    /// A group of `len` clusters, the first `reserved` of them in use for good.
    pub(super) fn new(len: u64, reserved: u64) -> Self {
        let mut used = Bitmap::new(len);
        used.set(Span {
            start: 0,
            end: reserved,
        });
        Self {
            used,
            free: len - reserved,
            uncommitted: Vec::new(),
        }
    }

    pub(super) fn free(&self) -> u64 {
        self.free
    }

    /// Clusters taken and not committed.
    pub(super) fn uncommitted(&self) -> u64 {
        self.uncommitted.iter().map(|span| span.len()).sum()
    }

    pub(super) fn is_free(&self, cluster: u64) -> bool {
        self.used.next_clear(cluster) == cluster
    }

    /// The first free run of at least `want` clusters from `from` on, cut to `want`; else the longest.
    pub(super) fn longest_up_to(&self, from: u64, want: u64) -> Option<Span> {
        if self.free == 0 {
            return None;
        }
        let mut longest: Option<Span> = None;
        for span in self.used.clear_spans(from) {
            if span.len() >= want {
                return Some(span.truncated(want));
            }
            if longest.is_none_or(|best| best.len() < span.len()) {
                longest = Some(span);
            }
        }
        longest
    }

    /// Takes the free run of up to `want` clusters that starts exactly at `goal`.
    pub(super) fn take_at(&mut self, goal: u64, want: u64) -> Option<Span> {
        let span = self
            .used
            .clear_spans(goal)
            .next()
            .filter(|span| span.start == goal)?;
        let span = span.truncated(want);
        self.take(span);
        Some(span)
    }

    /// Marks a free span as taken and uncommitted.
    pub(super) fn take(&mut self, span: Span) {
        self.used.set(span);
        self.free -= span.len();
        self.uncommitted.push(span);
    }

    /// A taken span becomes committed.
    pub(super) fn commit(&mut self, span: Span) {
        self.uncommitted.retain(|other| *other != span);
    }

    /// A taken span becomes free again.
    pub(super) fn cancel(&mut self, span: Span) {
        self.commit(span);
        self.clear(span);
    }

    /// Whether every cluster of `span` is free.
    pub(super) fn is_all_free(&self, span: Span) -> bool {
        self.used.next_set(span.start) >= span.end
    }

    /// Whether every cluster of `span` is in use and committed.
    pub(super) fn is_committed(&self, span: Span) -> bool {
        self.used.next_clear(span.start) >= span.end
            && !self.uncommitted.iter().any(|other| other.overlaps(span))
    }

    /// Marks a span in use as free.
    pub(super) fn clear(&mut self, span: Span) {
        self.used.clear(span);
        self.free += span.len();
    }

    /// The spans in use, in ascending order.
    pub(super) fn allocated(&self) -> impl Iterator<Item = Span> {
        self.used.set_spans(0)
    }

    /// Whether the counter agrees with the bitmap.
    pub(super) fn counts_agree(&self) -> bool {
        self.free == self.used.clear_spans(0).map(Span::len).sum::<u64>()
    }
}
