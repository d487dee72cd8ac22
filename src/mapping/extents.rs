//! A file's extents as an immutable sorted list: every change makes a new list.

use crate::error::{Error, Result};
use crate::units::{FileBlock, FileRange, MAX_FILE_BLOCKS};

use super::{ExtentState, MappedExtent, Mapping, Shift};

/// Sorted, disjoint, non-empty extents, neighbours merged wherever they can be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extents(Vec<MappedExtent>);

impl Extents {
    /// How many extents there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Extents that are sorted and disjoint already; none if they are not.
    pub(super) fn from_sorted(extents: Vec<MappedExtent>) -> Option<Self> {
        let sorted = extents.is_sorted_by(|one, next| one.range.end() <= next.range.start());
        sorted.then_some(Self(extents))
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &MappedExtent> {
        self.0.iter()
    }

    /// The index of the first extent that ends behind `block`.
    fn index(&self, block: FileBlock) -> usize {
        self.0.partition_point(|extent| extent.range.end() <= block)
    }

    pub(super) fn query(&self, block: FileBlock) -> Mapping {
        let at = self.index(block);
        match self.0.get(at) {
            Some(extent) if extent.range.contains(block) => Mapping::Mapped(*extent),
            next => {
                let start = at
                    .checked_sub(1)
                    .map_or(FileBlock(0), |left| self.0[left].range.end());
                let end = next.map_or(FileBlock(MAX_FILE_BLOCKS), |right| right.range.start());
                Mapping::Hole(FileRange::new(start, end))
            }
        }
    }

    pub(super) fn last_before(&self, block: FileBlock) -> Option<MappedExtent> {
        let after = self
            .0
            .partition_point(|extent| extent.range.start() < block);
        after.checked_sub(1).map(|at| self.0[at])
    }

    pub(super) fn overlapping(&self, range: FileRange) -> &[MappedExtent] {
        let first = self.index(range.start());
        let end = self
            .0
            .partition_point(|extent| extent.range.start() < range.end());
        &self.0[first..end.max(first)]
    }

    pub(super) fn with(&self, extent: MappedExtent) -> Result<Self> {
        if extent.range.end().0 > MAX_FILE_BLOCKS {
            return Err(Error::FileTooBig);
        }
        if !self.overlapping(extent.range).is_empty() {
            return Err(Error::Corrupt("a block of the file is mapped already"));
        }
        Ok(self.replacing(extent.range, [extent]))
    }

    pub(super) fn converted(&self, range: FileRange, to: ExtentState) -> Self {
        let pieces = self.overlapping(range).iter().map(|extent| {
            let piece = extent.clip(range);
            MappedExtent { state: to, ..piece }
        });
        self.replacing(range, pieces)
    }

    pub(super) fn without(&self, range: FileRange) -> (Self, Vec<MappedExtent>) {
        let removed = self
            .overlapping(range)
            .iter()
            .map(|extent| extent.clip(range))
            .collect();
        (self.replacing(range, []), removed)
    }

    pub(super) fn shifted(&self, from: FileBlock, shift: Shift) -> Result<Self> {
        let moved = |range: FileRange| match shift {
            Shift::Left(by) => match range.start().0.checked_sub(by) {
                Some(start) => Ok(FileRange::at(FileBlock(start), range.len())),
                None => Err(Error::Corrupt(
                    "extents would be moved before the start of the file",
                )),
            },
            Shift::Right(by) => match range.end().0.checked_add(by) {
                Some(end) if end <= MAX_FILE_BLOCKS => {
                    Ok(FileRange::at(FileBlock(end - range.len()), range.len()))
                }
                _ => Err(Error::FileTooBig),
            },
        };
        let tail = FileRange::from(from);
        let (mut shifted, removed) = self.without(tail);
        for extent in removed {
            shifted = shifted.with(MappedExtent {
                range: moved(extent.range)?,
                ..extent
            })?;
        }
        Ok(shifted)
    }

    /// The list with everything inside `range` replaced by `pieces`, which must lie in it, in order.
    fn replacing(&self, range: FileRange, pieces: impl IntoIterator<Item = MappedExtent>) -> Self {
        let first = self.index(range.start());
        let overlapped = self.overlapping(range);
        let end = first + overlapped.len();
        let mut list = Vec::with_capacity(self.0.len() + 2);
        list.extend_from_slice(&self.0[..first]);
        let left = FileRange::new(FileBlock(0), range.start());
        let right = FileRange::from(range.end());
        let kept_left = overlapped.first().map(|extent| extent.clip(left));
        let kept_right = overlapped.last().map(|extent| extent.clip(right));
        let new = kept_left.into_iter().chain(pieces).chain(kept_right);
        for extent in new.chain(self.0[end..].iter().copied()) {
            push_merged(&mut list, extent);
        }
        Self(list)
    }
}

/// Appends `extent` unless it is empty, merging it into the last one where both are one run.
fn push_merged(list: &mut Vec<MappedExtent>, extent: MappedExtent) {
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

    #[test]
    fn neighbours_merge_only_when_physically_one_run() {
        let merged = list(&[extent(0, 2, 10, Written), extent(2, 2, 12, Written)]);
        assert_eq!(merged.0, [extent(0, 4, 10, Written)]);
        let apart = list(&[extent(0, 2, 10, Written), extent(2, 2, 20, Written)]);
        assert_eq!(apart.count(), 2);
    }

    #[test]
    fn converting_the_middle_splits_and_converting_back_merges() {
        let start = list(&[extent(10, 3, 100, Unwritten)]);
        let split = start.converted(FileRange::at(FileBlock(11), 1), Written);
        assert_eq!(
            split.0,
            [
                extent(10, 1, 100, Unwritten),
                extent(11, 1, 101, Written),
                extent(12, 1, 102, Unwritten)
            ]
        );
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
            Mapping::Hole(FileRange::from(FileBlock(9)))
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
        assert_eq!(
            right.0,
            [extent(0, 2, 10, Written), extent(7, 2, 12, Written)]
        );
        assert_eq!(right.shifted(FileBlock(7), Shift::Left(5)).unwrap(), map);
        assert!(right.shifted(FileBlock(7), Shift::Left(6)).is_err());
        assert!(map.shifted(FileBlock(0), Shift::Left(1)).is_err());
        assert_eq!(
            map.shifted(FileBlock(0), Shift::Right(MAX_FILE_BLOCKS)),
            Err(Error::FileTooBig)
        );
    }
}
