//! Operations on the files of a volume, and how they are drawn from bytes.

use crate::error::{Error, Result};
use crate::file::{AllocateMode, File, Volume};
use crate::units::PAGE_SIZE;

/// One operation on a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// An operation on the file at this place in a list of files.
    File(usize, FileOp),
    /// [`Volume::sync`].
    Sync,
    /// [`Volume::drop_caches`].
    DropCaches,
}

/// One operation on a file. Offsets and lengths are in bytes.
///
/// What is written is a pattern without zeros that the seed chooses. More than
/// [`MAX_DATA`](Self::MAX_DATA) bytes of data are refused with `EINVAL`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the arguments of the methods")]
pub enum FileOp {
    /// [`File::write_at`].
    Write { offset: u64, len: u64, seed: u8 },
    /// [`File::store_mapped`].
    StoreMapped { offset: u64, len: u64, seed: u8 },
    /// [`File::read_at`].
    Read { offset: u64, len: u64 },
    /// [`File::load_mapped`].
    LoadMapped { offset: u64, len: u64 },
    /// [`File::allocate`].
    Allocate {
        mode: AllocateMode,
        offset: u64,
        len: u64,
    },
    /// [`File::set_len`].
    SetLen(u64),
    /// [`File::seek_data`].
    SeekData(u64),
    /// [`File::seek_hole`].
    SeekHole(u64),
    /// [`File::sync_data`].
    SyncData,
    /// [`File::sync_all`].
    SyncAll,
    /// [`File::sync_range`].
    SyncRange { offset: u64, len: u64 },
    /// [`File::shrink_status`], dropping every n-th entry; all for 0 and 1.
    ShrinkStatus(u64),
}

/// What an operation answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeded, with nothing to tell.
    Done,
    /// That many bytes were written or stored.
    Count(u64),
    /// These bytes were read or loaded.
    Bytes(Vec<u8>),
    /// The offset that was sought.
    Offset(u64),
    /// It failed with this errno.
    Failed(i32),
}

/// What [`Op::from_bytes`] may draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many files there are.
    pub files: usize,
    /// Bytes in one block.
    pub block_size: u64,
    /// Blocks in one cluster.
    pub cluster_blocks: u64,
    /// Offsets and lengths are at most about this many bytes.
    pub bytes: u64,
}

/// The errno for a file that is not in the list.
pub(super) const ENOENT: i32 = 2;

impl Op {
    /// How many bytes [`from_bytes`](Self::from_bytes) takes for each operation.
    pub const ENCODED_LEN: usize = 8;

    /// Draws an operation from the first [`ENCODED_LEN`](Self::ENCODED_LEN) bytes of `source`, taking
    /// them; `None` when there are fewer.
    ///
    /// Any bytes are an operation; smaller ones are a simpler one, so that minimised bytes are a minimised
    /// sequence. Most offsets and ends lie on a boundary of a block, page or cluster, or one byte off.
    pub fn from_bytes(source: &mut &[u8], limits: &Limits) -> Option<Self> {
        let (&bytes, rest) = source.split_first_chunk::<{ Self::ENCODED_LEN }>()?;
        *source = rest;
        let [kind, file, from_unit, from, to_unit, to, seed, fine] = bytes;
        let file = usize::from(file).checked_rem(limits.files).unwrap_or(0);
        let offset = limits.edge(from_unit, from, fine);
        // Most are short: then several fit into one cluster, and one can cut what another left.
        let to = match to_unit {
            0..192 => to % 4 + 1,
            192..240 => to / 8,
            240.. => to,
        };
        let len = limits.edge(to_unit, to, fine.rotate_left(3));
        let allocate = |mode| FileOp::Allocate { mode, offset, len };
        let move_blocks = |mode| FileOp::Allocate {
            mode,
            offset: limits.align(offset, seed),
            len: limits.align(len, seed),
        };
        let op = match kind % 32 {
            0..6 => FileOp::Write { offset, len, seed },
            6..10 => FileOp::StoreMapped { offset, len, seed },
            10 => FileOp::Read { offset, len },
            11 => FileOp::LoadMapped { offset, len },
            12 | 13 => allocate(AllocateMode::Allocate),
            14 => allocate(AllocateMode::AllocateKeepSize),
            15..18 => allocate(AllocateMode::PunchHole),
            18 => allocate(AllocateMode::ZeroRange),
            19 => allocate(AllocateMode::ZeroRangeKeepSize),
            20 => move_blocks(AllocateMode::CollapseRange),
            21 => move_blocks(AllocateMode::InsertRange),
            22 | 23 => FileOp::SetLen(offset),
            24 => FileOp::SeekData(offset),
            25 => FileOp::SeekHole(offset),
            26 if seed % 2 == 0 => FileOp::SyncData,
            26 => FileOp::SyncAll,
            27 | 28 => FileOp::SyncRange { offset, len },
            29 | 30 => FileOp::ShrinkStatus(u64::from(seed % 4)),
            _ if seed % 2 == 0 => return Some(Self::Sync),
            _ => return Some(Self::DropCaches),
        };
        Some(Self::File(file, op))
    }

    /// Does the operation on `volume`, or on the one of `files` it is for.
    pub fn apply(&self, volume: &Volume, files: &[File]) -> Outcome {
        let done = match self {
            Self::File(file, op) => {
                return match files.get(*file) {
                    Some(file) => op.apply(file),
                    None => Outcome::Failed(ENOENT),
                };
            }
            Self::Sync => volume.sync(),
            Self::DropCaches => volume.drop_caches(),
        };
        Outcome::of(done.map(|()| Outcome::Done))
    }
}

impl FileOp {
    /// The most bytes that one operation writes or reads.
    pub const MAX_DATA: u64 = 16 << 20;

    /// Does the operation on `file`.
    pub fn apply(&self, file: &File) -> Outcome {
        Outcome::of(self.try_apply(file))
    }

    fn try_apply(&self, file: &File) -> Result<Outcome> {
        let done = match *self {
            Self::Write { offset, len, seed } => {
                let written = file.write_at(offset, &pattern(seed, len)?)?;
                return Ok(Outcome::Count(written as u64));
            }
            Self::StoreMapped { offset, len, seed } => {
                let stored = file.store_mapped(offset, &pattern(seed, len)?)?;
                return Ok(Outcome::Count(stored as u64));
            }
            Self::Read { offset, len } => return read(len, |buf| file.read_at(offset, buf)),
            Self::LoadMapped { offset, len } => {
                return read(len, |buf| file.load_mapped(offset, buf));
            }
            Self::SeekData(offset) => return file.seek_data(offset).map(Outcome::Offset),
            Self::SeekHole(offset) => return file.seek_hole(offset).map(Outcome::Offset),
            Self::Allocate { mode, offset, len } => file.allocate(mode, offset, len),
            Self::SetLen(size) => file.set_len(size),
            Self::SyncData => file.sync_data(),
            Self::SyncAll => file.sync_all(),
            Self::SyncRange { offset, len } => file.sync_range(offset, len),
            Self::ShrinkStatus(n) => {
                let mut entries = 0u64;
                file.shrink_status(|_| {
                    entries += 1;
                    entries.is_multiple_of(n.max(1))
                });
                Ok(())
            }
        };
        done.map(|()| Outcome::Done)
    }
}

impl Outcome {
    fn of(result: Result<Self>) -> Self {
        result.unwrap_or_else(|error| Self::Failed(error.errno()))
    }
}

impl Limits {
    /// An offset at or near a multiple of the block, page or cluster size.
    fn edge(&self, unit: u8, multiple: u8, fine: u8) -> u64 {
        let unit = match unit % 4 {
            0 => self.block_size,
            1 => PAGE_SIZE,
            2 => self.cluster_bytes(),
            _ => self.block_size.saturating_mul(3),
        }
        .max(1);
        let edge = unit * (u64::from(multiple) % (self.bytes / unit).saturating_add(1));
        match fine % 8 {
            4 => edge.saturating_sub(1),
            5 => edge.saturating_add(1),
            6 => edge.saturating_add(unit / 2),
            7 => edge.saturating_add(u64::from(fine)),
            _ => edge,
        }
    }

    /// Whole clusters, but for a few seeds: what is not aligned is refused, and a few refusals are enough.
    fn align(&self, bytes: u64, seed: u8) -> u64 {
        match seed {
            0..240 => bytes - bytes % self.cluster_bytes(),
            _ => bytes,
        }
    }

    fn cluster_bytes(&self) -> u64 {
        self.block_size.saturating_mul(self.cluster_blocks).max(1)
    }
}

/// The bytes that an operation with this seed writes; none of them is 0.
///
/// # Errors
/// [`Error::InvalidInput`] for more than [`FileOp::MAX_DATA`].
pub(super) fn pattern(seed: u8, len: u64) -> Result<Vec<u8>> {
    // A prime period, so that no two blocks look alike.
    const PERIOD: usize = 251;
    let start = usize::from(seed) * 31 % PERIOD;
    let len = data_len(len)?;
    let period: Vec<u8> = (1..=PERIOD as u8).collect();
    let mut bytes = period.repeat((start + len).div_ceil(PERIOD));
    bytes.drain(..start.min(bytes.len()));
    bytes.truncate(len);
    Ok(bytes)
}

/// `len`, if one operation may have as many bytes of data.
pub(super) fn data_len(len: u64) -> Result<usize> {
    match len <= FileOp::MAX_DATA {
        true => Ok(len as usize),
        false => Err(Error::InvalidInput("too much data for one operation")),
    }
}

fn read(len: u64, read: impl FnOnce(&mut [u8]) -> Result<usize>) -> Result<Outcome> {
    let mut bytes = vec![0; data_len(len)?];
    let count = read(&mut bytes)?;
    bytes.truncate(count);
    Ok(Outcome::Bytes(bytes))
}
