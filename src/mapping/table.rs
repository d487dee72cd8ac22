//! The files of a store in memory: each one snapshot that readers take whole.

use std::sync::Arc;

use arc_swap::ArcSwap;
use crossbeam_skiplist::SkipMap;

use crate::error::Result;
use crate::sync::{Mutex, Rank};
use crate::units::{FileBlock, FileNumber, FileRange};

use super::extents::Extents;
use super::{ExtentState, MappedExtent, Mapping, Shift};

/// A file as its last change left it. Changes make new ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FileState {
    pub(super) extents: Arc<Extents>,
    pub(super) size: u64,
    pub(super) inline: Option<Arc<[u8]>>,
}

impl FileState {
    fn with_extents(&self, extents: Extents) -> Self {
        Self {
            extents: Arc::new(extents),
            ..self.clone()
        }
    }

    pub(super) fn inserted(&self, extent: MappedExtent) -> Result<Self> {
        Ok(self.with_extents(self.extents.with(extent)?))
    }

    pub(super) fn converted(&self, range: FileRange, to: ExtentState) -> Self {
        self.with_extents(self.extents.converted(range, to))
    }

    /// The file without `range`, and what was mapped there.
    pub(super) fn without(&self, range: FileRange) -> (Self, Vec<MappedExtent>) {
        let (extents, removed) = self.extents.without(range);
        (self.with_extents(extents), removed)
    }

    pub(super) fn shifted(&self, from: FileBlock, shift: Shift) -> Result<Self> {
        Ok(self.with_extents(self.extents.shifted(from, shift)?))
    }

    pub(super) fn sized(&self, size: u64) -> Self {
        Self {
            size,
            ..self.clone()
        }
    }

    /// The file with other inline bytes, which are its size, or without any.
    pub(super) fn with_inline(&self, bytes: Option<Arc<[u8]>>) -> Self {
        let size = bytes.as_ref().map(|bytes| bytes.len() as u64);
        Self {
            extents: Arc::clone(&self.extents),
            size: size.unwrap_or(self.size),
            inline: bytes,
        }
    }
}

/// One file of a table.
#[derive(Debug)]
pub(super) struct FileRecord {
    current: ArcSwap<FileState>,
    /// Serialises changes, which are read-copy-publish.
    change: Mutex<()>,
}

impl Default for FileRecord {
    fn default() -> Self {
        Self {
            current: ArcSwap::default(),
            change: Mutex::new(Rank::Store, ()),
        }
    }
}

impl FileRecord {
    pub(super) fn state(&self) -> Arc<FileState> {
        self.current.load_full()
    }

    /// Lets readers see `state`; the caller changes the file.
    pub(super) fn publish(&self, state: FileState) {
        self.current.store(Arc::new(state));
    }
}

/// All files, by number.
#[derive(Default)]
pub(super) struct FileTable {
    /// Entries are inserted once and never replaced.
    files: SkipMap<FileNumber, Arc<FileRecord>>,
}

impl FileTable {
    /// How many files there are.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// What `read` makes of the file; of an empty one, if nothing was ever stored for it.
    pub(super) fn read<T>(&self, file: FileNumber, read: impl FnOnce(&FileState) -> T) -> T {
        match self.files.get(&file) {
            Some(entry) => read(&entry.value().current.load()),
            None => read(&FileState::default()),
        }
    }

    /// Runs `change` while nobody else changes the file.
    pub(super) fn change<T>(
        &self,
        file: FileNumber,
        change: impl FnOnce(&FileRecord) -> Result<T>,
    ) -> Result<T> {
        let record = Arc::clone(self.files.get_or_insert_with(file, Arc::default).value());
        let _changing = record.change.lock();
        change(&record)
    }

    /// Lets `file` be in the table before anybody else knows of it.
    pub(super) fn put(&self, file: FileNumber, state: FileState) {
        self.files
            .get_or_insert_with(file, Arc::default)
            .value()
            .publish(state);
    }

    /// Every file as it is now, in order of number.
    pub(super) fn states(&self) -> Vec<(FileNumber, Arc<FileState>)> {
        let state = |entry: crossbeam_skiplist::map::Entry<'_, FileNumber, Arc<FileRecord>>| {
            (*entry.key(), entry.value().state())
        };
        self.files.iter().map(state).collect()
    }

    pub(super) fn numbers(&self) -> Vec<FileNumber> {
        self.files.iter().map(|entry| *entry.key()).collect()
    }

    pub(super) fn query(&self, file: FileNumber, block: FileBlock) -> Mapping {
        self.read(file, |state| state.extents.query(block))
    }

    pub(super) fn last_before(&self, file: FileNumber, block: FileBlock) -> Option<MappedExtent> {
        self.read(file, |state| state.extents.last_before(block))
    }

    pub(super) fn extents(&self, file: FileNumber, range: FileRange) -> Vec<MappedExtent> {
        self.read(file, |state| state.extents.overlapping(range).collect())
    }

    pub(super) fn size(&self, file: FileNumber) -> u64 {
        self.read(file, |state| state.size)
    }

    pub(super) fn inline_data(&self, file: FileNumber) -> Option<Arc<[u8]>> {
        self.read(file, |state| state.inline.clone())
    }
}
