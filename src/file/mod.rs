//! Volumes and files: what a caller does to a file, in terms of bytes.
//!
//! The layer promises that every method of [`Volume`] and [`File`] takes `&self` and may be called by any
//! thread at any time; that a byte that is read was written there, or is a zero; that `ENOSPC` is told
//! to the writer and not to writeback, as long as the mapping store has room; and that bad input gets a typed error and changes nothing.
//!
//! It must not know how blocks are found, promised, allocated or shared between clusters - that is
//! [`delalloc`](crate::delalloc) - nor what a store or device keeps.
//!
//! # Which operation takes which lock
//! Outermost first; `X` exclusive, `s` shared. The data lock and what lies below it is taken by all.
//!
//! | operation | inode | invalidate | writeback | folio locks |
//! |---|---|---|---|---|
//! | `read_at`, `load_mapped` | | s | | one at a time; those of one command, in order, over the I/O |
//! | `write_at` | X | X, inside the mapping store | | one at a time |
//! | `write_direct_at` | X | X | X | of written and dropped pages |
//! | `read_direct_at` | s | | X, for the flush | as `sync_range` |
//! | `page_fault`, `store_mapped` | | s | | one at a time |
//! | `set_len`, growing | X | X, inside the mapping store | | of the last page |
//! | `set_len`, shrinking | X | X | | of dropped pages |
//! | `allocate`: allocate, keep size | X | | | of the last page, before the file grows |
//! | `allocate`: punch, zero | X | X | | of changed pages |
//! | `allocate`: collapse, insert | X | X | X | of written and dropped pages |
//! | `extents`, `seek_data`, `seek_hole` | s | | | for a look |
//! | `sync_data`, `sync_all`, `sync_range`, `Volume::sync`, writeback in the background | | | X | those of up to 1 MiB, in order, over the I/O |
//! | eviction of clean pages | | | | tried only |
//! | `Volume::drop_caches` | X | X | X | as `sync_all`, then of dropped pages |
//!
//! While it allocates, `allocate` shares no lock above the data lock with a page fault. That is the
//! [race](crate::delalloc) that the second look is for.

mod allocate;
mod background;
mod clock;
mod direct;
mod dirty_pages;
mod error_sequence;
mod fault;
mod inode;
mod memory;
mod options;
mod page_cache;
#[cfg(feature = "testing")]
mod picture;
mod plan;
mod read;
mod read_ahead;
mod resize;
mod seek;
mod volume;
mod write;
mod writeback;

use std::fmt;

use crate::sync::{Arc, Mutex, Rank};
use crate::units::FileNumber;

pub use allocate::AllocateMode;
pub use options::VolumeOptions;
#[cfg(feature = "testing")]
pub(crate) use picture::{FilePicture, VolumePicture};
pub use seek::{ExtentKind, FileExtent};
pub use volume::{Statfs, Volume};

use background::Waits;
use inode::Inode;
use read_ahead::ReadAhead;

/// An open file. Cloning gives another name to the same open file; opening again gives a new one, which
/// hears of writeback errors by itself.
#[derive(Clone)]
pub struct File {
    inode: Arc<Inode>,
    opened: Arc<OpenFile>,
}

/// What the clones of an open file share. The last open file of an inode gives the space up that is kept near it.
#[derive(Debug)]
struct OpenFile {
    inode: Arc<Inode>,
    /// The errors that this open file has been told of.
    seen_errors: Mutex<ErrorCounts>,
    read_ahead: ReadAhead,
    waits: Waits,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.inode.closed();
    }
}

/// How many errors there were, or an open file has been told of.
#[derive(Debug)]
struct ErrorCounts {
    of_writeback: u64,
    of_flushes: u64,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("number", &self.inode.number)
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}

impl File {
    fn open(inode: Arc<Inode>) -> Self {
        let seen = ErrorCounts {
            of_writeback: inode.errors.seen_by_new_handle(),
            of_flushes: inode.flush_errors.seen_by_new_handle(),
        };
        inode.opened();
        let opened = OpenFile {
            inode: Arc::clone(&inode),
            seen_errors: Mutex::new(Rank::SeenErrors, seen),
            read_ahead: ReadAhead::default(),
            waits: Waits::default(),
        };
        Self {
            inode,
            opened: Arc::new(opened),
        }
    }

    /// The number of the file in its volume.
    pub fn number(&self) -> FileNumber {
        self.inode.number
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.inode.size()
    }

    /// Space the file takes in units of 512 bytes, as `st_blocks`: whole clusters, those included that
    /// are promised to delayed blocks. Nothing for a file inside the mapping store. Takes the data lock shared, so that
    /// a file whose promise is just being turned into space does not seem empty.
    pub fn blocks(&self) -> u64 {
        self.inode.blocks.clusters() * self.inode.backing.geometry.cluster_bytes() / 512
    }

    /// Blocks of the volume promised to the file's delayed data.
    pub fn reserved_blocks(&self) -> u64 {
        self.inode.blocks.reserved_clusters() * self.inode.backing.geometry.cluster.blocks()
    }

    /// Drops entries of the file's status tree that `drop_it` picks among those that can be found again,
    /// as memory pressure does. Answers do not change. Holds the tree's writer lock: `drop_it` must not use the file.
    pub fn shrink_status(&self, drop_it: impl FnMut(crate::status::StatusExtent) -> bool) {
        self.inode.blocks.status().shrink_where(drop_it);
    }
}
