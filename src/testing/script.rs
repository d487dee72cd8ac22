//! A volume and what is done to it.

use arbitrary::{Arbitrary, Unstructured};

use super::{Op, Oracle};
use crate::error::Result;
use crate::file::VolumeOptions;

/// A shape of volume, and operations on its files in order. It can be drawn from any bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// The volume.
    pub shape: Shape,
    /// What is done to it.
    pub ops: Vec<Op>,
}

impl Script {
    /// The bytes that are drawn as this script, if there are any.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut bytes = self.shape.encode()?.to_vec();
        for op in &self.ops {
            bytes.extend(op.encode(&self.shape)?);
        }
        Some(bytes)
    }
}

impl<'a> Arbitrary<'a> for Script {
    /// One operation for each [`Op::ENCODED_LEN`] bytes that follow the shape's.
    fn arbitrary(source: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let shape = Shape::arbitrary(source)?;
        let mut ops = Vec::new();
        while source.len() >= Op::ENCODED_LEN {
            ops.push(Op::draw(source, &shape)?);
        }
        Ok(Self { shape, ops })
    }
}

/// How a volume is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes in one block.
    pub block_size: u64,
    /// Blocks in one cluster.
    pub cluster_blocks: u64,
    /// Whether allocation is delayed.
    pub delayed: bool,
    /// The longest a file may get inside the mapping store, in bytes.
    pub inline_limit: u64,
}

impl Shape {
    /// How many files a script works on.
    pub const FILES: usize = 3;

    /// How many bytes a shape is drawn from.
    pub const ENCODED_LEN: usize = 4;

    const BLOCK_SIZES: [u64; 4] = [4096, 1024, 512, 2048];
    const CLUSTERS: [u64; 4] = [1, 4, 16, 2];
    /// Inline limits are a multiple of this.
    const INLINE_STEP: u64 = 64;
    /// Smaller bytes are no inline limit.
    const INLINE: u8 = 192;

    /// Blocks of `block_size` bytes in clusters of `cluster_blocks` blocks, with delayed allocation.
    pub const fn new(block_size: u64, cluster_blocks: u64) -> Self {
        Self {
            block_size,
            cluster_blocks,
            delayed: true,
            inline_limit: 0,
        }
    }

    /// The same without delayed allocation.
    pub const fn not_delayed(self) -> Self {
        Self {
            delayed: false,
            ..self
        }
    }

    /// The same with files of up to `inline_limit` bytes inside the mapping store.
    pub const fn inline(self, inline_limit: u64) -> Self {
        Self {
            inline_limit,
            ..self
        }
    }

    /// Options of a volume of this shape. Runs of free clusters are short, so that one request needs several.
    pub fn options(&self) -> VolumeOptions {
        VolumeOptions::new()
            .block_size(self.block_size)
            .cluster_blocks(self.cluster_blocks)
            .delayed_allocation(self.delayed)
            .inline_limit(self.inline_limit)
            .group_clusters(61)
    }

    /// The size of a device that no script fills, in bytes.
    pub fn device_size(&self) -> u64 {
        8192 * self.cluster_bytes()
    }

    /// A model of a volume of this shape.
    ///
    /// # Errors
    /// As [`Oracle::new`].
    pub fn oracle(&self) -> Result<Oracle> {
        let oracle = Oracle::new(self.block_size, self.cluster_blocks, self.delayed)?;
        Ok(oracle.inline_limit(self.inline_limit))
    }

    /// Bytes in one cluster.
    pub fn cluster_bytes(&self) -> u64 {
        self.block_size * self.cluster_blocks
    }

    /// Most drawn offsets and lengths are at most about this many bytes.
    pub(super) fn reach(&self) -> u64 {
        (12 * self.cluster_bytes()).clamp(24 << 10, 256 << 10)
    }

    /// The bytes that are drawn as this shape, if there are any.
    pub fn encode(&self) -> Option<[u8; Self::ENCODED_LEN]> {
        let place = |of: u64, choices: [u64; 4]| choices.iter().position(|choice| *choice == of);
        let inline = match self.inline_limit {
            0 => 0,
            limit => u64::from(Self::INLINE) + limit / Self::INLINE_STEP,
        };
        let bytes = [
            place(self.block_size, Self::BLOCK_SIZES)? as u8,
            place(self.cluster_blocks, Self::CLUSTERS)? as u8,
            if self.delayed { 0 } else { 3 },
            u8::try_from(inline).ok()?,
        ];
        (Self::of(bytes) == *self).then_some(bytes)
    }

    fn of([block, cluster, delayed, inline]: [u8; Self::ENCODED_LEN]) -> Self {
        Self {
            block_size: Self::BLOCK_SIZES[usize::from(block % 4)],
            cluster_blocks: Self::CLUSTERS[usize::from(cluster % 4)],
            delayed: delayed % 4 < 3,
            inline_limit: u64::from(inline.saturating_sub(Self::INLINE)) * Self::INLINE_STEP,
        }
    }
}

impl<'a> Arbitrary<'a> for Shape {
    /// Missing bytes count as zeros.
    fn arbitrary(source: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        source.arbitrary().map(Self::of)
    }
}
