//! A mapping store that keeps everything in memory.

use std::fmt;
use std::sync::Arc;

use crate::block::BlockQueue;
use crate::error::{Error, Result};
use crate::probe::{Moment, Mutation, Probe};
use crate::units::{DiskBlock, FileBlock, FileNumber, FileRange};

use super::table::{FileState, FileTable};
use super::{ExtentState, MappedExtent, Mapping, MappingStore, Shift};

/// A [`MappingStore`] in memory. Readers take one snapshot of a file without a lock; every change makes a
/// new snapshot, which shares most of its memory with the one before it: of a file with `n` extents, a change copies
/// a few times the root of `n`, and all of those that it touches.
pub struct MemoryStore {
    table: FileTable,
    max_extents: usize,
    probe: Probe,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("files", &self.table.len())
            .field("max_extents", &self.max_extents)
            .finish()
    }
}

impl MemoryStore {
    /// A store without a limit.
    pub fn new() -> Self {
        Self::with_max_extents(usize::MAX)
    }

    /// A store in which a file may have at most `max_extents` extents, as one whose extent tree cannot
    /// grow any more: what would need more fails with [`Error::NoSpace`]. Removing and shifting, which
    /// must not fail, may exceed the limit by one.
    pub fn with_max_extents(max_extents: usize) -> Self {
        Self {
            table: FileTable::default(),
            max_extents,
            probe: Probe::default(),
        }
    }

    /// The same with something changed.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn with_probe(self, probe: Probe) -> Self {
        self.probed(probe)
    }

    /// The same; a test may change something.
    pub(crate) fn probed(self, probe: Probe) -> Self {
        Self { probe, ..self }
    }

    fn change<T>(
        &self,
        file: FileNumber,
        change: impl FnOnce(&FileState) -> Result<(FileState, T)>,
    ) -> Result<T> {
        self.table.change(file, |record| {
            let (state, answer) = change(&record.state())?;
            record.publish(state);
            Ok(answer)
        })
    }

    fn within_limit(&self, before: &FileState, after: FileState) -> Result<(FileState, ())> {
        let count = after.extents.count();
        if count > self.max_extents && count > before.extents.count() {
            return Err(Error::NoSpace);
        }
        Ok((after, ()))
    }

    /// For [`Mutation::KeepRefusedExtent`]: the answer of an insert, which takes place in either case.
    fn insert_and_keep(&self, file: FileNumber, extent: MappedExtent) -> Result<()> {
        self.change(file, |state| {
            let after = state.inserted(extent)?;
            let answer = self.within_limit(state, after.clone());
            Ok((after, answer.map(drop)))
        })?
    }
}

/// For [`Mutation::ReadInlineAsExtents`]: what lies where extents would be.
fn bytes_as_extent(bytes: &[u8]) -> MappedExtent {
    let len = bytes.len() as u64;
    MappedExtent {
        range: FileRange::at(FileBlock(0), len.max(1)),
        disk: DiskBlock(len),
        state: ExtentState::Unwritten,
    }
}

impl MappingStore for MemoryStore {
    fn query(&self, file: FileNumber, block: FileBlock) -> Result<Mapping> {
        Ok(self.table.query(file, block))
    }

    fn last_before(&self, file: FileNumber, block: FileBlock) -> Result<Option<MappedExtent>> {
        Ok(self.table.last_before(file, block))
    }

    fn extents(&self, file: FileNumber, range: FileRange) -> Result<Vec<MappedExtent>> {
        if self.probe.is(Mutation::ReadInlineAsExtents)
            && let Some(bytes) = self.inline_data(file)?
        {
            return Ok(vec![bytes_as_extent(&bytes)]);
        }
        Ok(self.table.extents(file, range))
    }

    fn insert(&self, file: FileNumber, extent: MappedExtent) -> Result<()> {
        if self.probe.is(Mutation::KeepRefusedExtent) {
            return self.insert_and_keep(file, extent);
        }
        self.change(file, |state| {
            self.within_limit(state, state.inserted(extent)?)
        })
    }

    fn convert(&self, file: FileNumber, range: FileRange, to: ExtentState) -> Result<()> {
        self.change(file, |state| {
            self.within_limit(state, state.converted(range, to))
        })
    }

    fn remove(&self, file: FileNumber, range: FileRange) -> Result<Vec<MappedExtent>> {
        self.change(file, |state| Ok(state.without(range)))
    }

    fn shift(&self, file: FileNumber, from: FileBlock, shift: Shift) -> Result<()> {
        self.change(file, |state| Ok((state.shifted(from, shift)?, ())))
    }

    fn size(&self, file: FileNumber) -> Result<u64> {
        Ok(self.table.size(file))
    }

    fn set_size(&self, file: FileNumber, size: u64) -> Result<()> {
        self.change(file, |state| Ok((state.sized(size), ())))
    }

    fn extend_size(&self, file: FileNumber, size: u64) -> Result<()> {
        if self.table.size(file) >= size {
            return Ok(());
        }
        self.probe.reached(Moment::GrowingStoredSize);
        self.change(file, |state| {
            let size = match self.probe.is(Mutation::ExtendSizeInTwoSteps) {
                false => state.size.max(size),
                true => size,
            };
            Ok((state.sized(size), ()))
        })
    }

    fn inline_data(&self, file: FileNumber) -> Result<Option<Arc<[u8]>>> {
        Ok(self.table.inline_data(file))
    }

    fn set_inline_data(&self, file: FileNumber, bytes: Option<Arc<[u8]>>) -> Result<()> {
        self.change(file, |state| Ok((state.with_inline(bytes), ())))
    }

    fn files(&self) -> Result<Vec<FileNumber>> {
        Ok(self.table.numbers())
    }

    fn commit(&self, data: &BlockQueue) -> Result<()> {
        data.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_store_refuses_to_split_but_still_converts_whole_extents_and_removes() {
        let store = MemoryStore::with_max_extents(1);
        let file = FileNumber(1);
        let range = FileRange::at(FileBlock(10), 3);
        let state = ExtentState::Unwritten;
        store
            .insert(
                file,
                MappedExtent {
                    range,
                    disk: DiskBlock(100),
                    state,
                },
            )
            .unwrap();
        let middle = FileRange::at(FileBlock(11), 1);
        assert_eq!(
            store.convert(file, middle, ExtentState::Written),
            Err(Error::NoSpace)
        );
        assert_eq!(store.convert(file, range, ExtentState::Written), Ok(()));
        assert_eq!(store.remove(file, middle).unwrap().len(), 1);
        assert_eq!(store.extents(file, range).unwrap().len(), 2);
    }

    #[test]
    fn an_unknown_file_is_empty_and_reading_does_not_create_it() {
        let store = MemoryStore::new();
        let hole = FileRange::starting_at(FileBlock(0));
        assert_eq!(
            store.query(FileNumber(7), FileBlock(3)),
            Ok(Mapping::Hole(hole))
        );
        assert_eq!(store.files(), Ok(vec![]));
    }
}
