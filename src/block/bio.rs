//! One request in blocks.

use crate::device::{Buffers, OperationKind};
use crate::sync::Arc;
use crate::units::{DiskBlock, DiskRun};

/// A request that has not been submitted. Submitting consumes it, so that none is submitted twice.
#[must_use = "a bio does nothing until it is submitted"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bio {
    pub(super) kind: OperationKind,
    pub(super) start: DiskBlock,
    pub(super) content: Content,
    pub(super) flags: Flags,
    pub(super) priority: Priority,
}

/// How much it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// So many blocks; a read gets memory when it is submitted.
    Blocks(u64),
    /// What is written, or where that goes which is read.
    Memory(Buffers),
}

impl Content {
    /// Its memory; none, for a number of blocks.
    #[inline]
    pub(super) fn memory(&mut self) -> &mut Buffers {
        if let Self::Blocks(_) = self {
            *self = Self::Memory(Buffers::default());
        }
        match self {
            Self::Memory(buffers) => buffers,
            Self::Blocks(_) => unreachable!("exchanged above"),
        }
    }

    /// Leaves none.
    #[inline]
    pub(super) fn take_memory(&mut self) -> Buffers {
        match std::mem::replace(self, Self::Blocks(0)) {
            Self::Memory(buffers) => buffers,
            Self::Blocks(_) => Buffers::default(),
        }
    }
}

/// What a bio asks for beside its operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) sync: bool,
    pub(super) meta: bool,
    pub(super) fua: bool,
    pub(super) preflush: bool,
    pub(super) nowait: bool,
}

/// Which bios a scheduler that knows priorities sends first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Priority {
    /// Before all others.
    Urgent,
    /// As most are.
    #[default]
    Normal,
    /// When there is nothing else, or after a long wait.
    Idle,
}

impl Bio {
    /// Reads the blocks of `run` into memory of its own.
    #[inline]
    pub fn read(run: DiskRun) -> Self {
        Self::new(OperationKind::Read, run.start, Content::Blocks(run.len))
    }

    /// Reads from block `start` on into `buffers`, which must be whole blocks together. They come back when it has
    /// ended; where the device takes less at once, perhaps cut in more pieces.
    #[inline]
    pub fn read_into(start: DiskBlock, buffers: impl Into<Buffers>) -> Self {
        let content = Content::Memory(buffers.into());
        Self::new(OperationKind::Read, start, content)
    }

    /// Writes `data`, which must be whole blocks, from block `start` on.
    #[inline]
    pub fn write(start: DiskBlock, data: Arc<[u8]>) -> Self {
        Self::write_from(start, crate::device::Buffer::from(data))
    }

    /// Writes `buffers`, which must be whole blocks together, from block `start` on.
    #[inline]
    pub fn write_from(start: DiskBlock, buffers: impl Into<Buffers>) -> Self {
        let content = Content::Memory(buffers.into());
        Self::new(OperationKind::Write, start, content)
    }

    /// Says that the contents of `run` are no longer needed; they are unspecified until written again.
    #[inline]
    pub fn discard(run: DiskRun) -> Self {
        Self::new(OperationKind::Discard, run.start, Content::Blocks(run.len))
    }

    /// Makes the blocks of `run` read as zeros.
    #[inline]
    pub fn write_zeroes(run: DiskRun) -> Self {
        let content = Content::Blocks(run.len);
        Self::new(OperationKind::WriteZeroes, run.start, content)
    }

    /// Makes durable what was written before.
    #[inline]
    pub fn flush() -> Self {
        Self::new(OperationKind::Flush, DiskBlock(0), Content::Blocks(0))
    }

    #[inline]
    fn new(kind: OperationKind, start: DiskBlock, content: Content) -> Self {
        Self {
            kind,
            start,
            content,
            flags: Flags::default(),
            priority: Priority::default(),
        }
    }

    /// Somebody waits for it: a write is as urgent as a read.
    #[inline]
    pub fn sync(mut self) -> Self {
        self.flags.sync = true;
        self
    }

    /// It is about metadata, which others wait for: a write is as urgent as a read.
    #[inline]
    pub fn meta(mut self) -> Self {
        self.flags.meta = true;
        self
    }

    /// Force unit access: a write is durable when it has ended.
    #[inline]
    pub fn fua(mut self) -> Self {
        self.flags.fua = true;
        self
    }

    /// Makes durable, before it begins, what had been written when it was submitted; in a batch also what was pushed
    /// before it.
    #[inline]
    pub fn preflush(mut self) -> Self {
        self.flags.preflush = true;
        self
    }

    /// Refused by [`Error::WouldBlock`](crate::Error::WouldBlock) where the queue is full, or a device that blocks has
    /// no place for one more thread, instead of waiting. A scheduler has no say in it: it orders what waits. The device itself
    /// may still take its time.
    #[inline]
    pub fn nowait(mut self) -> Self {
        self.flags.nowait = true;
        self
    }

    /// With this priority.
    #[inline]
    pub fn with_priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Whether somebody waits for it: reads, and writes that say so.
    pub(super) fn is_prompt(&self) -> bool {
        self.kind == OperationKind::Read || self.flags.sync || self.flags.meta
    }
}
