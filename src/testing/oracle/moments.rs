//! What one instant does to a file, and shows of it: for operations that are not over at once, and for whoever
//! looks at a file while they run.

use super::{DenseFile, Oracle, State};
use crate::error::Result;
use crate::file::ExtentKind;
use crate::units::{BlockSize, FileBlock, FileRange, PAGE_SIZE};

impl Oracle {
    /// An empty file of such a volume.
    pub fn file(&self) -> DenseFile {
        DenseFile::new(self.shape)
    }
}

impl DenseFile {
    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The block size of the volume.
    pub fn block_size(&self) -> BlockSize {
        self.shape.geometry.block_size
    }

    /// Writes `data`, all of it.
    ///
    /// # Errors
    /// [`FileTooBig`](crate::Error::FileTooBig).
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        self.write_data(offset, data).map(drop)
    }

    /// The bytes from `offset` on, at most `len`; fewer at the end of the file.
    pub fn read(&self, offset: u64, len: u64) -> Vec<u8> {
        let end = offset.saturating_add(len).min(self.size);
        self.content(offset.min(end)..end)
    }

    /// Dirties those blocks of `range` that begin below `end`, as a page fault does.
    pub fn fault(&mut self, range: FileRange, end: u64) {
        let size = self.block_size();
        let below = range.intersect(size.covering(0, end));
        if !below.is_empty() {
            self.touch(size.offset_of(below.start())..size.offset_of(below.end()));
        }
    }

    /// Stores `data`, which lies in one page, as far as the file goes; how many bytes that were. `None` if the
    /// page lies behind the end, or has a block that no page fault has dirtied.
    pub fn store(&mut self, offset: u64, data: &[u8]) -> Option<usize> {
        let page = offset - offset % PAGE_SIZE;
        let end = self.size.min(page + PAGE_SIZE);
        let mut blocks = self.block_size().covering(page, end.max(page)).blocks();
        if page >= self.size || !blocks.all(|block| self.is_data(block)) {
            return None;
        }
        let len = data.len().min(self.size.saturating_sub(offset) as usize);
        self.put(offset, &data[..len]);
        Some(len)
    }

    /// How `block` is backed.
    pub fn kind(&self, block: FileBlock) -> Option<ExtentKind> {
        self.state(block).kind()
    }

    /// Whether `block` has data for a seek.
    pub fn is_data(&self, block: FileBlock) -> bool {
        self.state(block).is_data()
    }

    /// Writeback begins with `block`: one that is delayed is allocated.
    pub fn begin_writing(&mut self, block: FileBlock) {
        self.set(FileRange::at(block, 1), |state| match state {
            State::Delayed => State::UnwrittenDirty,
            state => state,
        });
    }

    /// Writeback ends with `block`: one that has newer data is written now.
    pub fn end_writing(&mut self, block: FileBlock) {
        self.set(FileRange::at(block, 1), |state| match state {
            State::UnwrittenDirty => State::Written,
            state => state,
        });
    }

    fn state(&self, block: FileBlock) -> State {
        let state = self.states.get(block.0 as usize);
        state.copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FileOp;

    fn file_of(size: u64) -> DenseFile {
        let mut file = Oracle::new(1024, 1, true).unwrap().file();
        file.apply(&FileOp::SetLen(size)).unwrap();
        file
    }

    #[test]
    fn a_store_needs_a_page_fault_on_every_block_below_the_end() {
        let mut file = file_of(2500);
        assert_eq!(file.store(100, &[1; 50]), None);
        file.fault(FileRange::at(FileBlock(0), 2), 2500);
        assert_eq!(file.store(100, &[1; 50]), None);
        file.fault(FileRange::at(FileBlock(2), 2), 2500);
        assert_eq!(file.store(100, &[1; 50]), Some(50));
        assert_eq!(file.store(2490, &[2; 50]), Some(10));
        assert_eq!(file.store(2600, &[2; 50]), Some(0));
        assert_eq!(file.store(PAGE_SIZE, &[2; 50]), None);
        assert_eq!(file.kind(FileBlock(3)), None);
        assert_eq!(file.read(2480, 100), [[0; 10], [2; 10]].concat());
    }

    #[test]
    fn writeback_allocates_first_and_makes_readable_then() {
        let mut file = file_of(2048);
        file.write(0, &[1; 1024]).unwrap();
        for block in [FileBlock(0), FileBlock(1)] {
            file.begin_writing(block);
        }
        assert_eq!(file.kind(FileBlock(0)), Some(ExtentKind::Unwritten));
        assert!(file.is_data(FileBlock(0)) && !file.is_data(FileBlock(1)));
        for block in [FileBlock(0), FileBlock(1)] {
            file.end_writing(block);
        }
        assert_eq!(file.kind(FileBlock(0)), Some(ExtentKind::Written));
        assert_eq!(file.kind(FileBlock(1)), None);
    }

    #[test]
    fn files_that_differ_are_unequal() {
        let mut file = file_of(4096);
        let before = file.clone();
        file.fault(FileRange::at(FileBlock(0), 1), 4096);
        assert_ne!(file, before);
        let faulted = file.clone();
        file.write(1, &[1]).unwrap();
        assert_ne!(file, faulted);
    }
}
