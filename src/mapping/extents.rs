//! A file's extents as an immutable sorted list: every change makes a new list.

use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::units::{FileBlock, FileRange, MAX_FILE_BLOCKS};

use super::chunks::Chunks;
use super::{ExtentState, MappedExtent, Mapping, Shift};

/// Sorted, disjoint, non-empty extents, neighbours merged wherever they can be.
#[derive(Clone, Debug, Default)]
pub(super) struct Extents(Chunks);

impl PartialEq for Extents {
    fn eq(&self, other: &Self) -> bool {
        self.count() == other.count() && self.iter().eq(other.iter())
    }
}

impl Eq for Extents {}

impl Extents {
    /// How many extents there are.
    pub(super) fn count(&self) -> usize {
        self.0.count()
    }

    /// Extents that are sorted and disjoint already; none if they are not.
    pub(super) fn from_sorted(extents: &[MappedExtent]) -> Option<Self> {
        let sorted = extents.is_sorted_by(|one, next| one.range.end() <= next.range.start());
        sorted.then(|| Self(Chunks::of(extents)))
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &MappedExtent> {
        self.0.iter()
    }

    pub(super) fn query(&self, block: FileBlock) -> Mapping {
        let place = self.0.place(|extent| extent.range.end() <= block);
        match self.0.at(place) {
            Some(extent) if extent.range.contains(block) => Mapping::Mapped(*extent),
            next => {
                let left = self.0.before(place);
                let start = left.map_or(FileBlock(0), |left| left.range.end());
                let end = next.map_or(FileBlock(MAX_FILE_BLOCKS), |right| right.range.start());
                Mapping::Hole(FileRange::new(start, end))
            }
        }
    }

    pub(super) fn last_before(&self, block: FileBlock) -> Option<MappedExtent> {
        let place = self.0.place(|extent| extent.range.start() < block);
        self.0.before(place).copied()
    }

    /// Every extent that meets `range`, whole, in order.
    pub(super) fn overlapping(&self, range: FileRange) -> impl Iterator<Item = MappedExtent> {
        let first = self.0.place(|extent| extent.range.end() <= range.start());
        let overlaps = move |extent: &&MappedExtent| extent.range.start() < range.end();
        self.0.behind(first).take_while(overlaps).copied()
    }

    pub(super) fn with(&self, extent: MappedExtent) -> Result<Self> {
        if extent.range.end().0 > MAX_FILE_BLOCKS {
            return Err(Error::FileTooBig);
        }
        if self.overlapping(extent.range).next().is_some() {
            return Err(Error::Corrupt("a block of the file is mapped already"));
        }
        Ok(self.replacing(extent.range, [extent]))
    }

    pub(super) fn converted(&self, range: FileRange, to: ExtentState) -> Self {
        let pieces = self.overlapping(range).map(|extent| {
            let piece = extent.clip(range);
            MappedExtent { state: to, ..piece }
        });
        self.replacing(range, pieces)
    }

    pub(super) fn without(&self, range: FileRange) -> (Self, Vec<MappedExtent>) {
        let removed = self.overlapping(range).map(|extent| extent.clip(range));
        (self.replacing(range, []), removed.collect())
    }

    pub(super) fn shifted(&self, from: FileBlock, shift: Shift) -> Result<Self> {
        let tail = FileRange::starting_at(from);
        let moving = || self.overlapping(tail).map(|extent| extent.clip(tail));
        let Some(start) = moving().next().map(|first| first.range.start()) else {
            return Ok(self.clone());
        };
        let target = match shift {
            Shift::Left(by) if by > start.0 => {
                return Err(Error::Corrupt(
                    "extents would be moved before the start of the file",
                ));
            }
            Shift::Right(by) if by > MAX_FILE_BLOCKS - self.end().0 => {
                return Err(Error::FileTooBig);
            }
            Shift::Left(by) => FileBlock(start.0 - by),
            Shift::Right(by) => start.advance(by),
        };
        let rest = self.replacing(tail, []);
        if target < rest.end() {
            return Err(Error::Corrupt("extents would be moved over others"));
        }
        let moved = moving().map(|extent| {
            let distance = extent.range.start().0 - start.0;
            let range = FileRange::at(target.advance(distance), extent.range.len());
            MappedExtent { range, ..extent }
        });
        Ok(rest.replacing(FileRange::starting_at(target), moved))
    }

    /// The block behind the last one that is mapped.
    fn end(&self) -> FileBlock {
        let last = self.last_before(FileBlock(MAX_FILE_BLOCKS));
        last.map_or(FileBlock(0), |last| last.range.end())
    }

    /// The list with everything inside `range` replaced by `pieces`, which must lie in it, in order.
    fn replacing(&self, range: FileRange, pieces: impl IntoIterator<Item = MappedExtent>) -> Self {
        // Also what only touches the range: it may become one with what lies there now.
        let start = self.0.place(|extent| extent.range.end() < range.start());
        let end = self.0.place(|extent| extent.range.start() <= range.end());
        let left = FileRange::new(FileBlock(0), range.start());
        let right = FileRange::starting_at(range.end());
        let kept_left = self.0.at(start).map(|extent| extent.clip(left));
        let kept_right = self.0.before(end).map(|extent| extent.clip(right));
        let mut new = SmallVec::<[MappedExtent; 4]>::new();
        for extent in kept_left.into_iter().chain(pieces).chain(kept_right) {
            push_merged(&mut new, extent);
        }
        Self(self.0.replacing(start, end, &new))
    }
}

/// Appends `extent` unless it is empty, merging it into the last one where both are one run.
fn push_merged(list: &mut SmallVec<[MappedExtent; 4]>, extent: MappedExtent) {
    if extent.range.is_empty() {
        return;
    }
    if let Some(last) = list.last_mut()
        && last.range.end() == extent.range.start()
        && last.state == extent.state
        && last.run().end() == extent.disk
    {
        last.range = FileRange::new(last.range.start(), extent.range.end());
        return;
    }
    list.push(extent);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::DiskBlock;
    use ExtentState::{Unwritten, Written};

    fn extent(start: u64, len: u64, disk: u64, state: ExtentState) -> MappedExtent {
        MappedExtent {
            range: FileRange::at(FileBlock(start), len),
            disk: DiskBlock(disk),
            state,
        }
    }

    fn list(extents: &[MappedExtent]) -> Extents {
        extents.iter().fold(Extents::default(), |list, extent| {
            list.with(*extent).unwrap()
        })
    }

    fn has(list: &Extents, extents: &[MappedExtent]) -> bool {
        list.iter().eq(extents)
    }

    #[test]
    fn neighbours_merge_only_when_physically_one_run() {
        let merged = list(&[extent(0, 2, 10, Written), extent(2, 2, 12, Written)]);
        assert!(has(&merged, &[extent(0, 4, 10, Written)]));
        let around = list(&[extent(0, 2, 10, Written), extent(4, 2, 14, Written)]);
        let filled = around.with(extent(2, 2, 12, Written)).unwrap();
        assert!(has(&filled, &[extent(0, 6, 10, Written)]));
        let apart = list(&[extent(0, 2, 10, Written), extent(2, 2, 20, Written)]);
        assert_eq!(apart.count(), 2);
    }

    #[test]
    fn converting_the_middle_splits_and_converting_back_merges() {
        let start = list(&[extent(10, 3, 100, Unwritten)]);
        let split = start.converted(FileRange::at(FileBlock(11), 1), Written);
        assert!(has(
            &split,
            &[
                extent(10, 1, 100, Unwritten),
                extent(11, 1, 101, Written),
                extent(12, 1, 102, Unwritten)
            ]
        ));
        assert_eq!(
            split.converted(FileRange::at(FileBlock(0), 50), Unwritten),
            start
        );
    }

    #[test]
    fn a_hole_is_reported_whole() {
        let map = list(&[extent(2, 2, 10, Written), extent(8, 1, 50, Written)]);
        assert_eq!(
            map.query(FileBlock(5)),
            Mapping::Hole(FileRange::at(FileBlock(4), 4))
        );
        assert_eq!(
            map.query(FileBlock(0)),
            Mapping::Hole(FileRange::at(FileBlock(0), 2))
        );
        assert_eq!(
            map.query(FileBlock(9)),
            Mapping::Hole(FileRange::starting_at(FileBlock(9)))
        );
    }

    #[test]
    fn mapping_a_mapped_block_is_refused() {
        let map = list(&[extent(2, 2, 10, Written)]);
        assert!(matches!(
            map.with(extent(3, 4, 90, Written)),
            Err(Error::Corrupt(_))
        ));
    }

    #[test]
    fn shifting_splits_at_the_place_and_refuses_to_overlap() {
        let map = list(&[extent(0, 4, 10, Written)]);
        let right = map.shifted(FileBlock(2), Shift::Right(5)).unwrap();
        assert!(has(
            &right,
            &[extent(0, 2, 10, Written), extent(7, 2, 12, Written)]
        ));
        assert_eq!(right.shifted(FileBlock(7), Shift::Left(5)).unwrap(), map);
        assert!(right.shifted(FileBlock(7), Shift::Left(6)).is_err());
        assert!(map.shifted(FileBlock(0), Shift::Left(1)).is_err());
        assert_eq!(
            map.shifted(FileBlock(0), Shift::Right(MAX_FILE_BLOCKS)),
            Err(Error::FileTooBig)
        );
    }
}
