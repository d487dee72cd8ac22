//! What is left of a window: taken from by its owner and ended by anybody, without a lock.

use crate::sync::atomic::{AtomicU64, Ordering};

use super::span::Span;

/// The clusters of a window that nobody has taken yet, in one word. Its group and its owner share it.
///
/// The word only ever shrinks, so whoever changes it has what it lost. No order is needed beyond the word's own: the
/// bits of these clusters are set as long as they are here, and clear only after the group's lock has passed.
#[derive(Debug)]
pub(super) struct Rest(AtomicU64);

const fn word(span: Span) -> u64 {
    span.start << 32 | span.end
}

const fn span(word: u64) -> Span {
    Span {
        start: word >> 32,
        end: word & u32::MAX as u64,
    }
}

impl Rest {
    /// All of `span`, which ends below 2^32.
    pub(super) fn new(span: Span) -> Self {
        Self(AtomicU64::new(word(span)))
    }

    /// What is left; 0 clusters once the window has ended.
    #[inline]
    pub(super) fn span(&self) -> Span {
        span(self.0.load(Ordering::Relaxed))
    }

    /// Takes what lies before `to` of `left`, which is what is left as far as the owner knows: unless the window has
    /// ended.
    #[inline]
    pub(super) fn take(&self, left: Span, to: u64) -> bool {
        let kept = Span { start: to, ..left };
        self.0
            .compare_exchange(word(left), word(kept), Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Ends the window, and returns what was left.
    pub(super) fn end(&self) -> Span {
        span(self.0.swap(word(Span { start: 0, end: 0 }), Ordering::Relaxed))
    }
}
