//! A device in memory.

use std::collections::HashMap;
use std::fmt;

use crate::error::Result;
use crate::sync::{Rank, RwLock};

use super::parts::{Part, parts};
use super::{BlockDevice, check_range};

/// Bytes kept or forgotten together.
const CHUNK: usize = 64 << 10;

/// Locks; neighbouring chunks have different ones.
const SHARDS: u64 = 64;

/// The bytes of each chunk that was ever written.
type Chunks = HashMap<u64, Box<[u8]>>;

/// A sparse device in memory: chunks never written take no memory and read as zeros. A flush does nothing,
/// and nothing survives a drop.
///
/// An operation is atomic towards others inside each 64 KiB chunk, not beyond.
pub struct MemoryDevice {
    size: u64,
    /// Chunk `n` is in shard `n % SHARDS`.
    shards: Box<[RwLock<Chunks>]>,
}

impl MemoryDevice {
    /// A device of `size` bytes, all zero.
    pub fn new(size: u64) -> Self {
        Self {
            size,
            shards: (0..SHARDS)
                .map(|_| RwLock::new(Rank::Device, Chunks::new()))
                .collect(),
        }
    }

    fn shard(&self, chunk: u64) -> &RwLock<Chunks> {
        &self.shards[(chunk % SHARDS) as usize]
    }
}

impl BlockDevice for MemoryDevice {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.size, offset, buffer.len() as u64)?;
        let mut rest = buffer;
        for Part { chunk, start, len } in parts(offset, rest.len() as u64, CHUNK) {
            let (target, behind) = rest.split_at_mut(len);
            match self.shard(chunk).read().get(&chunk) {
                Some(bytes) => target.copy_from_slice(&bytes[start..start + len]),
                None => target.fill(0),
            }
            rest = behind;
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        check_range(self.size, offset, data.len() as u64)?;
        let mut rest = data;
        for Part { chunk, start, len } in parts(offset, rest.len() as u64, CHUNK) {
            let (source, behind) = rest.split_at(len);
            let mut shard = self.shard(chunk).write();
            let bytes = shard.entry(chunk).or_insert_with(|| vec![0; CHUNK].into());
            bytes[start..start + len].copy_from_slice(source);
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
        for Part { chunk, start, len } in parts(offset, len, CHUNK) {
            let mut shard = self.shard(chunk).write();
            if len == CHUNK {
                shard.remove(&chunk);
            } else if let Some(bytes) = shard.get_mut(&chunk) {
                bytes[start..start + len].fill(0);
            }
        }
        Ok(())
    }
}

impl fmt::Debug for MemoryDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDevice")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}
