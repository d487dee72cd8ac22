//! The modes of `fallocate`.

use crate::error::{Error, Result};
use crate::probe::{Moment, Mutation};
use crate::spans::span;
use crate::units::{FileRange, PAGE_SIZE};

use super::File;
use super::inode::Inode;

/// What [`File::allocate`] does to a range; the names of Linux' `fallocate` flags are in parentheses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum AllocateMode {
    /// Back every hole with unwritten blocks; grow the file to the end of the range (no flag).
    Allocate,
    /// As `Allocate` without growing the file; may allocate behind its end (`KEEP_SIZE`).
    AllocateKeepSize,
    /// Make the range a hole; what lies behind the page of the file's end stays (`PUNCH_HOLE | KEEP_SIZE`).
    PunchHole,
    /// Make the range read as zeros, keeping or adding blocks for it; grow the file (`ZERO_RANGE`).
    ZeroRange,
    /// As `ZeroRange` without growing the file (`ZERO_RANGE | KEEP_SIZE`).
    ZeroRangeKeepSize,
    /// Take the range out of the file (`COLLAPSE_RANGE`).
    CollapseRange,
    /// Make room for the range by moving what follows (`INSERT_RANGE`).
    InsertRange,
}

impl File {
    /// Changes how the bytes `offset..offset + len` are backed; see [`AllocateMode`].
    ///
    /// Takes the inode lock exclusively. `Allocate` and `AllocateKeepSize` take nothing else above the
    /// data lock, the folio lock of the last page before the file grows apart, and so run beside page faults; the
    /// other modes take the invalidate lock exclusively and
    /// wait for writeback of the pages they drop.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for no length, for a collapse or insert that is not aligned to clusters,
    /// for a collapse that reaches the end of the file and an insert at or behind it;
    /// [`Error::FileTooBig`]; [`Error::NoSpace`], with what could be allocated kept and, for modes that
    /// grow the file, the size following it; device errors, those of writing back what a collapse or insert is to
    /// move among them: nothing is moved then; those of the mapping store, after which a collapse or insert may be half
    /// done.
    pub fn allocate(&self, mode: AllocateMode, offset: u64, len: u64) -> Result<()> {
        span!(
            DEBUG,
            "allocate",
            file = self.inode.number.0,
            ?mode,
            offset,
            len
        );
        let inode = &*self.inode;
        let end = inode.checked_end(offset, len)?;
        let _exclusive = inode.inode_lock.write();
        inode.leave_inline()?;
        match mode {
            AllocateMode::Allocate => {
                inode.zero_behind_end(end, end)?;
                let done = inode.preallocate(offset, end)?;
                inode.grow(done)?;
                inode.enough(done, end)
            }
            AllocateMode::AllocateKeepSize => {
                let done = inode.preallocate(offset, end)?;
                inode.enough(done, end)
            }
            AllocateMode::PunchHole => inode.punch(offset, end),
            AllocateMode::ZeroRange => {
                inode.zero_behind_end(end, end)?;
                let done = inode.zero(offset, end)?;
                inode.grow(done)?;
                inode.enough(done, end)
            }
            AllocateMode::ZeroRangeKeepSize => {
                let done = inode.zero(offset, end)?;
                inode.enough(done, end)
            }
            AllocateMode::CollapseRange => inode.collapse(offset, end),
            AllocateMode::InsertRange => inode.insert(offset, end),
        }
    }
}

impl Inode {
    /// Allocates every block of the bytes `start..end`; returns the end of the bytes that are allocated.
    pub(super) fn preallocate(&self, start: u64, end: u64) -> Result<u64> {
        let blocks = self.block_size().covering(start, end);
        let mut rest = blocks;
        while !rest.is_empty() {
            match self.with_freed_space(|| self.blocks.allocate(rest)) {
                Ok(done) => rest = FileRange::new(rest.start().advance(done), rest.end()),
                Err(Error::NoSpace) if rest != blocks => break,
                Err(error) => return Err(error),
            }
        }
        Ok(self.block_size().offset_of(rest.start()).min(end))
    }

    fn enough(&self, done: u64, end: u64) -> Result<()> {
        if done < end {
            Err(Error::NoSpace)
        } else {
            Ok(())
        }
    }

    /// Grows the file to `end`, if it is shorter and the store allows it.
    pub(super) fn grow(&self, end: u64) -> Result<()> {
        if end <= self.size() {
            return Ok(());
        }
        self.store().extend_size(self.number, end)?;
        self.set_size(end);
        Ok(())
    }

    fn punch(&self, start: u64, end: u64) -> Result<()> {
        let size = self.size();
        if start >= size {
            return Ok(());
        }
        // A range that reaches behind the end takes the rest of the page that contains the end, and no
        // more: what was preallocated behind that page survives. The last page may be longer than any file.
        let end = if end > size {
            let page_end = size.next_multiple_of(PAGE_SIZE);
            page_end.min(self.backing.geometry.max_file_size())
        } else {
            end
        };
        let _exclusive = self.exclude_mappings(start, end);
        // The device may fail before anything has changed.
        let _kept = self.read_partial_blocks(start, end.min(size))?;
        self.zero_partial_edges(start, end.min(size))?;
        self.store_size_within(end)?;
        let inside = self.block_size().inside(start, end);
        self.pages.drop_blocks(inside);
        self.backing.probe.reached(Moment::PagesDropped);
        self.blocks.punch(inside)
    }

    /// Zeroes the bytes `start..end` if there is space for all of them; returns the end of those that are allocated.
    fn zero(&self, start: u64, end: u64) -> Result<u64> {
        let _exclusive = self.exclude_mappings(start, end);
        let _kept = self.read_partial_blocks(start, end)?;
        // Everything is allocated before anything is dropped: running out of space loses no byte.
        let done = self.preallocate(start, end)?;
        if done < end {
            return Ok(done);
        }
        self.zero_partial_edges(start, end)?;
        self.store_size_within(end)?;
        let inside = self.block_size().inside(start, end);
        self.pages.drop_blocks(inside);
        self.blocks.zero(inside)?;
        Ok(done)
    }

    /// Stores the size if the file ends at or before `end`, up to which pages are about to be dropped: the
    /// writeback of its last block would have done so, and may not come any more.
    fn store_size_within(&self, end: u64) -> Result<()> {
        match self.size() <= end && !self.backing.probe.is(Mutation::DropUnstoredSize) {
            true => self.store().extend_size(self.number, self.size()),
            false => Ok(()),
        }
    }

    /// The blocks of `start..end` for the modes that move blocks.
    fn cluster_aligned(&self, start: u64, end: u64) -> Result<FileRange> {
        let cluster = self.backing.geometry.cluster_bytes();
        if !start.is_multiple_of(cluster) || !end.is_multiple_of(cluster) {
            return Err(Error::InvalidInput("range is not aligned to clusters"));
        }
        Ok(self.block_size().covering(start, end))
    }

    /// Drops page `first` and all behind it.
    fn drop_pages_from(&self, first: u64) {
        let start = self.block_size().block_of(first * PAGE_SIZE);
        self.pages.drop_blocks(FileRange::starting_at(start));
    }

    fn collapse(&self, start: u64, end: u64) -> Result<()> {
        let range = self.cluster_aligned(start, end)?;
        let size = self.size();
        if end >= size {
            return Err(Error::InvalidInput(
                "a collapsed range must end before the file does",
            ));
        }
        let _exclusive = self.exclude_filling(Mutation::ShiftBesideFaults);
        let first_page = start / PAGE_SIZE;
        // The removed part need not be written; the rest of the pages that go must be.
        self.settle(first_page..start.div_ceil(PAGE_SIZE))?;
        self.settle(end / PAGE_SIZE..u64::MAX)?;
        self.drop_pages_from(first_page);
        {
            let _together = self.store().together();
            self.blocks.collapse(range)?;
            self.set_size(size - (end - start));
            self.store().set_size(self.number, self.size())?;
        }
        self.moved()
    }

    /// Blocks have moved inside the file. Before they are written again in their new places a crash must not bring the
    /// old ones back.
    fn moved(&self) -> Result<()> {
        match self.store().running_change() {
            Some(_) if !self.backing.probe.is(Mutation::MoveWithoutCommit) => self.make_durable(),
            _ => Ok(()),
        }
    }

    fn insert(&self, start: u64, end: u64) -> Result<()> {
        let range = self.cluster_aligned(start, end)?;
        let size = self.size();
        if start >= size {
            return Err(Error::InvalidInput(
                "a range must be inserted before the end of the file",
            ));
        }
        let grown = self.checked_end(size, end - start)?;
        let _exclusive = self.exclude_filling(Mutation::ShiftBesideFaults);
        let first_page = start / PAGE_SIZE;
        self.settle(first_page..u64::MAX)?;
        self.drop_pages_from(first_page);
        {
            let _together = self.store().together();
            self.blocks.insert_gap(range.start(), range.len())?;
            self.set_size(grown);
            self.store().extend_size(self.number, grown)?;
        }
        self.moved()
    }
}
