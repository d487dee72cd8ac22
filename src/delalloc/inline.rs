//! Files whose bytes live inside the mapping store, and how they leave it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use crate::error::Result;
use crate::mapping::ExtentState;
use crate::probe::Mutation;
use crate::sync::IoAllowed;
use crate::units::{FileBlock, FileRange};

use super::FileBlocks;
use super::allocate::Purpose;
use super::blocks::DataLocked;

impl FileBlocks {
    /// The bytes of a file that lives inline; `None` when its data lives in blocks. Such a file has no
    /// mapping: every block of it is a hole.
    ///
    /// # Errors
    /// Those of the mapping store.
    pub fn inline_data(&self) -> Result<Option<Arc<[u8]>>> {
        self.backing.store.inline_data(self.file)
    }

    /// Replaces the bytes of an inline file by what `change` makes of them. Returns whether the file was
    /// still inline; otherwise nothing is done.
    ///
    /// # Errors
    /// Those of the mapping store.
    pub fn change_inline(&self, change: impl FnOnce(&mut Vec<u8>)) -> Result<bool> {
        let _locked = self.lock_data();
        let probe = &self.backing.probe;
        let nothing = probe.is(Mutation::RewriteInlineBlindly).then(Arc::default);
        let Some(bytes) = self.backing.store.inline_data(self.file)?.or(nothing) else {
            return Ok(false);
        };
        let mut bytes = bytes.to_vec();
        change(&mut bytes);
        self.backing
            .store
            .set_inline_data(self.file, Some(bytes.into()))?;
        Ok(true)
    }

    /// Ends the inline life of a file: its bytes are returned, and the blocks that will hold them are
    /// delayed or allocated, in one step. `None` when another thread was first or it never was inline.
    ///
    /// The caller holds the folio lock of the first page, so that nobody reads it before the bytes are
    /// there. It is the data lock that decides between an inline write and a page fault (one of ext4's
    /// historic crashes was a conversion that the writer did not notice).
    ///
    /// # Errors
    /// [`Error::NoSpace`](crate::Error::NoSpace) and errors of the mapping store; the file stays inline.
    pub fn leave_inline(&self) -> Result<Option<Arc<[u8]>>> {
        let _together = self.backing.store.together();
        let locked = self.lock_data();
        let Some(bytes) = self.backing.store.inline_data(self.file)? else {
            return Ok(None);
        };
        let blocks = self
            .backing
            .geometry
            .block_size
            .blocks_for(bytes.len() as u64);
        let range = FileRange::at(FileBlock(0), blocks);
        let moved = catch_unwind(AssertUnwindSafe(|| self.move_out(&locked, range, &bytes)));
        if let Ok(Ok(())) = moved {
            return Ok(Some(bytes));
        }
        // Also after a panic of the device: nobody could open a volume with a file that has both.
        let taken_back = self.remove(&locked, range, range);
        match moved {
            Ok(moved) => taken_back.and(moved).map(|()| None),
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Backs `range`, which is the whole file, and ends its inline life.
    fn move_out(&self, locked: &DataLocked<'_>, range: FileRange, bytes: &[u8]) -> Result<()> {
        let store = &self.backing.store;
        let survives = store.running_change().is_some()
            && !self.backing.probe.is(Mutation::LeaveInlineUnwritten);
        let mut rest = range;
        while !rest.is_empty() {
            let backed = match survives {
                false => self.back_hole(locked, rest)?.range,
                true => self.write_out(locked, rest, bytes)?,
            };
            rest = FileRange::new(backed.end(), rest.end());
        }
        store.set_inline_data(self.file, None)
    }

    /// Writes the start of `range` out of `bytes`, which are the file, to blocks; returns what. A store that survives a
    /// crash has promised those bytes already: they must not wait for writeback.
    fn write_out(
        &self,
        locked: &DataLocked<'_>,
        range: FileRange,
        bytes: &[u8],
    ) -> Result<FileRange> {
        let done = self.allocate_start(locked, range, Purpose::Data)?;
        let block_size = self.backing.geometry.block_size;
        let from = block_size.offset_of(done.range.start()) as usize;
        let to = block_size.offset_of(done.range.end()) as usize;
        let mut data = bytes[from..to.min(bytes.len())].to_vec();
        data.resize(to - from, 0);
        if let Some(disk) = done.status.disk_block() {
            let _under_the_data_lock = IoAllowed::new();
            self.backing.queue.write(disk, &data)?;
        }
        self.convert(locked, done.range, ExtentState::Written, &[done.range])?;
        Ok(done.range)
    }
}
