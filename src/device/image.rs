//! A device in memory whose copies share what they have in common.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::error::Result;
use crate::sync::{Rank, RwLock};

use super::parts::{Part, parts};
use super::{BlockDevice, check_range};

/// Bytes shared or copied together.
const CHUNK: usize = 16 << 10;

/// The chunks in which something may differ from zero.
type Chunks = BTreeMap<u64, Arc<[u8]>>;

/// A sparse device in memory that can be cloned for the price of its list of chunks (16 KiB each); a clone copies a
/// chunk when it changes it. The thing to have a thousand states of the same disk in. A flush does nothing.
pub struct ImageDevice {
    size: u64,
    chunks: RwLock<Chunks>,
}

impl ImageDevice {
    /// A device of `size` bytes, all zero.
    pub fn new(size: u64) -> Self {
        Self::of(size, Chunks::new())
    }

    /// A copy of what `device` holds now.
    ///
    /// # Errors
    /// Those of its reads.
    pub fn copy_of(device: &dyn BlockDevice) -> Result<Self> {
        let size = device.size();
        let mut chunks = Chunks::new();
        let mut buffer = [0; CHUNK];
        for chunk in 0..size.div_ceil(CHUNK as u64) {
            let offset = chunk * CHUNK as u64;
            buffer.fill(0);
            let len = (size - offset).min(CHUNK as u64) as usize;
            device.read_at(offset, &mut buffer[..len])?;
            if buffer.iter().any(|byte| *byte != 0) {
                chunks.insert(chunk, buffer.as_slice().into());
            }
        }
        Ok(Self::of(size, chunks))
    }

    fn of(size: u64, chunks: Chunks) -> Self {
        Self {
            size,
            chunks: RwLock::new(Rank::Device, chunks),
        }
    }
}

impl Clone for ImageDevice {
    fn clone(&self) -> Self {
        let chunks = self.chunks.read().clone();
        Self::of(self.size, chunks)
    }
}

impl BlockDevice for ImageDevice {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len() as u64)?;
        let chunks = self.chunks.read();
        let mut rest = buffer;
        for Part { chunk, start, len } in parts(offset, rest.len() as u64, CHUNK) {
            let (target, behind) = rest.split_at_mut(len);
            match chunks.get(&chunk) {
                Some(bytes) => target.copy_from_slice(&bytes[start..start + len]),
                None => target.fill(0),
            }
            rest = behind;
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        check_range(self.size, offset, data.len() as u64)?;
        let mut chunks = self.chunks.write();
        let mut rest = data;
        for Part { chunk, start, len } in parts(offset, rest.len() as u64, CHUNK) {
            let (source, behind) = rest.split_at(len);
            let bytes = chunks
                .entry(chunk)
                .or_insert_with(|| [0; CHUNK].as_slice().into());
            Arc::make_mut(bytes)[start..start + len].copy_from_slice(source);
            rest = behind;
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// The bytes read as zeros afterwards.
    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.write_zeroes(offset, len)
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        check_range(self.size, offset, len)?;
        let mut chunks = self.chunks.write();
        for Part { chunk, start, len } in parts(offset, len, CHUNK) {
            if len == CHUNK {
                chunks.remove(&chunk);
            } else if let Some(bytes) = chunks.get_mut(&chunk) {
                Arc::make_mut(bytes)[start..start + len].fill(0);
            }
        }
        Ok(())
    }
}

impl fmt::Debug for ImageDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageDevice")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}
