//! A run of clusters, counted from the start of a group or of the volume.

/// A half-open range of cluster numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Span {
    pub(super) const fn len(self) -> u64 {
        self.end - self.start
    }

    /// The first `len` clusters, or all when there are fewer.
    pub(super) fn truncated(self, len: u64) -> Self {
        Self {
            end: self.end.min(self.start.saturating_add(len)),
            ..self
        }
    }

    pub(super) const fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    pub(super) const fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// What lies before and behind `inner`, which is in here.
    pub(super) const fn without(self, inner: Self) -> [Self; 2] {
        let (start, end) = (inner.start, inner.end);
        [Self { end: start, ..self }, Self { start: end, ..self }]
    }
}
