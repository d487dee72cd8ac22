//! A fixed number of bits, searched a word at a time.

use std::iter;

use super::span::Span;

/// Bits, all clear at first. Those that fill up the last word stay clear.
#[derive(Debug)]
pub(super) struct Bitmap {
    words: Box<[u64]>,
    len: u64,
}

impl Bitmap {
    pub(super) fn new(len: u64) -> Self {
        Self {
            words: vec![0; len.div_ceil(64) as usize].into(),
            len,
        }
    }

    pub(super) fn set(&mut self, span: Span) {
        self.for_words(span, |word, mask| *word |= mask);
    }

    pub(super) fn clear(&mut self, span: Span) {
        self.for_words(span, |word, mask| *word &= !mask);
    }

    /// The first clear bit from `from` on; the number of bits when there is none.
    pub(super) fn next_clear(&self, from: u64) -> u64 {
        self.next(from, u64::MAX)
    }

    /// The first set bit from `from` on; the number of bits when there is none.
    pub(super) fn next_set(&self, from: u64) -> u64 {
        self.next(from, 0)
    }

    /// The maximal spans of clear bits from `from` on; the first is cut at `from`.
    pub(super) fn clear_spans(&self, from: u64) -> impl Iterator<Item = Span> {
        self.spans(from, Self::next_clear, Self::next_set)
    }

    /// The maximal spans of set bits from `from` on; the first is cut at `from`.
    pub(super) fn set_spans(&self, from: u64) -> impl Iterator<Item = Span> {
        self.spans(from, Self::next_set, Self::next_clear)
    }

    fn spans(
        &self,
        mut from: u64,
        next_start: fn(&Self, u64) -> u64,
        next_end: fn(&Self, u64) -> u64,
    ) -> impl Iterator<Item = Span> {
        iter::from_fn(move || {
            let start = next_start(self, from);
            let end = next_end(self, start);
            from = end;
            (start < end).then_some(Span { start, end })
        })
    }

    /// The first bit from `from` (at most `len`) on that is set after flipping with `flip`. A search for clear
    /// bits ends at `len` at the latest: that bit is clear, or in no word.
    fn next(&self, from: u64, flip: u64) -> u64 {
        let mut ignored = !(u64::MAX << (from % 64));
        for (index, word) in self.words.iter().enumerate().skip((from / 64) as usize) {
            let hits = (word ^ flip) & !ignored;
            if hits != 0 {
                return index as u64 * 64 + u64::from(hits.trailing_zeros());
            }
            ignored = 0;
        }
        self.len
    }

    /// Calls `change` with each word that `span` touches and the mask of its bits in there.
    fn for_words(&mut self, span: Span, change: impl Fn(&mut u64, u64)) {
        let mut start = span.start;
        while start < span.end {
            let end = span.end.min((start / 64 + 1) * 64);
            let mask = (u64::MAX >> (64 - (end - start))) << (start % 64);
            change(&mut self.words[(start / 64) as usize], mask);
            start = end;
        }
    }
}
