//! Operations on the files of a volume.

use crate::error::{Error, Result};
use crate::file::{AllocateMode, File, Volume};

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

/// The errno for a file that is not in the list.
pub(super) const ENOENT: i32 = 2;

impl Op {
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

/// The bytes that an operation with this seed writes; none of them is 0.
///
/// # Errors
/// [`Error::InvalidInput`] for more than [`FileOp::MAX_DATA`].
pub fn pattern(seed: u8, len: u64) -> Result<Vec<u8>> {
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
