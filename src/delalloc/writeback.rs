//! Writeback of a run of dirty blocks: allocate, write, convert.

use std::sync::Arc;

use crate::block::Bio;
use crate::error::{Error, Result};
use crate::mapping::ExtentState;
use crate::probe::Mutation;
use crate::stats::Counter;
use crate::status::{Status, StatusExtent};
use crate::sync::journal::note;
use crate::units::FileRange;

use super::FileBlocks;
use super::allocate::Purpose;

/// What became of a part of a run that was to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenPiece {
    /// The blocks.
    pub range: FileRange,
    /// `Ok`: their data is on the device and readable. [`Error::Io`]: the device failed; blocks that were
    /// unwritten stay so. Anything else: the blocks could not be mapped and nothing was tried.
    pub outcome: Result<()>,
}

impl FileBlocks {
    /// Writes `bytes`, the content of the dirty blocks of `range`, to the volume and makes them readable: what
    /// [`send`](Self::send) and [`Sent::make_readable`] do.
    pub fn write_back(&self, range: FileRange, bytes: &[u8]) -> Vec<WrittenPiece> {
        self.send(range, bytes).make_readable()
    }

    /// Writes `bytes`, the content of the dirty blocks of `range`, to the volume.
    ///
    /// Delayed blocks are allocated (unwritten) out of their reservation, in as many pieces as free
    /// space makes necessary; all pieces go to the device in one batch. The caller holds the folio locks of the range,
    /// which keep its blocks backed, until what arrived is readable.
    ///
    /// Caches nothing about blocks outside the range.
    pub fn send(&self, range: FileRange, bytes: &[u8]) -> Sent<'_> {
        let block_size = self.backing.geometry.block_size.bytes();
        let expected = range.len().checked_mul(block_size);
        if Some(bytes.len() as u64) != expected || range.is_empty() {
            let error = Error::InvalidInput("bytes do not fill the run of blocks");
            return Sent::failed(self, range, error);
        }
        let counters = &self.backing.counters;
        counters.count(Counter::WritebackRuns);
        counters.add(Counter::WritebackBlocks, range.len());
        let (mapped, error) = self.map_for_writing(range);
        let gives_up = error.is_some() && self.backing.probe.is(Mutation::CountMappedAsWritten);
        let written = match gives_up {
            false => self.write(range, bytes, &mapped),
            true => Vec::new(),
        };
        let unmapped_from = mapped.last().map_or(range.start(), |m| m.range.end());
        let unmapped = FileRange::new(unmapped_from, range.end());
        Sent {
            blocks: self,
            mapped,
            written,
            unmapped: error.map(|error| (unmapped, error)),
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
                Err(error) => {
                    if self.backing.probe.is(Mutation::ForgetUnmappable) {
                        let _uncounted = self.status.remove(rest);
                    }
                    return (mapped, Some(error));
                }
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

    /// Sends the mapped pieces to the device; what became of each.
    fn write(&self, range: FileRange, bytes: &[u8], mapped: &[StatusExtent]) -> Vec<Result<()>> {
        let block_size = self.backing.geometry.block_size.bytes();
        let mut batch = self.backing.queue.batch();
        for piece in mapped {
            let Some(disk) = piece.status.disk_block() else {
                continue;
            };
            let from = (piece.range.start().0 - range.start().0) * block_size;
            let to = from + piece.range.len() * block_size;
            note(|| format!("sends {:?} to the device", piece.range));
            let data: Arc<[u8]> = bytes[from as usize..to as usize].into();
            batch.push(Bio::write(disk, data));
        }
        let despite_error = self.backing.probe.is(Mutation::ConvertDespiteError);
        let ended = batch.submit().into_iter().map(|bio| match bio.wait() {
            Err(error) if !despite_error => Err(error),
            _ => Ok(()),
        });
        ended.collect()
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
    /// What became of each mapped piece; nothing for [`Mutation::CountMappedAsWritten`].
    written: Vec<Result<()>>,
    /// What could not be mapped, and why.
    unmapped: Option<(FileRange, Error)>,
}

impl<'a> Sent<'a> {
    fn failed(blocks: &'a FileBlocks, range: FileRange, error: Error) -> Self {
        Self {
            blocks,
            mapped: Vec::new(),
            written: Vec::new(),
            unmapped: Some((range, error)),
        }
    }

    /// Makes the blocks written whose data has arrived. Returns one entry for each piece, in order; they tile the range
    /// that was sent.
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
        let mut pieces = match written.is_empty() {
            true => counted_as_written(&mapped),
            false => {
                let pieces = mapped.iter().zip(written);
                let piece = |(piece, written): (&StatusExtent, Result<()>)| WrittenPiece {
                    range: piece.range,
                    outcome: written.and_then(|()| blocks.make_readable(piece, &arrived)),
                };
                pieces.map(piece).collect()
            }
        };
        pieces.extend(unmapped.map(|(range, error)| WrittenPiece {
            range,
            outcome: Err(error),
        }));
        if pieces.iter().any(|piece| piece.outcome.is_err()) {
            blocks.backing.counters.count(Counter::WritebackErrors);
        }
        pieces
    }
}

/// For [`Mutation::CountMappedAsWritten`].
fn counted_as_written(mapped: &[StatusExtent]) -> Vec<WrittenPiece> {
    let piece = |mapped: &StatusExtent| WrittenPiece {
        range: mapped.range,
        outcome: Ok(()),
    };
    mapped.iter().map(piece).collect()
}
