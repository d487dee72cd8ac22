//! What the answers of a file say, in terms of the dense oracle: the rules of `File`'s documentation about what is
//! seen at one instant.
//!
//! * A page is read, written and stored to at one instant; several are, one after the other.
//! * A store comes after page faults, as many as others make necessary. A page fault looks at the size, then backs
//!   its blocks one after the other, and then dirties them; before that writeback leaves them alone.
//! * A walk (extents, seek) sees its blocks one after the other, while no other call changes content or size; page
//!   faults and writeback go on.
//! * Writeback takes a block in two steps: what is delayed gets its place, then it is written. What lost its place in
//!   between and is delayed again gets another. The blocks of a page come in any order.
//! * Zeroing a range grows the file afterwards. Everything else is over at once.

use std::ops::{Deref, DerefMut, Range};

use extent_map::Error;
use extent_map::file::{AllocateMode, ExtentKind};
use extent_map::testing::{DenseFile, FileOp, Oracle};
use extent_map::units::{FileBlock, FileRange, PAGE_SIZE};

use super::super::{Done, Lock, Parts};
use super::steps::{Steps, Writeback};
use super::{Answer, Call, Shape, by_page};

/// A call that is over.
type FileCall = Done<Call, Answer>;
type FileParts = Parts<Moment>;

/// A file between two instants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Moment {
    file: DenseFile,
    /// Bits of blocks that a page fault has delayed and not dirtied yet.
    backed: u128,
}

impl Deref for Moment {
    type Target = DenseFile;

    fn deref(&self) -> &DenseFile {
        &self.file
    }
}

impl DerefMut for Moment {
    fn deref_mut(&mut self) -> &mut DenseFile {
        &mut self.file
    }
}

impl Moment {
    /// A page fault backs a block that is a hole below `end`.
    fn back(&mut self, block: FileBlock, end: u64, delayed: bool) {
        let (offset, len) = (
            self.block_size().offset_of(block),
            self.block_size().bytes(),
        );
        if offset >= end || self.kind(block).is_some() {
            return;
        }
        if delayed {
            self.fault(FileRange::at(block, 1), end);
            self.backed |= bit(block);
        } else {
            let mode = AllocateMode::AllocateKeepSize;
            let allocated = self.apply(&FileOp::Allocate { mode, offset, len });
            allocated.expect("a block of a file");
        }
    }

    /// The page fault dirties what it has backed.
    fn dirty(&mut self, blocks: FileRange, end: u64) {
        self.fault(blocks, end);
        for block in blocks.blocks() {
            self.backed &= !bit(block);
        }
    }
}

/// The rules for one history.
pub(super) struct Rules<'h> {
    history: &'h [FileCall],
    delayed: bool,
    steps: Steps,
    empty: DenseFile,
    /// No block from this one on is ever anything but a hole.
    blocks: u64,
}

impl<'h> Rules<'h> {
    pub(super) fn new(shape: &Shape, history: &'h [FileCall], steps: Steps) -> Self {
        let oracle = Oracle::new(shape.block_size, shape.cluster_blocks, shape.delayed);
        let empty = oracle.expect("sizes of a volume").file();
        let ends = history.iter().map(|done| end_of(&done.call));
        let inserted = history.iter().map(|done| inserted_by(&done.call));
        let bytes = ends.max().unwrap_or(0) + inserted.sum::<u64>();
        let blocks = bytes.next_multiple_of(PAGE_SIZE) / shape.block_size;
        Self {
            history,
            delayed: shape.delayed,
            steps,
            empty,
            blocks,
        }
    }

    pub(super) fn begin(&self) -> Moment {
        Moment {
            file: self.empty.clone(),
            backed: 0,
        }
    }

    /// What one call and its answer are made of.
    pub(super) fn parts(&self, done: &FileCall) -> FileParts {
        let answer = done.answer.clone();
        match (&done.call, &done.answer) {
            (&Call::Write { offset, len, byte }, Answer::Count(count)) if *count == len => {
                write(offset, len, byte)
            }
            (&Call::Store { offset, len, byte }, _) => self.store(done, offset, len, byte),
            (&Call::Fault(offset), Answer::Done) => {
                let mut parts = FileParts::new(Lock::Free);
                self.fault(&mut parts, done, offset, true);
                parts
            }
            (&Call::Fault(offset), answer) => fails_to_fault(offset, answer),
            (&Call::Op(FileOp::Read { offset, len }), Answer::Bytes(bytes)) => {
                let mut parts = FileParts::new(Lock::Free);
                read(&mut parts, offset, len, &bytes.0);
                parts
            }
            (&Call::Op(FileOp::LoadMapped { offset, len }), Answer::Bytes(bytes)) => {
                let mut parts = FileParts::new(Lock::Free);
                parts.sees(move |file| offset - offset % PAGE_SIZE < file.size());
                read(&mut parts, offset, len, &bytes.0);
                parts
            }
            (&Call::Op(FileOp::LoadMapped { offset, .. }), answer) => {
                let expected = *answer == failed(&Error::BeyondEnd);
                FileParts::at_once(Lock::Free, move |file| {
                    expected && offset - offset % PAGE_SIZE >= file.size()
                })
            }
            (&Call::Op(FileOp::SeekData(offset)), answer) => self.seek(offset, true, answer),
            (&Call::Op(FileOp::SeekHole(offset)), answer) => self.seek(offset, false, answer),
            (Call::Op(FileOp::SyncData | FileOp::SyncAll) | Call::SyncVolume, Answer::Done) => {
                self.sync(done, 0, u64::MAX)
            }
            (&Call::Op(FileOp::SyncRange { offset, len }), Answer::Done) => {
                self.sync(done, offset, len)
            }
            (Call::Op(FileOp::ShrinkStatus(_)) | Call::ShrinkVolume, Answer::Done) => {
                Parts::new(Lock::Free)
            }
            (
                &Call::Op(FileOp::Allocate {
                    mode: AllocateMode::ZeroRange,
                    offset,
                    len,
                }),
                Answer::Done,
            ) => zero_and_grow(offset, len),
            (Call::Op(op), _) => {
                let op = op.clone();
                FileParts::at_once(Lock::Exclusive, move |file| {
                    answer
                        == file
                            .apply(&op)
                            .map_or_else(|error| failed(&error), Into::into)
                })
            }
            (Call::Extents, Answer::Kinds(kinds)) => self.extents(kinds),
            (Call::Size, &Answer::Offset(size)) => {
                FileParts::at_once(Lock::Free, move |file| file.size() == size)
            }
            (Call::DropCaches, Answer::Done) => {
                FileParts::at_once(Lock::Exclusive, |file| file.apply(&FileOp::SyncAll).is_ok())
            }
            (Call::Observe, Answer::Observed(seen)) => {
                let seen = seen.clone();
                FileParts::at_once(Lock::Shared, move |file| file.observe() == seen.0)
            }
            // No other answer can ever be right.
            _ => FileParts::at_once(Lock::Free, |_| false),
        }
    }

    fn beside<'s>(&'s self, done: &'s FileCall) -> impl Iterator<Item = &'s FileCall> + 's {
        let others = self.history.iter();
        others.filter(move |other| other.start != done.start && other.is_beside(done))
    }

    /// Whether some call could see page faults of `done` before it is over.
    fn is_watched(&self, done: &FileCall) -> bool {
        self.beside(done).any(|other| {
            matches!(
                other.call,
                Call::Extents | Call::Op(FileOp::SeekData(_) | FileOp::SeekHole(_))
            )
        })
    }

    /// How many page faults may come before the one after which a store succeeds, and show.
    fn earlier_faults(&self, store: &FileCall) -> usize {
        let is_watched = self.is_watched(store);
        let shows = |other: &&FileCall| match &other.call {
            // What a fault has backed is written before it is dirtied again.
            Call::SyncVolume | Call::DropCaches => true,
            Call::Op(FileOp::SyncData | FileOp::SyncAll | FileOp::SyncRange { .. }) => true,
            Call::Op(FileOp::Allocate { mode, .. }) => {
                let writes = [AllocateMode::CollapseRange, AllocateMode::InsertRange];
                is_watched || writes.contains(mode)
            }
            Call::Op(FileOp::SetLen(_)) | Call::Write { .. } => is_watched,
            _ => false,
        };
        let showing = self.beside(store).filter(shows).count();
        self.steps.faults.min(showing + usize::from(is_watched))
    }

    /// What others saw of a page while `done` was under way.
    fn kinds_seen(&self, done: &FileCall, blocks: FileRange) -> Vec<ExtentKind> {
        let mut seen = Vec::new();
        for other in self.beside(done) {
            if let Answer::Kinds(kinds) = &other.answer {
                let here = kinds.iter().take(blocks.end().0 as usize);
                seen.extend(here.skip(blocks.start().0 as usize).flatten());
            }
        }
        seen
    }

    fn store(&self, done: &FileCall, offset: u64, len: u64, byte: u8) -> FileParts {
        let Answer::Count(mut left) = done.answer else {
            return self.store_fails(done, offset);
        };
        let mut parts = FileParts::new(Lock::Free);
        for (at, in_page) in by_page(offset, len) {
            let is_first = parts.is_empty();
            for _ in 0..self.earlier_faults(done) {
                self.fault(&mut parts, done, at, false);
            }
            if left == 0 && !is_first {
                // The page before was stored to completely, and this one not at all.
                parts.sees(move |file| at >= file.size());
                break;
            }
            let stored = left.min(in_page);
            let page = self.page_of(at);
            parts.then(move |file, _| {
                let size = file.size();
                file.dirty(page, size);
                file.store(at, &vec![byte; in_page as usize]) == Some(stored as usize)
            });
            left -= stored;
            if stored < in_page {
                break;
            }
        }
        if left > 0 {
            parts.sees(|_| false);
        }
        parts
    }

    /// Page faults that were in vain may come before.
    fn store_fails(&self, done: &FileCall, offset: u64) -> FileParts {
        let mut parts = FileParts::new(Lock::Free);
        for _ in 0..self.earlier_faults(done) {
            self.fault(&mut parts, done, offset, false);
        }
        let expected = done.answer == failed(&Error::BeyondEnd);
        parts.sees(move |file| expected && is_behind_end(file, offset));
        parts
    }

    fn page_of(&self, offset: u64) -> FileRange {
        let page = offset - offset % PAGE_SIZE;
        self.empty.block_size().covering(page, page + PAGE_SIZE)
    }

    /// A page fault of `done`; unless it `must` succeed, nothing happens behind the end of the file.
    fn fault(&self, parts: &mut FileParts, done: &FileCall, offset: u64, must: bool) {
        let blocks = self.page_of(offset);
        let look = move |file: &DenseFile, end: &mut u64| {
            let is_behind = is_behind_end(file, offset);
            *end = if is_behind { 0 } else { file.size() };
            !(is_behind && must)
        };
        if !self.is_watched(done) {
            parts.then(move |file, end| {
                let found = look(file, end);
                file.fault(blocks, *end);
                found
            });
            return;
        }
        let delayed = self.delayed;
        parts.then(move |file, end| look(file, end));
        let backed: Vec<FileRange> = match self.steps.whole_pages {
            true => vec![blocks],
            false => blocks
                .blocks()
                .map(|block| FileRange::at(block, 1))
                .collect(),
        };
        for blocks in backed {
            parts.then(move |file, end| {
                for block in blocks.blocks() {
                    file.back(block, *end, delayed);
                }
                true
            });
        }
        parts.then(move |file, end| {
            file.dirty(blocks, *end);
            true
        });
    }

    fn seek(&self, offset: u64, data: bool, answer: &Answer) -> FileParts {
        let size = self.empty.block_size();
        let first = size.block_of(offset);
        let mut parts = FileParts::new(Lock::Shared);
        let end = match *answer {
            Answer::Offset(found) => found,
            Answer::Failed(_) if *answer == failed(&Error::NotFound) => u64::MAX,
            _ => {
                parts.sees(|_| false);
                return parts;
            }
        };
        if end == u64::MAX && !data {
            parts.sees(move |file| offset >= file.size());
            return parts;
        }
        // Blocks that were passed by are not what was sought.
        let found = match end {
            u64::MAX => FileBlock(self.blocks),
            end if end == offset => first,
            end => FileBlock(size.blocks_for(end)),
        };
        for block in (first.0..found.0).map(FileBlock) {
            parts.sees(move |file| {
                let is_behind = offset.max(size.offset_of(block)) >= file.size();
                match is_behind {
                    true => end == u64::MAX,
                    false => file.is_data(block) != data,
                }
            });
        }
        if end < u64::MAX {
            let begins_there = end == offset.max(size.offset_of(found));
            parts.sees(move |file| {
                let is_end = !data && end == file.size();
                let is_wanted = begins_there && end < file.size() && file.is_data(found) == data;
                offset < file.size() && (is_end || is_wanted)
            });
        }
        parts
    }

    fn extents(&self, kinds: &[Option<ExtentKind>]) -> FileParts {
        let mut parts = FileParts::new(Lock::Shared);
        for block in 0..self.blocks.max(kinds.len() as u64) {
            let kind = kinds.get(block as usize).copied().flatten();
            parts.sees(move |file| file.kind(FileBlock(block)) == kind);
        }
        parts
    }

    /// Whether a call beside `done` may dirty some of `blocks`.
    fn is_dirtied(&self, done: &FileCall, blocks: FileRange) -> bool {
        let size = self.empty.block_size();
        self.beside(done).any(|other| {
            let (offset, len) = match other.call {
                Call::Write { offset, len, .. } | Call::Store { offset, len, .. } => (offset, len),
                Call::Fault(offset) => (offset, 1),
                _ => return false,
            };
            let pages = pages_around(offset, len);
            !size
                .covering(pages.start, pages.end)
                .intersect(blocks)
                .is_empty()
        })
    }

    /// Whether a call beside `done` may take blocks their places.
    fn is_freed(&self, done: &FileCall) -> bool {
        self.beside(done).any(|other| {
            matches!(
                other.call,
                Call::Op(FileOp::SetLen(_) | FileOp::Allocate { .. })
            )
        })
    }

    /// Blocks get their places and are written, which is one moment where nobody could tell.
    fn written(
        &self,
        parts: &mut FileParts,
        last: &mut Last,
        done: &FileCall,
        blocks: Vec<FileRange>,
    ) {
        let mut seen = blocks
            .iter()
            .flat_map(|blocks| self.kinds_seen(done, *blocks));
        let before = *last;
        let now = if seen.any(|kind| kind == ExtentKind::Unwritten) {
            let placed = write_back(parts, before.placed, blocks.clone(), true, false);
            let mut again = placed;
            if self.is_freed(done) {
                again = write_back(parts, [placed], blocks.clone(), true, false);
            }
            let before = before.written.into_iter().chain([again]);
            let written = write_back(parts, before, blocks, true, true);
            [placed, written]
        } else {
            let before = before.placed.into_iter().chain(before.written);
            [write_back(parts, before, blocks, true, true); 2]
        };
        if self.steps.writeback == Writeback::Blocks {
            [last.placed, last.written] = now.map(Some);
        }
    }

    /// No length means to the end. Parts that nobody could tell apart are one.
    fn sync(&self, done: &FileCall, offset: u64, len: u64) -> FileParts {
        let end = match len {
            0 => u64::MAX,
            _ => offset.saturating_add(len),
        };
        let (mut quiet, mut together) = (Vec::new(), Vec::new());
        let mut last = Last::default();
        let mut parts = FileParts::new(Lock::Free);
        for page in (0..self.blocks * self.empty.block_size().bytes()).step_by(PAGE_SIZE as usize) {
            if page >= end || page + PAGE_SIZE <= offset {
                continue;
            }
            let blocks = self.page_of(page);
            let seen = self.kinds_seen(done, blocks);
            let is_one = seen.iter().all(|kind| *kind == seen[0]);
            let at_once = is_one && !self.is_dirtied(done, blocks);
            match seen.first() {
                None | Some(ExtentKind::Written) if at_once => quiet.push(blocks),
                _ if self.steps.writeback == Writeback::All => together.push(blocks),
                _ if at_once => self.written(&mut parts, &mut last, done, vec![blocks]),
                // In the order of their places on the device, which may be any; and what is dirtied meanwhile may
                // not be written any more.
                _ => {
                    for block in blocks.blocks() {
                        self.written(&mut parts, &mut last, done, vec![FileRange::at(block, 1)]);
                    }
                }
            }
        }
        if !together.is_empty() {
            self.written(&mut parts, &mut last, done, together);
        }
        if !quiet.is_empty() {
            write_back(&mut parts, None, quiet, true, true);
        }
        parts
    }
}

/// The parts of a sync before which others do not come: blocks get their places in order, and are written in order.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    placed: Option<usize>,
    written: Option<usize>,
}

/// The pages, in bytes, that hold `len` bytes from `offset` on.
fn pages_around(offset: u64, len: u64) -> Range<u64> {
    offset - offset % PAGE_SIZE..(offset + len).next_multiple_of(PAGE_SIZE)
}

/// Writeback of some blocks begins, ends, or both.
fn write_back(
    parts: &mut FileParts,
    before: impl IntoIterator<Item = usize>,
    blocks: Vec<FileRange>,
    begins: bool,
    ends: bool,
) -> usize {
    parts.after(before, move |file, _| {
        for block in blocks.iter().flat_map(|range| range.blocks()) {
            if begins && file.backed & bit(block) == 0 {
                file.begin_writing(block);
            }
            if ends {
                file.end_writing(block);
            }
        }
        true
    })
}

fn bit(block: FileBlock) -> u128 {
    assert!(block.0 < 128, "a long file");
    1 << block.0
}

/// The end of the bytes that a call names.
fn end_of(call: &Call) -> u64 {
    match *call {
        Call::Write { offset, len, .. } | Call::Store { offset, len, .. } => offset + len,
        Call::Op(FileOp::Allocate { offset, len, .. }) => offset + len,
        Call::Op(FileOp::SetLen(size)) => size,
        _ => 0,
    }
}

/// By how much a call may move blocks towards the end.
fn inserted_by(call: &Call) -> u64 {
    match *call {
        Call::Op(FileOp::Allocate {
            mode: AllocateMode::InsertRange,
            len,
            ..
        }) => len,
        _ => 0,
    }
}

fn failed(error: &Error) -> Answer {
    Answer::Failed(error.errno())
}

fn is_behind_end(file: &DenseFile, offset: u64) -> bool {
    offset - offset % PAGE_SIZE >= file.size()
}

fn fails_to_fault(offset: u64, answer: &Answer) -> FileParts {
    let expected = *answer == failed(&Error::BeyondEnd);
    FileParts::at_once(Lock::Free, move |file| {
        expected && is_behind_end(file, offset)
    })
}

fn write(offset: u64, len: u64, byte: u8) -> FileParts {
    let mut parts = FileParts::new(Lock::Exclusive);
    for (at, in_page) in by_page(offset, len) {
        parts.then(move |file, _| file.write(at, &vec![byte; in_page as usize]).is_ok());
    }
    parts
}

/// Reading ends with the first page that gives less than was asked for.
fn read(parts: &mut FileParts, offset: u64, len: u64, mut bytes: &[u8]) {
    for (at, in_page) in by_page(offset, len) {
        let (here, rest) = bytes.split_at(bytes.len().min(in_page as usize));
        let expected = here.to_vec();
        parts.sees(move |file| file.read(at, in_page) == expected);
        bytes = rest;
        if (here.len() as u64) < in_page {
            break;
        }
    }
    if !bytes.is_empty() {
        parts.sees(|_| false);
    }
}

fn zero_and_grow(offset: u64, len: u64) -> FileParts {
    let mode = AllocateMode::ZeroRangeKeepSize;
    let mut parts = FileParts::new(Lock::Exclusive);
    parts.then(move |file, _| file.apply(&FileOp::Allocate { mode, offset, len }).is_ok());
    parts.then(move |file, _| {
        let grown = offset + len;
        grown <= file.size() || file.apply(&FileOp::SetLen(grown)).is_ok()
    });
    parts
}
