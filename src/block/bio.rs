//! One request in blocks.

use crate::error::Result;
use crate::sync::Arc;
use crate::units::{DiskBlock, DiskRun};

/// A request that has not been submitted. Submitting consumes it, so that none is submitted twice.
#[must_use = "a bio does nothing until it is submitted"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bio(pub(super) Request);

/// What a [`Bio`] asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Read(DiskRun),
    Write { start: DiskBlock, data: Arc<[u8]> },
    Discard(DiskRun),
    WriteZeroes(DiskRun),
    Flush,
}

impl Bio {
    /// Reads the blocks of `run`.
    pub fn read(run: DiskRun) -> Self {
        Self(Request::Read(run))
    }

    /// Writes `data`, which must be whole blocks, from block `start` on.
    pub fn write(start: DiskBlock, data: Arc<[u8]>) -> Self {
        Self(Request::Write { start, data })
    }

    /// Says that the contents of `run` are no longer needed; they are unspecified until written again.
    pub fn discard(run: DiskRun) -> Self {
        Self(Request::Discard(run))
    }

    /// Makes the blocks of `run` read as zeros.
    pub fn write_zeroes(run: DiskRun) -> Self {
        Self(Request::WriteZeroes(run))
    }

    /// Makes durable what was written before.
    pub fn flush() -> Self {
        Self(Request::Flush)
    }
}

/// A request on its way. Dropping it does not call the request back.
#[derive(Debug)]
pub struct SubmittedBio {
    outcome: Result<Vec<u8>>,
}

impl SubmittedBio {
    pub(super) fn ended(outcome: Result<Vec<u8>>) -> Self {
        Self { outcome }
    }

    /// Waits until the request has ended. The bytes that a read has read; nothing for other requests.
    ///
    /// # Errors
    /// [`Error::InvalidInput`](crate::Error::InvalidInput) when the request was not made of whole blocks
    /// or does not lie inside the device; [`Error::Io`](crate::Error::Io) when the device failed it or
    /// the request it was merged into.
    pub fn wait(self) -> Result<Vec<u8>> {
        self.outcome
    }
}
