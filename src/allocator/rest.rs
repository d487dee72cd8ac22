//! What is left of a window: taken from by its owner and ended by anybody, without a lock.

use crate::sync::atomic::{AtomicU64, Ordering};

use super::span::Span;

/// A span in one word, which is read and written as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left(u64);

impl Left {
    /// Nothing.
    const NONE: Self = Self(0);

    /// `span`, which ends below 2^32.
    pub(super) const fn new(span: Span) -> Self {
        Self(span.start << 32 | span.end)
    }

    #[inline]
    pub(super) const fn span(self) -> Span {
        Span {
            start: self.0 >> 32,
            end: self.0 & u32::MAX as u64,
        }
    }

    /// The same without its first `clusters` clusters; it has so many.
    #[inline]
    pub(super) const fn without_first(self, clusters: u64) -> Self {
        Self(self.0 + (clusters << 32))
    }
}

/// The clusters of a window that nobody has taken yet. Its group and its owner share it.
///
/// They only ever become fewer, so whoever changes them has what they lost. No order is needed beyond the word's own: the
/// bits of these clusters are set as long as they are here, and clear only after the group's lock has passed.
#[derive(Debug)]
pub(super) struct Rest(AtomicU64);

impl Rest {
    /// All of `left`.
    pub(super) fn new(left: Left) -> Self {
        Self(AtomicU64::new(left.0))
    }

    /// What is left; nothing once the window has ended.
    pub(super) fn span(&self) -> Span {
        Left(self.0.load(Ordering::Relaxed)).span()
    }

    /// Leaves `fewer` of `left`, which is all as far as the owner knows: unless the window has ended.
    #[inline]
    pub(super) fn take(&self, left: Left, fewer: Left) -> bool {
        self.0
            .compare_exchange(left.0, fewer.0, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Ends the window, and returns what was left.
    pub(super) fn end(&self) -> Span {
        Left(self.0.swap(Left::NONE.0, Ordering::Relaxed)).span()
    }
}
