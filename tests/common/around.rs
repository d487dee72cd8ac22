//! A device that is another one but for what happens around its operations.

use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;

use extent_map::Result;
use extent_map::device::OperationKind::{Discard, Flush, Read, Write, WriteZeroes};
use extent_map::device::{BlockDevice, Limits, Operation, OperationKind};

/// The operation of the device behind, carried out when it is called.
pub(crate) type Carry<'a> = &'a mut dyn FnMut() -> Result<()>;

/// A device whose every operation is given to `around`, which answers it: by what the device behind says, or not. It
/// ends requests as a device that blocks.
pub(crate) struct Around<F> {
    behind: Arc<dyn BlockDevice>,
    limits: Limits,
    around: F,
}

impl<F: Fn(Operation, Carry<'_>) -> Result<()>> Around<F> {
    pub(crate) fn new(behind: Arc<dyn BlockDevice>, around: F) -> Self {
        let limits = behind.limits();
        Self {
            behind,
            limits,
            around,
        }
    }

    /// The same with other limits than those of the device behind.
    pub(crate) fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    fn ask(
        &self,
        kind: OperationKind,
        (offset, len): (u64, u64),
        carry_out: Carry<'_>,
    ) -> Result<()> {
        (self.around)(Operation { kind, offset, len }, carry_out)
    }
}

impl<F> fmt::Debug for Around<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Around")
            .field("behind", &self.behind)
            .finish_non_exhaustive()
    }
}

impl<F: Fn(Operation, Carry<'_>) -> Result<()> + Send + Sync> BlockDevice for Around<F> {
    fn size(&self) -> u64 {
        self.behind.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let bytes = (offset, buffer.len() as u64);
        self.ask(Read, bytes, &mut || self.behind.read_at(offset, buffer))
    }

    fn read_vectored_at(&self, offset: u64, buffers: &mut [IoSliceMut<'_>]) -> Result<()> {
        let len = buffers.iter().map(|part| part.len() as u64).sum();
        self.ask(Read, (offset, len), &mut || {
            self.behind.read_vectored_at(offset, buffers)
        })
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        let bytes = (offset, data.len() as u64);
        self.ask(Write, bytes, &mut || self.behind.write_at(offset, data))
    }

    fn write_vectored_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<()> {
        let len = data.iter().map(|part| part.len() as u64).sum();
        self.ask(Write, (offset, len), &mut || {
            self.behind.write_vectored_at(offset, data)
        })
    }

    fn flush(&self) -> Result<()> {
        self.ask(Flush, (0, 0), &mut || self.behind.flush())
    }

    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.ask(Discard, (offset, len), &mut || {
            self.behind.discard(offset, len)
        })
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        self.ask(WriteZeroes, (offset, len), &mut || {
            self.behind.write_zeroes(offset, len)
        })
    }

    fn limits(&self) -> Limits {
        self.limits
    }
}
