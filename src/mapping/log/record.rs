//! One change of a file, as it is made in memory and as it is told in the log.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::units::{DiskBlock, FileBlock, FileNumber, FileRange, PAGE_SIZE};

use super::super::table::FileState;
use super::super::{ExtentState, MappedExtent, Shift};
use super::wire::Reader;

/// What happens to a file. Doing it to the same state gives the same state: the log is replayed so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Insert(MappedExtent),
    /// The same where others will be removed; reads back as `Insert`.
    InsertInPlace(MappedExtent),
    Convert(FileRange, ExtentState),
    Remove(FileRange),
    Shift(FileBlock, Shift),
    Resize(u64),
    /// To at least this size.
    Extend(u64),
    Inline(Option<Arc<[u8]>>),
}

mod kind {
    pub(super) const INSERT: u8 = 1;
    pub(super) const CONVERT: u8 = 2;
    pub(super) const REMOVE: u8 = 3;
    pub(super) const SHIFT_LEFT: u8 = 4;
    pub(super) const SHIFT_RIGHT: u8 = 5;
    pub(super) const RESIZE: u8 = 6;
    pub(super) const EXTEND: u8 = 7;
    pub(super) const INLINE: u8 = 8;
    pub(super) const LEAVE_INLINE: u8 = 9;
}

/// The bit beside a disk block that says that it is unwritten.
const UNWRITTEN: u64 = 1 << 63;

impl Change {
    /// The file afterwards, and what was unmapped.
    ///
    /// # Errors
    /// As the method of the mapping store that it stands for.
    pub(super) fn apply(&self, file: &FileState) -> Result<(FileState, Vec<MappedExtent>)> {
        let changed = match self {
            Self::Remove(range) => return Ok(file.without(*range)),
            Self::Insert(extent) | Self::InsertInPlace(extent) => file.inserted(*extent)?,
            Self::Convert(range, to) => file.converted(*range, *to),
            Self::Shift(from, shift) => file.shifted(*from, *shift)?,
            Self::Resize(size) => file.sized(*size),
            Self::Extend(size) => file.sized(file.size.max(*size)),
            Self::Inline(bytes) => file.with_inline(bytes.clone()),
        };
        Ok((changed, Vec::new()))
    }

    /// Fails for what no record can tell.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Insert(extent) | Self::InsertInPlace(extent)
                if extent.range.is_empty() || extent.disk.0 & UNWRITTEN != 0 =>
            {
                Err(Error::InvalidInput(
                    "an extent without blocks, or where no device has any",
                ))
            }
            Self::Inline(Some(bytes)) if bytes.len() as u64 > PAGE_SIZE => {
                Err(Error::InvalidInput("inline data is limited to one page"))
            }
            _ => Ok(()),
        }
    }

    /// How many extents it moves or converts: what takes longer than to write or to read it.
    pub(super) fn moves(&self, file: &FileState) -> u64 {
        let range = match self {
            Self::Convert(range, _) => *range,
            Self::Shift(from, _) => FileRange::starting_at(*from),
            _ => return 0,
        };
        file.extents.overlapping(range).count() as u64
    }

    /// Whether it makes room, or moves what is there, so that it may use what is kept for that.
    pub(super) fn must_not_fail(&self) -> bool {
        matches!(
            self,
            Self::InsertInPlace(_)
                | Self::Remove(_)
                | Self::Shift(..)
                | Self::Resize(_)
                | Self::Extend(_)
        )
    }

    /// Appends the record of this change of `file`.
    pub(super) fn encode(&self, file: FileNumber, log: &mut Vec<u8>) {
        let mut put = |kind: u8| {
            log.push(kind);
            log.extend(file.0.to_le_bytes());
        };
        match self {
            Self::Insert(extent) | Self::InsertInPlace(extent) => {
                put(kind::INSERT);
                encode_extent(extent, log);
            }
            Self::Convert(range, to) => {
                put(kind::CONVERT);
                encode_range(*range, log);
                log.push(u8::from(*to == ExtentState::Unwritten));
            }
            Self::Remove(range) => {
                put(kind::REMOVE);
                encode_range(*range, log);
            }
            Self::Shift(from, shift) => {
                let (kind, by) = match shift {
                    Shift::Left(by) => (kind::SHIFT_LEFT, by),
                    Shift::Right(by) => (kind::SHIFT_RIGHT, by),
                };
                put(kind);
                log.extend((from.0 as u32).to_le_bytes());
                log.extend(by.to_le_bytes());
            }
            Self::Resize(size) => {
                put(kind::RESIZE);
                log.extend(size.to_le_bytes());
            }
            Self::Extend(size) => {
                put(kind::EXTEND);
                log.extend(size.to_le_bytes());
            }
            Self::Inline(Some(bytes)) => {
                put(kind::INLINE);
                log.extend((bytes.len() as u16).to_le_bytes());
                log.extend(&**bytes);
            }
            Self::Inline(None) => put(kind::LEAVE_INLINE),
        }
    }

    /// The next record and the file it is about.
    pub(super) fn decode(log: &mut Reader<'_>) -> Result<(FileNumber, Self)> {
        Self::read(log).ok_or(Error::Corrupt("a record of the log makes no sense"))
    }

    fn read(log: &mut Reader<'_>) -> Option<(FileNumber, Self)> {
        let kind = log.u8()?;
        let file = FileNumber(log.u64()?);
        let change = match kind {
            kind::INSERT => Self::Insert(decode_extent(log)?),
            kind::CONVERT => {
                let range = decode_range(log)?;
                let to = match log.u8()? {
                    0 => ExtentState::Written,
                    1 => ExtentState::Unwritten,
                    _ => return None,
                };
                Self::Convert(range, to)
            }
            kind::REMOVE => Self::Remove(decode_range(log)?),
            kind::SHIFT_LEFT | kind::SHIFT_RIGHT => {
                let from = FileBlock(log.u32()?.into());
                let by = log.u64()?;
                let left = kind == kind::SHIFT_LEFT;
                let shift = match left {
                    true => Shift::Left(by),
                    false => Shift::Right(by),
                };
                Self::Shift(from, shift)
            }
            kind::RESIZE => Self::Resize(log.u64()?),
            kind::EXTEND => Self::Extend(log.u64()?),
            kind::INLINE => {
                let len = log.u16()?;
                if u64::from(len) > PAGE_SIZE {
                    return None;
                }
                Self::Inline(Some(log.bytes(len.into())?.into()))
            }
            kind::LEAVE_INLINE => Self::Inline(None),
            _ => return None,
        };
        Some((file, change))
    }
}

/// Blocks of a file are below 2^32 - 1, so both numbers fit.
fn encode_range(range: FileRange, bytes: &mut Vec<u8>) {
    bytes.extend((range.start().0 as u32).to_le_bytes());
    bytes.extend((range.len() as u32).to_le_bytes());
}

fn decode_range(bytes: &mut Reader<'_>) -> Option<FileRange> {
    let (start, len) = (bytes.u32()?, bytes.u32()?);
    let range = FileRange::at(FileBlock(start.into()), len.into());
    // Within what a file can have.
    (FileRange::starting_at(FileBlock(0)).intersect(range) == range).then_some(range)
}

/// Bytes of an extent.
pub(super) const EXTENT_BYTES: u64 = 16;

/// Appends an extent of a file.
pub(super) fn encode_extent(extent: &MappedExtent, bytes: &mut Vec<u8>) {
    encode_range(extent.range, bytes);
    let state = match extent.state {
        ExtentState::Written => 0,
        ExtentState::Unwritten => UNWRITTEN,
    };
    bytes.extend((extent.disk.0 | state).to_le_bytes());
}

/// The next extent, which is not empty.
pub(super) fn decode_extent(bytes: &mut Reader<'_>) -> Option<MappedExtent> {
    let range = decode_range(bytes)?;
    let disk = bytes.u64()?;
    let state = match disk & UNWRITTEN {
        0 => ExtentState::Written,
        _ => ExtentState::Unwritten,
    };
    let disk = DiskBlock(disk & !UNWRITTEN);
    (!range.is_empty()).then_some(MappedExtent { range, disk, state })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_record_reads_back_and_no_cut_one_does() {
        let range = FileRange::at(FileBlock(3), 4);
        let extent = |state| MappedExtent {
            range,
            disk: DiskBlock(77),
            state,
        };
        let changes = [
            Change::Insert(extent(ExtentState::Written)),
            Change::Insert(extent(ExtentState::Unwritten)),
            Change::Convert(range, ExtentState::Written),
            Change::Convert(FileRange::starting_at(FileBlock(0)), ExtentState::Unwritten),
            Change::Remove(FileRange::starting_at(FileBlock(9))),
            Change::Shift(FileBlock(5), Shift::Left(2)),
            Change::Shift(FileBlock(5), Shift::Right(1 << 31)),
            Change::Resize(u64::MAX),
            Change::Extend(4),
            Change::Inline(Some(Arc::from(*b"bytes"))),
            Change::Inline(None),
        ];
        for change in changes {
            let mut log = Vec::new();
            change.encode(FileNumber(12), &mut log);
            let mut reader = Reader(&log);
            let read = Change::decode(&mut reader);
            assert_eq!(read, Ok((FileNumber(12), change)));
            assert!(reader.0.is_empty());
            for len in 0..log.len() {
                let cut = Change::decode(&mut Reader(&log[..len]));
                assert!(matches!(cut, Err(Error::Corrupt(_))), "{log:?} {len}");
            }
        }
    }
}
