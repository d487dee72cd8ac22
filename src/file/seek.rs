//! Where a file has data and where holes: seek and the extent list.

use crate::error::{Error, Result};
use crate::probe::Mutation;
use crate::status::{Status, StatusExtent};
use crate::units::{DiskBlock, FileBlock, FileRange};

use super::File;
use super::inode::Inode;

/// How a range of a file is backed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum ExtentKind {
    /// On the volume, with data.
    Written,
    /// On the volume, reading as zeros unless the page cache holds newer data.
    Unwritten,
    /// In the page cache, with its space promised but not chosen.
    Delayed,
    /// Inside the mapping store.
    Inline,
}

/// One extent of a file, as `FIEMAP` would tell.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct FileExtent {
    /// The blocks of the file.
    pub range: FileRange,
    /// How they are backed.
    pub kind: ExtentKind,
    /// Where the first of them lives on the volume, if the extent lives there.
    pub disk: Option<DiskBlock>,
}

impl File {
    /// Every extent of the file in order, preallocated ones behind its end too. Extents that are apart on
    /// the volume are listed apart. Takes the inode lock shared; page faults may run beside.
    ///
    /// On a volume without delayed allocation unwritten blocks whose data is still in the page cache are
    /// listed as written, which is what such a write turns them into for a caller of ext4.
    ///
    /// # Errors
    /// Those of the mapping store.
    pub fn extents(&self) -> Result<Vec<FileExtent>> {
        let inode = &*self.inode;
        let probe = &inode.backing.probe;
        let _shared = probe.unless(Mutation::ListBesideCollapse, || inode.inode_lock.read());
        if let Some(bytes) = inode.inline_bytes()? {
            let range = inode.block_size().covering(0, bytes.len() as u64);
            let inline = FileExtent {
                range,
                kind: ExtentKind::Inline,
                disk: None,
            };
            return Ok(if range.is_empty() {
                vec![]
            } else {
                vec![inline]
            });
        }
        let extents = match inode.backing.policy.delayed {
            true => inode.blocks.extents()?,
            false => inode.blocks.extents_as(|block| inode.shown_at(block))?,
        };
        Ok(extents.iter().filter_map(file_extent).collect())
    }

    /// The first offset at or after `offset` (bytes) that has data: written or delayed blocks, and
    /// unwritten ones whose data is in the page cache. Takes the inode lock shared.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none before the end of the file; those of the mapping store.
    pub fn seek_data(&self, offset: u64) -> Result<u64> {
        self.seek(offset, true)?.ok_or(Error::NotFound)
    }

    /// The first offset at or after `offset` (bytes) that lies in a hole; the end of the file is one.
    /// Takes the inode lock shared.
    ///
    /// # Errors
    /// [`Error::NotFound`] when `offset` is not before the end of the file; those of the mapping store.
    pub fn seek_hole(&self, offset: u64) -> Result<u64> {
        self.seek(offset, false)?.ok_or(Error::NotFound)
    }

    /// The first offset from `offset` on that is data or not, as wanted; the end of the file is not.
    fn seek(&self, offset: u64, wanted: bool) -> Result<Option<u64>> {
        let inode = &*self.inode;
        let shared = inode.inode_lock.read();
        let size = inode.size();
        if offset >= size {
            return Err(Error::NotFound);
        }
        if inode.inline_bytes()?.is_some() {
            return Ok(Some(if wanted { offset } else { size }));
        }
        let end = FileBlock(inode.block_size().blocks_for(size));
        let mut block = inode.block_size().block_of(offset);
        while block < end {
            let found = inode.shown_at(block)?;
            if matches!(found.status, Status::Written(_) | Status::Delayed) == wanted {
                return Ok(Some(inode.block_size().offset_of(block).max(offset)));
            }
            block = found.range.end();
        }
        drop(shared);
        let size = match inode.backing.probe.is(Mutation::SeekSizeUnlocked) {
            true => inode.size(),
            false => size,
        };
        Ok((!wanted).then_some(size))
    }
}

impl Inode {
    /// What `block` and those behind it are. Unwritten blocks with data in the page cache are shown as written.
    /// The inode lock is held.
    fn shown_at(&self, block: FileBlock) -> Result<StatusExtent> {
        loop {
            let found = self
                .blocks
                .query(block)?
                .clip(FileRange::starting_at(block));
            let Status::Unwritten(disk) = found.status else {
                return Ok(found);
            };
            let clean_to = match self.pages.first_dirty_run(found.range) {
                Some(range) if range.start() == block => {
                    let status = Status::Written(disk);
                    return Ok(StatusExtent { range, status });
                }
                Some(dirty) => dirty.start(),
                None => found.range.end(),
            };
            // Writeback takes no inode lock: a page that is clean now may have been dirty at the first look. Then
            // its block is written now.
            let again = match self.backing.probe.is(Mutation::ShowWithOneLook) {
                true => found,
                false => self.blocks.query(block)?,
            };
            if again.status.is_unwritten() {
                let end = clean_to.min(again.range.end());
                return Ok(found.clip(FileRange::new(block, end)));
            }
        }
    }
}

/// What a caller sees of an extent; nothing of a hole or an empty one.
fn file_extent(extent: &StatusExtent) -> Option<FileExtent> {
    let kind = match extent.status {
        Status::Written(_) => ExtentKind::Written,
        Status::Unwritten(_) => ExtentKind::Unwritten,
        Status::Delayed => ExtentKind::Delayed,
        Status::Hole => return None,
    };
    let disk = extent.status.disk_block();
    (!extent.range.is_empty()).then_some(FileExtent {
        range: extent.range,
        kind,
        disk,
    })
}
