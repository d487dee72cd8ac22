//! Writeback of a run of dirty blocks: allocate, write, convert.

use std::mem;

use crate::block::{Bio, Buffer, Buffers};
use crate::error::{Error, Result};
use crate::mapping::ExtentState;
use crate::probe::Mutation;
use crate::spans::span;
use crate::stats::Counter;
use crate::status::{Status, StatusExtent};
use crate::sync::journal::note;
use crate::units::FileRange;

use super::FileBlocks;
use super::allocate::Purpose;

/// What became of a part of a run that was to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WrittenPiece {
    /// The blocks.
    pub range: FileRange,
    /// `Ok`: their data is on the device and readable. [`Error::Io`]: the device failed; blocks that were
    /// unwritten stay so. Anything else: the blocks could not be mapped and nothing was tried.
    pub outcome: Result<()>,
}

/// The content of a run of dirty blocks.
#[derive(Clone, Debug)]
pub struct DirtyRun {
    /// The blocks.
    pub range: FileRange,
    /// Their bytes, which go to the device from here: where they are shared, no byte is copied.
    pub bytes: Buffers,
}

/// The end of a delayed run that could not be allocated, and why. It stays delayed, with its promise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unplaced {
    /// The blocks.
    pub range: FileRange,
    /// Why.
    pub error: Error,
}

impl FileBlocks {
    /// Allocates every delayed run of `range`, unwritten, out of its reservation: in one piece, unless free space
    /// is scattered. For writeback, before it locks a page. Caches nothing.
    #[must_use = "what could not be placed stays promised only"]
    pub fn place(&self, range: FileRange) -> Vec<Unplaced> {
        let mut unplaced = Vec::new();
        let mut rest = range;
        while !rest.is_empty()
            && let Some(delayed) = self.status.find_range(rest, |s| s == Status::Delayed)
        {
            let run = delayed.range.intersect(rest);
            unplaced.extend(self.place_run(run));
            rest = FileRange::new(run.end(), rest.end());
        }
        unplaced
    }

    fn place_run(&self, run: FileRange) -> Option<Unplaced> {
        span!(DEBUG, "place", file = self.file.0, ?run);
        let mut rest = run;
        while !rest.is_empty() {
            // What was delayed may be anything by now.
            let locked = self.lock_data();
            let done = self.find(&locked, rest.start()).and_then(|found| {
                let found = found.clip(rest);
                match found.status {
                    Status::Delayed => {
                        self.backing.counters.count(Counter::DelayedRunsPlaced);
                        self.allocate_start(&locked, found.range, Purpose::Data)
                    }
                    _ => Ok(found),
                }
            });
            match done {
                Ok(done) => rest = FileRange::new(done.range.end(), rest.end()),
                Err(error) => {
                    if self.backing.probe.is(Mutation::ForgetUnmappable) {
                        let _uncounted = self.status.remove(rest);
                    }
                    self.backing.counters.count(Counter::WritebackErrors);
                    return Some(Unplaced { range: rest, error });
                }
            }
        }
        None
    }

    /// What the start of `range` is, which is not empty. Caches nothing, and needs no lock of the caller: what it
    /// says may change.
    ///
    /// # Errors
    /// Those of the mapping store.
    pub fn peek(&self, range: FileRange) -> Result<StatusExtent> {
        match self.status.lookup(range.start()) {
            Some(known) => Ok(known.clip(range)),
            None => Ok(self.find_shared(range.start())?.clip(range)),
        }
    }

    /// Writes a copy of `bytes`, the content of the dirty blocks of `range`, to the volume and makes them readable: what
    /// [`send`](Self::send) and [`Sent::make_readable`] do.
    #[must_use = "pieces that failed stay dirty"]
    pub fn write_back(&self, range: FileRange, bytes: &[u8]) -> Vec<WrittenPiece> {
        let bytes = Buffer::copy_of(bytes).into();
        self.send(vec![DirtyRun { range, bytes }]).make_readable()
    }

    /// Writes runs of dirty blocks, which are in order, to the volume.
    ///
    /// Blocks that are delayed still are allocated (unwritten) out of their reservation, in as many pieces as free
    /// space makes necessary; all pieces go to the device in one batch. The caller holds the folio locks of the runs,
    /// which keep their blocks backed, until what arrived is readable.
    ///
    /// Caches nothing about blocks outside the runs.
    pub fn send(&self, runs: Vec<DirtyRun>) -> Sent<'_> {
        span!(DEBUG, "send", file = self.file.0, runs = runs.len());
        let block_size = self.backing.geometry.block_size.bytes();
        let counters = &self.backing.counters;
        let mut mapped = Vec::new();
        let mut unmapped = Vec::new();
        let mut batch = self.backing.queue.batch();
        for DirtyRun { range, mut bytes } in runs {
            if Some(bytes.byte_len()) != range.len().checked_mul(block_size) || range.is_empty() {
                let error = Error::InvalidInput("bytes do not fill the run of blocks");
                unmapped.push((range, error));
                continue;
            }
            counters.count(Counter::WritebackRuns);
            counters.add(Counter::WritebackBlocks, range.len());
            let (pieces, error) = self.map_for_writing(range);
            for piece in &pieces {
                let later = bytes.split_off(piece.range.len() * block_size);
                let bytes = mem::replace(&mut bytes, later);
                if let Some(disk) = piece.status.disk_block() {
                    note(|| format!("sends {:?} to the device", piece.range));
                    batch.push(Bio::write_from(disk, bytes));
                }
            }
            if let Some(error) = error {
                let mapped_to = pieces.last().map_or(range.start(), |m| m.range.end());
                unmapped.push((FileRange::new(mapped_to, range.end()), error));
            }
            mapped.extend(pieces);
        }
        let despite_error = self.backing.probe.is(Mutation::ConvertDespiteError);
        let ended = batch.submit().into_iter().map(|bio| match bio.wait() {
            Err(error) if !despite_error => Err(error),
            _ => Ok(()),
        });
        Sent {
            blocks: self,
            written: ended.collect(),
            mapped,
            unmapped,
        }
    }

    /// Where the blocks of `range` live, allocating the delayed ones; with the error that ended the walk.
    fn map_for_writing(&self, range: FileRange) -> (Vec<StatusExtent>, Option<Error>) {
        let mut mapped: Vec<StatusExtent> = Vec::new();
        let mut rest = range;
        while !rest.is_empty() {
            match self.map_start_for_writing(rest) {
                Ok(found) => {
                    if self.backing.probe.is(Mutation::WritebackCachesNeighbours) {
                        let _cached = self.query(found.range.end());
                    }
                    rest = FileRange::new(found.range.end(), rest.end());
                    mapped.push(found);
                }
                Err(error) => return (mapped, Some(error)),
            }
        }
        (mapped, None)
    }

    fn map_start_for_writing(&self, range: FileRange) -> Result<StatusExtent> {
        if let Some(known) = self.status.lookup(range.start())
            && known.status.is_allocated()
        {
            return Ok(known.clip(range));
        }
        let locked = self.lock_data();
        let found = self.find(&locked, range.start())?.clip(range);
        match found.status {
            Status::Delayed => self.allocate_start(&locked, found.range, Purpose::Data),
            Status::Hole => Err(Error::Corrupt("a dirty block that nothing backs")),
            Status::Written(_) | Status::Unwritten(_) => Ok(found),
        }
    }

    /// Converts a piece whose data has arrived, as one of those that `arrived`, to written.
    fn make_readable(&self, piece: &StatusExtent, arrived: &[FileRange]) -> Result<()> {
        if self.backing.probe.is(Mutation::ConvertByMode) && !self.backing.delays_now() {
            return Ok(());
        }
        match piece.status {
            Status::Unwritten(_) => self.convert(
                &self.lock_data(),
                piece.range,
                ExtentState::Written,
                arrived,
            ),
            _ => Ok(()),
        }
    }
}

/// Blocks whose data was sent to the device and has arrived, or not; nobody can read it yet.
#[derive(Debug)]
#[must_use = "what has arrived is not readable yet"]
pub struct Sent<'a> {
    blocks: &'a FileBlocks,
    mapped: Vec<StatusExtent>,
    /// What became of each mapped piece.
    written: Vec<Result<()>>,
    /// What could not be mapped, and why.
    unmapped: Vec<(FileRange, Error)>,
}

impl Sent<'_> {
    /// Makes the blocks written whose data has arrived. Returns one entry for each piece; they tile the runs that were
    /// sent.
    #[must_use = "pieces that failed stay dirty"]
    pub fn make_readable(self) -> Vec<WrittenPiece> {
        let Self {
            blocks,
            mapped,
            written,
            unmapped,
        } = self;
        let arrived: Vec<FileRange> = mapped
            .iter()
            .zip(&written)
            .filter_map(|(piece, written)| written.is_ok().then_some(piece.range))
            .collect();
        let readable = |(piece, written): (&StatusExtent, Result<()>)| WrittenPiece {
            range: piece.range,
            outcome: written.and_then(|()| blocks.make_readable(piece, &arrived)),
        };
        let mut pieces: Vec<_> = mapped.iter().zip(written).map(readable).collect();
        pieces.extend(unmapped.into_iter().map(|(range, error)| WrittenPiece {
            range,
            outcome: Err(error),
        }));
        if pieces.iter().any(|piece| piece.outcome.is_err()) {
            blocks.backing.counters.count(Counter::WritebackErrors);
        }
        pieces
    }
}
