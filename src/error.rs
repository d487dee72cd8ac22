//! One error type for every layer, each with the errno a filesystem caller expects.

#[cfg(feature = "std")]
use std::io;

/// Short for a result with the crate's [`Error`].
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// What can go wrong. Nothing is lost or half done when an operation returns one of these, unless the
/// operation documents partial progress.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument makes no sense (`EINVAL`).
    #[error("invalid argument: {0}")]
    InvalidInput(&'static str),
    /// An offset, length or size lies beyond what a file can have (`EFBIG`).
    #[error("beyond the largest file size")]
    FileTooBig,
    /// No free space that is not promised to somebody else (`ENOSPC`).
    #[error("no space left on the volume")]
    NoSpace,
    /// A page wholly behind the end of the file was touched through a mapping (`EFAULT`; a process gets `SIGBUS`).
    #[error("page lies behind the end of the file")]
    BeyondEnd,
    /// A seek for data or a hole found none (`ENXIO`).
    #[error("no such data or hole")]
    NotFound,
    /// The device failed an operation (`EIO`).
    #[error("device error: {0}")]
    Io(IoError),
    /// The device is smaller than the request needs (`EINVAL` when formatting).
    #[error("device too small: {have} bytes, at least {need} needed")]
    DeviceTooSmall {
        /// What the device has, in bytes.
        have: u64,
        /// What is needed, in bytes.
        need: u64,
    },
    /// Bookkeeping contradicts itself: a run is freed twice, or mapped over another (`EUCLEAN`).
    #[error("inconsistent state: {0}")]
    Corrupt(&'static str),
    /// A volume was closed while this file still had promised, unwritten data (`EBUSY`).
    #[error("file {file} still has {clusters} reserved clusters")]
    ReservationLeak {
        /// The number of the file.
        file: u64,
        /// Clusters it still had reserved.
        clusters: u64,
    },
    /// A ledger ended while a reservation that nobody can give back any more had clusters (`EBUSY`).
    #[error("{clusters} clusters are promised to nobody that still exists")]
    PromiseLeak {
        /// Clusters still promised.
        clusters: u64,
    },
    /// It would have to wait, and was asked not to (`EAGAIN`).
    #[error("it would have to wait")]
    WouldBlock,
    /// The wait for something was cancelled (`EINTR`).
    #[error("the wait was cancelled")]
    Interrupted,
    /// The operation is not supported here (`EOPNOTSUPP`).
    #[error("not supported: {0}")]
    NotSupported(&'static str),
}

/// What a device said about a failed operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation} at byte {offset}: errno {errno}")]
pub struct IoError {
    /// Which operation failed: "read", "write", "flush", "discard" ...
    pub operation: &'static str,
    /// Where on the device, in bytes.
    pub offset: u64,
    /// The errno the device gave.
    pub errno: i32,
}

mod errno {
    pub(super) const EINTR: i32 = 4;
    pub(super) const EIO: i32 = 5;
    pub(super) const ENXIO: i32 = 6;
    pub(super) const EAGAIN: i32 = 11;
    pub(super) const EFAULT: i32 = 14;
    pub(super) const EBUSY: i32 = 16;
    pub(super) const EINVAL: i32 = 22;
    pub(super) const EFBIG: i32 = 27;
    pub(super) const ENOSPC: i32 = 28;
    pub(super) const EOPNOTSUPP: i32 = 95;
    pub(super) const EUCLEAN: i32 = 117;
}

impl Error {
    /// The Linux errno for this error.
    pub fn errno(&self) -> i32 {
        match self {
            Self::InvalidInput(_) | Self::DeviceTooSmall { .. } => errno::EINVAL,
            Self::FileTooBig => errno::EFBIG,
            Self::NoSpace => errno::ENOSPC,
            Self::BeyondEnd => errno::EFAULT,
            Self::NotFound => errno::ENXIO,
            Self::Io(_) => errno::EIO,
            Self::Corrupt(_) => errno::EUCLEAN,
            Self::WouldBlock => errno::EAGAIN,
            Self::Interrupted => errno::EINTR,
            Self::ReservationLeak { .. } | Self::PromiseLeak { .. } => errno::EBUSY,
            Self::NotSupported(_) => errno::EOPNOTSUPP,
        }
    }

    /// A device error from what the operating system said.
    #[cfg(feature = "std")]
    pub(crate) fn io(operation: &'static str, offset: u64, error: &io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or(errno::EIO);
        Self::Io(IoError {
            operation,
            offset,
            errno,
        })
    }
}

#[cfg(feature = "std")]
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::InvalidInput(_) | Error::DeviceTooSmall { .. } => io::ErrorKind::InvalidInput,
            Error::FileTooBig => io::ErrorKind::FileTooLarge,
            Error::NoSpace => io::ErrorKind::StorageFull,
            Error::NotFound => io::ErrorKind::NotFound,
            Error::ReservationLeak { .. } | Error::PromiseLeak { .. } => {
                io::ErrorKind::ResourceBusy
            }
            Error::WouldBlock => io::ErrorKind::WouldBlock,
            Error::Interrupted => io::ErrorKind::Interrupted,
            Error::NotSupported(_) => io::ErrorKind::Unsupported,
            Error::Corrupt(_) => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_the_errno_and_the_kind_that_linux_gives_it() {
        let io = |errno| {
            Error::Io(IoError {
                operation: "read",
                offset: 0,
                errno,
            })
        };
        let cases = [
            (Error::InvalidInput("x"), 22, io::ErrorKind::InvalidInput),
            (
                Error::DeviceTooSmall { have: 1, need: 2 },
                22,
                io::ErrorKind::InvalidInput,
            ),
            (Error::FileTooBig, 27, io::ErrorKind::FileTooLarge),
            (Error::NoSpace, 28, io::ErrorKind::StorageFull),
            (Error::BeyondEnd, 14, io::ErrorKind::Other),
            (Error::NotFound, 6, io::ErrorKind::NotFound),
            (io(61), 5, io::ErrorKind::Other),
            (Error::Corrupt("x"), 117, io::ErrorKind::InvalidData),
            (
                Error::ReservationLeak {
                    file: 1,
                    clusters: 1,
                },
                16,
                io::ErrorKind::ResourceBusy,
            ),
            (
                Error::PromiseLeak { clusters: 1 },
                16,
                io::ErrorKind::ResourceBusy,
            ),
            (Error::WouldBlock, 11, io::ErrorKind::WouldBlock),
            (Error::Interrupted, 4, io::ErrorKind::Interrupted),
            (Error::NotSupported("x"), 95, io::ErrorKind::Unsupported),
        ];
        for (error, errno, kind) in cases {
            assert_eq!(error.errno(), errno, "{error:?}");
            let text = error.to_string();
            let converted = io::Error::from(error);
            assert_eq!((converted.kind(), converted.to_string()), (kind, text));
        }
    }
}
