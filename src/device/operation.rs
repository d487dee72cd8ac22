//! What a device is asked for, by those that watch it.

/// What a device is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum OperationKind {
    /// [`BlockDevice::read_at`](super::BlockDevice::read_at) and
    /// [`BlockDevice::read_vectored_at`](super::BlockDevice::read_vectored_at).
    Read,
    /// [`BlockDevice::write_at`](super::BlockDevice::write_at) and
    /// [`BlockDevice::write_vectored_at`](super::BlockDevice::write_vectored_at).
    Write,
    /// [`BlockDevice::flush`](super::BlockDevice::flush).
    Flush,
    /// [`BlockDevice::discard`](super::BlockDevice::discard).
    Discard,
    /// [`BlockDevice::write_zeroes`](super::BlockDevice::write_zeroes).
    WriteZeroes,
}

impl OperationKind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Discard => "discard",
            Self::WriteZeroes => "write zeroes",
        }
    }
}

/// One operation a device was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Operation {
    /// What was asked.
    pub kind: OperationKind,
    /// Where, in bytes; 0 for a flush.
    pub offset: u64,
    /// How many bytes; 0 for a flush.
    pub len: u64,
}
