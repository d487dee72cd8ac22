//! A dense model of a volume: one state for each block, no extents, no locks, no cleverness.
//!
//! It follows the rules of behaviour that recordings of ext4 confirm. A block is absent, unwritten,
//! unwritten with newer data in the page cache, delayed, or written; what else the page cache does shows
//! nowhere. Zeroing a part of a block never changes its state: blocks whose state would have to change
//! read as zeros already.

mod moments;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use super::observation::{Observation, push_merged};
use super::op::{FileOp, Op, Outcome, data_len, pattern};
use crate::error::{Error, Result};
use crate::file::{AllocateMode, ExtentKind};
use crate::units::{FileBlock, FileRange, Geometry, PAGE_SIZE};

/// A volume of files, each an array of blocks. It never runs out of space.
///
/// Files are known by number, as in [`Op`]; one that was never mentioned is empty. Offsets and sizes are
/// limited to [`Oracle::MAX_SIZE`]; beyond it the oracle answers `EFBIG`, as a volume does much later.
#[derive(Clone, Debug)]
pub struct Oracle {
    shape: Shape,
    files: BTreeMap<usize, DenseFile>,
}

/// What all files have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shape {
    geometry: Geometry,
    delayed: bool,
    inline_limit: u64,
}

/// One file of an [`Oracle`]. A state in which a checker of histories can find itself again: cheap to clone,
/// to compare and to hash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DenseFile {
    shape: Shape,
    size: u64,
    /// Still inside the mapping store, and has no blocks.
    inline: bool,
    states: Vec<State>,
    /// As many as the blocks of `states` have; zeros behind the size. Shared by clones until one changes.
    bytes: Arc<Vec<u8>>,
}

impl Hash for DenseFile {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // A few bytes of each page tell most contents apart.
        let some_bytes = self.bytes.iter().step_by(509);
        (self.size, &self.states).hash(state);
        some_bytes.for_each(|byte| byte.hash(state));
    }
}

/// How one block is backed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum State {
    #[default]
    Absent,
    Unwritten,
    /// Unwritten, with data in the page cache.
    UnwrittenDirty,
    Delayed,
    Written,
}

impl State {
    fn kind(self) -> Option<ExtentKind> {
        match self {
            Self::Absent => None,
            Self::Unwritten | Self::UnwrittenDirty => Some(ExtentKind::Unwritten),
            Self::Delayed => Some(ExtentKind::Delayed),
            Self::Written => Some(ExtentKind::Written),
        }
    }

    fn is_data(self) -> bool {
        matches!(self, Self::UnwrittenDirty | Self::Delayed | Self::Written)
    }
}

impl Oracle {
    /// No file can grow longer than this many bytes.
    pub const MAX_SIZE: u64 = 64 << 20;

    /// A volume of empty files with blocks of `block_size` bytes and clusters of `cluster_blocks` blocks,
    /// which delays allocation or does not.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for sizes that no volume can have.
    pub fn new(block_size: u64, cluster_blocks: u64, delayed: bool) -> Result<Self> {
        let geometry = Geometry::new(block_size, cluster_blocks)?;
        let shape = Shape {
            geometry,
            delayed,
            inline_limit: 0,
        };
        Ok(Self {
            shape,
            files: BTreeMap::new(),
        })
    }

    /// Lets every file that is not mentioned yet begin inside the mapping store and stay there until it
    /// must leave: until it gets longer than `bytes`, or is mapped or allocated.
    pub fn inline_limit(mut self, bytes: u64) -> Self {
        self.shape.inline_limit = bytes;
        self
    }

    /// Does `op`; what the volume must answer.
    pub fn apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::File(file, op) => {
                let shape = self.shape;
                let file = self
                    .files
                    .entry(*file)
                    .or_insert_with(|| DenseFile::new(shape));
                match file.apply(op) {
                    Ok(outcome) => outcome,
                    Err(error) => Outcome::Failed(error.errno()),
                }
            }
            Op::Sync | Op::DropCaches => {
                for file in self.files.values_mut() {
                    file.write_back(0..u64::MAX);
                }
                Outcome::Done
            }
        }
    }

    /// What a caller must see of file `file`.
    pub fn observe(&self, file: usize) -> Observation {
        match self.files.get(&file) {
            Some(file) => file.observe(),
            None => self.file().observe(),
        }
    }

    /// Blocks promised to the delayed data of all files.
    pub fn delayed_blocks(&self) -> u64 {
        let reserved = self.files.values().map(|file| file.clusters().1);
        reserved.sum::<u64>() * self.shape.geometry.cluster.blocks()
    }
}

impl DenseFile {
    fn new(shape: Shape) -> Self {
        Self {
            shape,
            size: 0,
            inline: shape.inline_limit > 0,
            states: Vec::new(),
            bytes: Arc::default(),
        }
    }

    /// Does a whole operation at one instant.
    ///
    /// # Errors
    /// Those that the file must answer.
    pub fn apply(&mut self, op: &FileOp) -> Result<Outcome> {
        match *op {
            FileOp::Write { offset, len, seed } => self.write_data(offset, &pattern(seed, len)?),
            FileOp::StoreMapped { offset, len, seed } => {
                self.store_mapped(offset, &pattern(seed, len)?)
            }
            FileOp::Read { offset, len } => self.read_data(offset, len),
            FileOp::LoadMapped { offset, .. } if offset - offset % PAGE_SIZE >= self.size => {
                Err(Error::BeyondEnd)
            }
            FileOp::LoadMapped { offset, len } => self.read_data(offset, len),
            FileOp::Allocate { mode, offset, len } => {
                self.allocate(mode, offset, len).map(|()| Outcome::Done)
            }
            FileOp::SetLen(size) => self.set_len(size),
            FileOp::SeekData(offset) => self.seek(offset, true),
            FileOp::SeekHole(offset) => self.seek(offset, false),
            FileOp::SyncData | FileOp::SyncAll => {
                self.write_back(0..u64::MAX);
                Ok(Outcome::Done)
            }
            FileOp::SyncRange { offset, len } => {
                let end = match len {
                    0 => u64::MAX,
                    _ => offset.checked_add(len).ok_or(Error::FileTooBig)?,
                };
                self.write_back(offset..end);
                Ok(Outcome::Done)
            }
            FileOp::ShrinkStatus(_) => Ok(Outcome::Done),
        }
    }

    fn write_data(&mut self, offset: u64, data: &[u8]) -> Result<Outcome> {
        let written = Ok(Outcome::Count(data.len() as u64));
        if data.is_empty() {
            return written;
        }
        let end = checked_end(offset, data.len() as u64)?;
        if end > self.shape.inline_limit {
            self.leave_inline();
        }
        self.put(offset, data);
        self.touch(offset..end);
        self.size = self.size.max(end);
        written
    }

    /// A store is preceded by a page fault, which dirties every block of its page below the end.
    fn store_mapped(&mut self, offset: u64, data: &[u8]) -> Result<Outcome> {
        let mut done = 0;
        while done < data.len() {
            let at = offset.saturating_add(done as u64);
            if at >= self.size.next_multiple_of(PAGE_SIZE) {
                if done == 0 {
                    return Err(Error::BeyondEnd);
                }
                break;
            }
            self.leave_inline();
            let page = at - at % PAGE_SIZE..at - at % PAGE_SIZE + PAGE_SIZE;
            self.touch(page.start..page.end.min(self.size));
            let inside = self.size.min(page.end).saturating_sub(at);
            let len = inside.min((data.len() - done) as u64) as usize;
            self.put(at, &data[done..done + len]);
            done += len;
            if self.size <= page.end {
                break;
            }
        }
        Ok(Outcome::Count(done as u64))
    }

    fn read_data(&self, offset: u64, len: u64) -> Result<Outcome> {
        let end = offset.saturating_add(data_len(len)? as u64).min(self.size);
        Ok(Outcome::Bytes(self.content(offset.min(end)..end)))
    }

    fn set_len(&mut self, size: u64) -> Result<Outcome> {
        if size > Oracle::MAX_SIZE {
            return Err(Error::FileTooBig);
        }
        if size > self.shape.inline_limit {
            self.leave_inline();
        }
        if size <= self.size {
            self.zero_bytes(size..u64::MAX);
            let first_gone = self.shape.geometry.block_size.blocks_for(size);
            self.set(FileRange::starting_at(FileBlock(first_gone)), |_| {
                State::Absent
            });
        }
        self.size = size;
        Ok(Outcome::Done)
    }

    fn allocate(&mut self, mode: AllocateMode, offset: u64, len: u64) -> Result<()> {
        if len == 0 {
            return Err(Error::InvalidInput("no length"));
        }
        let end = checked_end(offset, len)?;
        self.leave_inline();
        match mode {
            AllocateMode::Allocate => {
                self.preallocate(offset..end);
                self.size = self.size.max(end);
            }
            AllocateMode::AllocateKeepSize => self.preallocate(offset..end),
            AllocateMode::PunchHole => self.punch(offset..end),
            AllocateMode::ZeroRange => {
                self.zero(offset..end);
                self.size = self.size.max(end);
            }
            AllocateMode::ZeroRangeKeepSize => self.zero(offset..end),
            AllocateMode::CollapseRange => return self.collapse(offset..end),
            AllocateMode::InsertRange => return self.insert(offset..end),
        }
        Ok(())
    }

    fn preallocate(&mut self, bytes: Range<u64>) {
        self.extend(bytes.end);
        let covered = self.block_size().covering(bytes.start, bytes.end);
        self.set(covered, |state| match state {
            State::Absent => State::Unwritten,
            State::Delayed => State::UnwrittenDirty,
            state => state,
        });
    }

    /// Takes the page of the end of the file with it, and preallocation behind that page not.
    fn punch(&mut self, bytes: Range<u64>) {
        if bytes.start >= self.size {
            return;
        }
        let end = match bytes.end > self.size {
            true => self.size.next_multiple_of(PAGE_SIZE),
            false => bytes.end,
        };
        self.zero_bytes(bytes.start..end);
        let inside = self.block_size().inside(bytes.start, end);
        self.set(inside, |_| State::Absent);
    }

    fn zero(&mut self, bytes: Range<u64>) {
        self.preallocate(bytes.clone());
        let inside = self.block_size().inside(bytes.start, bytes.end);
        self.set(inside, |_| State::Unwritten);
        self.zero_bytes(bytes);
    }

    fn collapse(&mut self, bytes: Range<u64>) -> Result<()> {
        self.check_aligned(&bytes)?;
        if bytes.end >= self.size {
            return Err(Error::InvalidInput("collapse reaches the end"));
        }
        self.write_back(bytes.start - bytes.start % PAGE_SIZE..bytes.start);
        self.write_back(bytes.end..u64::MAX);
        let (start, end) = self.indices(&bytes);
        self.states.drain(start..end);
        Arc::make_mut(&mut self.bytes).drain(bytes.start as usize..bytes.end as usize);
        self.size -= bytes.end - bytes.start;
        Ok(())
    }

    fn insert(&mut self, bytes: Range<u64>) -> Result<()> {
        self.check_aligned(&bytes)?;
        if bytes.start >= self.size {
            return Err(Error::InvalidInput("insert behind the end"));
        }
        let grown = checked_end(self.size, bytes.end - bytes.start)?;
        self.write_back(bytes.start..u64::MAX);
        let (start, end) = self.indices(&bytes);
        let gap = vec![State::Absent; end - start];
        self.states.splice(start..start, gap);
        let at = bytes.start as usize;
        let gap = vec![0; (bytes.end - bytes.start) as usize];
        Arc::make_mut(&mut self.bytes).splice(at..at, gap);
        self.size = grown;
        Ok(())
    }

    fn seek(&self, offset: u64, data: bool) -> Result<Outcome> {
        if offset >= self.size {
            return Err(Error::NotFound);
        }
        let mut runs = self.data().into_iter().filter(|run| run.end > offset);
        let next = runs.next();
        match (data, next) {
            (true, None) => Err(Error::NotFound),
            (true, Some(run)) => Ok(Outcome::Offset(run.start.max(offset))),
            (false, Some(run)) if run.start <= offset => Ok(Outcome::Offset(run.end)),
            (false, _) => Ok(Outcome::Offset(offset)),
        }
    }

    /// Every dirty block of the pages that `bytes` touches becomes written.
    fn write_back(&mut self, bytes: Range<u64>) {
        let start = bytes.start - bytes.start % PAGE_SIZE;
        let end = bytes.end.checked_next_multiple_of(PAGE_SIZE);
        let blocks = self.block_size().covering(start, end.unwrap_or(u64::MAX));
        self.set(blocks, |state| match state {
            State::Delayed | State::UnwrittenDirty => State::Written,
            state => state,
        });
    }

    /// New data comes into the page cache for every block of `bytes`.
    fn touch(&mut self, bytes: Range<u64>) {
        if self.inline {
            return;
        }
        self.extend(bytes.end);
        let delayed = self.shape.delayed;
        let covered = self.block_size().covering(bytes.start, bytes.end);
        self.set(covered, |state| match state {
            _ if !delayed => State::Written,
            State::Absent => State::Delayed,
            State::Unwritten => State::UnwrittenDirty,
            state => state,
        });
    }

    fn leave_inline(&mut self) {
        if std::mem::take(&mut self.inline) {
            self.touch(0..self.size);
        }
    }

    fn put(&mut self, offset: u64, data: &[u8]) {
        self.extend(offset + data.len() as u64);
        let bytes = Arc::make_mut(&mut self.bytes);
        bytes[offset as usize..][..data.len()].copy_from_slice(data);
    }

    fn zero_bytes(&mut self, bytes: Range<u64>) {
        let len = self.bytes.len() as u64;
        let (start, end) = (bytes.start.min(len), bytes.end.min(len));
        Arc::make_mut(&mut self.bytes)[start as usize..end as usize].fill(0);
    }

    /// Sets the state of each block of `range` that there is.
    fn set(&mut self, range: FileRange, to: impl Fn(State) -> State) {
        let len = self.states.len() as u64;
        let (start, end) = (range.start().0.min(len), range.end().0.min(len));
        for state in &mut self.states[start as usize..end as usize] {
            *state = to(*state);
        }
    }

    /// Makes sure that the arrays have blocks up to the byte `end`.
    fn extend(&mut self, end: u64) {
        let blocks = self
            .block_size()
            .blocks_for(end)
            .max(self.states.len() as u64) as usize;
        if blocks > self.states.len() {
            self.states.resize(blocks, State::Absent);
            let bytes = blocks * self.block_size().bytes() as usize;
            Arc::make_mut(&mut self.bytes).resize(bytes, 0);
        }
    }

    fn check_aligned(&self, bytes: &Range<u64>) -> Result<()> {
        let cluster = self.shape.geometry.cluster_bytes();
        match bytes.start.is_multiple_of(cluster) && bytes.end.is_multiple_of(cluster) {
            true => Ok(()),
            false => Err(Error::InvalidInput("not aligned")),
        }
    }

    /// The places of the blocks of `bytes`, which are aligned, in arrays that are long enough for them.
    fn indices(&mut self, bytes: &Range<u64>) -> (usize, usize) {
        self.extend(bytes.end);
        let blocks = self.block_size().covering(bytes.start, bytes.end);
        (blocks.start().0 as usize, blocks.end().0 as usize)
    }

    fn content(&self, bytes: Range<u64>) -> Vec<u8> {
        let len = self.bytes.len() as u64;
        let known = bytes.start.min(len) as usize..bytes.end.min(len) as usize;
        let mut content = self.bytes[known].to_vec();
        content.resize((bytes.end - bytes.start) as usize, 0);
        content
    }

    /// How many clusters are allocated, and how many are reserved: those with delayed blocks only.
    fn clusters(&self) -> (u64, u64) {
        let cluster_of = |block: usize| {
            self.shape
                .geometry
                .cluster
                .cluster_of(FileBlock(block as u64))
        };
        let clusters_with = |wanted: fn(State) -> bool| -> BTreeSet<u64> {
            let blocks = self.states.iter().enumerate();
            let found = blocks.filter(|(_, state)| wanted(**state));
            found.map(|(block, _)| cluster_of(block)).collect()
        };
        let delayed = clusters_with(|state| state == State::Delayed);
        let allocated = clusters_with(|state| !matches!(state, State::Absent | State::Delayed));
        let reserved = delayed.difference(&allocated).count();
        (allocated.len() as u64, reserved as u64)
    }

    /// The runs of data below the end of the file, in bytes.
    fn data(&self) -> Vec<Range<u64>> {
        if self.inline {
            let whole = 0..self.size;
            return Some(whole)
                .into_iter()
                .filter(|run| !run.is_empty())
                .collect();
        }
        let block = self.block_size().bytes();
        let mut data: Vec<Range<u64>> = Vec::new();
        for (start, state) in (0..self.size).step_by(block as usize).zip(&self.states) {
            let end = (start + block).min(self.size);
            match data.last_mut() {
                _ if !state.is_data() => {}
                Some(last) if last.end == start => last.end = end,
                _ => data.push(start..end),
            }
        }
        data
    }

    fn extents(&self) -> Vec<(FileRange, ExtentKind)> {
        let mut extents = Vec::new();
        if self.inline && self.size > 0 {
            extents.push((self.block_size().covering(0, self.size), ExtentKind::Inline));
        }
        for (block, state) in self.states.iter().enumerate() {
            if let Some(kind) = state.kind() {
                push_merged(
                    &mut extents,
                    FileRange::at(FileBlock(block as u64), 1),
                    kind,
                );
            }
        }
        extents
    }

    /// Everything that a caller sees while nothing is going on.
    pub fn observe(&self) -> Observation {
        let (allocated, reserved) = self.clusters();
        Observation {
            size: self.size,
            content: self.content(0..self.size),
            extents: self.extents(),
            data: self.data(),
            sectors: (allocated + reserved) * self.shape.geometry.cluster_bytes() / 512,
            reserved_blocks: reserved * self.shape.geometry.cluster.blocks(),
        }
    }
}

/// The end of a range of bytes that the oracle has room for.
fn checked_end(offset: u64, len: u64) -> Result<u64> {
    offset
        .checked_add(len)
        .filter(|end| *end <= Oracle::MAX_SIZE)
        .ok_or(Error::FileTooBig)
}
