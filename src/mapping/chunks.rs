//! A sorted list of extents, cut into chunks that a changed list shares with the one it was made of.
//!
//! A change copies the chunks it touches and the list of chunks. A chunk may be as long as a few times the root of the whole
//! list, so both copies are of that order.

use std::slice;
use std::sync::Arc;

use smallvec::SmallVec;

use super::MappedExtent;

/// Extents of a file in the order that their owner gives them.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunks {
    /// None is empty.
    chunks: SmallVec<[Arc<[MappedExtent]>; 1]>,
    count: usize,
}

/// A place in a list: in front of an extent, or behind the last one.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Behind the last chunk at the end of the list.
    chunk: usize,
    index: usize,
}

/// How long a chunk may be in every list.
const ALWAYS: usize = 32;

/// How long a chunk may be in a list of `count`.
fn longest(count: usize) -> usize {
    (4 * count.isqrt()).max(ALWAYS)
}

/// `extents` in as few parts of equal length as they can be.
fn cut(extents: &[MappedExtent], longest: usize) -> slice::Chunks<'_, MappedExtent> {
    let parts = extents.len().div_ceil(longest).max(1);
    extents.chunks(extents.len().div_ceil(parts).max(1))
}

impl Chunks {
    /// A list of `extents`.
    pub(super) fn of(extents: &[MappedExtent]) -> Self {
        let count = extents.len();
        let chunks = match count {
            0 => SmallVec::new(),
            1..=ALWAYS => SmallVec::from_buf([Arc::from(extents)]),
            _ => cut(extents, longest(count)).map(Arc::from).collect(),
        };
        Self { chunks, count }
    }

    /// How many extents there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    fn chunk(&self, chunk: usize) -> &[MappedExtent] {
        self.chunks.get(chunk).map_or(&[], |extents| extents)
    }

    /// Behind the extents of which `is_in_front` says so; it does for none that comes after one of which it does not.
    pub(super) fn place(&self, is_in_front: impl Fn(&MappedExtent) -> bool) -> Place {
        let whole = |chunk: &Arc<[MappedExtent]>| chunk.last().is_none_or(&is_in_front);
        let chunk = self.chunks.partition_point(whole);
        let index = self.chunk(chunk).partition_point(&is_in_front);
        Place { chunk, index }
    }

    /// The extent behind `place`.
    pub(super) fn at(&self, place: Place) -> Option<&MappedExtent> {
        self.chunk(place.chunk).get(place.index)
    }

    /// The extent in front of `place`.
    pub(super) fn before(&self, place: Place) -> Option<&MappedExtent> {
        match place.index.checked_sub(1) {
            Some(index) => self.chunk(place.chunk).get(index),
            None => self.chunk(place.chunk.checked_sub(1)?).last(),
        }
    }

    /// The extents behind `place`, in order.
    pub(super) fn behind(&self, place: Place) -> impl Iterator<Item = &MappedExtent> {
        let (first, others) = match self.chunks.get(place.chunk..) {
            Some([first, others @ ..]) => (&first[place.index..], others),
            _ => (&[][..], &[][..]),
        };
        first
            .iter()
            .chain(others.iter().flat_map(|chunk| &chunk[..]))
    }

    /// All extents, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &MappedExtent> {
        self.chunks.iter().flat_map(|chunk| &chunk[..])
    }

    /// The list with `new` in place of what lies between `start` and `end`.
    pub(super) fn replacing(&self, start: Place, end: Place, new: &[MappedExtent]) -> Self {
        let left = &self.chunk(start.chunk)[..start.index];
        let right = &self.chunk(end.chunk)[end.index..];
        let mut content: SmallVec<[MappedExtent; ALWAYS]> =
            SmallVec::with_capacity(left.len() + new.len() + right.len());
        for part in [left, new, right] {
            content.extend_from_slice(part);
        }
        let longest = longest(self.count);
        let mut replaced = start.chunk..(end.chunk + 1).min(self.chunks.len());
        // What became short takes in neighbours.
        while content.len() < longest / 4 && replaced.len() < self.chunks.len() {
            if replaced.end < self.chunks.len() {
                content.extend_from_slice(self.chunk(replaced.end));
                replaced.end += 1;
            } else {
                replaced.start -= 1;
                content.insert_from_slice(0, self.chunk(replaced.start));
            }
        }
        if replaced.len() == self.chunks.len() {
            return Self::of(&content);
        }
        let gone = self.chunks[replaced.clone()].iter();
        let gone: usize = gone.map(|chunk| chunk.len()).sum();
        let parts = cut(&content, longest);
        let mut chunks = SmallVec::with_capacity(self.chunks.len() - replaced.len() + parts.len());
        chunks.extend(self.chunks[..replaced.start].iter().cloned());
        chunks.extend(parts.map(Arc::from));
        chunks.extend(self.chunks[replaced.end..].iter().cloned());
        Self {
            chunks,
            count: self.count - gone + content.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::ExtentState;
    use crate::units::{DiskBlock, FileBlock, FileRange};

    fn extent(block: u64) -> MappedExtent {
        MappedExtent {
            range: FileRange::at(FileBlock(block), 1),
            disk: DiskBlock(0),
            state: ExtentState::Written,
        }
    }

    fn in_front_of(list: &Chunks, block: u64) -> Place {
        list.place(|extent| extent.range.start().0 < block)
    }

    fn with(list: &Chunks, block: u64) -> Chunks {
        let place = in_front_of(list, block);
        list.replacing(place, place, &[extent(block)])
    }

    fn without(list: &Chunks, blocks: std::ops::Range<u64>) -> Chunks {
        let ends = [blocks.start, blocks.end].map(|block| in_front_of(list, block));
        list.replacing(ends[0], ends[1], &[])
    }

    fn assert_few_chunks(list: &Chunks) {
        let lens: Vec<_> = list.chunks.iter().map(|chunk| chunk.len()).collect();
        assert_eq!(lens.iter().sum::<usize>(), list.count);
        assert!(!lens.contains(&0));
        assert!(lens.len() <= 2 + list.count.isqrt(), "{lens:?}");
    }

    #[test]
    fn chunks_stay_neither_many_nor_long_while_a_list_grows_and_shrinks_in_any_order() {
        const COUNT: u64 = 5003;
        // In order, scattered, and backwards but for the first: 5003 is prime.
        for step in [1, 3092, COUNT - 1] {
            let order = || (0..COUNT).map(|at| at * step % COUNT);
            let mut list = Chunks::default();
            for block in order() {
                list = with(&list, block);
                assert_few_chunks(&list);
                let fits = |chunk: &Arc<[_]>| chunk.len() <= longest(list.count);
                assert!(list.chunks.iter().all(fits));
            }
            assert!(list.iter().copied().eq((0..COUNT).map(extent)));
            for block in order() {
                list = without(&list, block..block + 1);
                assert_few_chunks(&list);
            }
            assert_eq!((list.count(), list.chunks.len()), (0, 0));
        }
    }

    #[test]
    fn a_change_shares_all_chunks_but_those_it_touches() {
        let extents: Vec<_> = (0..10_000).map(|at| extent(2 * at)).collect();
        let list = Chunks::of(&extents);
        assert!(list.chunks.len() > 20);
        let shared = |other: &Chunks| {
            let is_old = |chunk: &&Arc<_>| list.chunks.iter().any(|old| Arc::ptr_eq(old, chunk));
            other.chunks.iter().filter(is_old).count()
        };
        for block in [1, 777, 10_001, 20_001] {
            assert_eq!(shared(&with(&list, block)), list.chunks.len() - 1);
        }
        let cut = without(&list, 5000..15_000);
        assert_eq!(cut.count(), 5000);
        assert!(shared(&cut) >= cut.chunks.len() - 2);
    }
}
