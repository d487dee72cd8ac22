//! How a volume is formatted.

use std::time::Duration;

use crate::error::Result;
use crate::probe::Probe;
use crate::units::Geometry;

use super::background::DirtyLimits;

/// Options of [`Volume::format`](super::Volume::format); the defaults are those of a plain ext4.
#[derive(Clone, Debug)]
#[must_use]
pub struct VolumeOptions {
    pub(super) block_size: u64,
    pub(super) cluster_blocks: u64,
    pub(super) delayed: bool,
    pub(super) inline_limit: u64,
    pub(super) group_clusters: u64,
    pub(super) low_space_clusters: Option<u64>,
    pub(super) cached_pages: u64,
    dirty_pages: Option<(u64, u64)>,
    dirty_age: Option<Duration>,
    background_writeback: bool,
    pub(super) probe: Probe,
}

impl Default for VolumeOptions {
    fn default() -> Self {
        Self {
            block_size: 4096,
            cluster_blocks: 1,
            delayed: true,
            inline_limit: 0,
            group_clusters: 32768,
            low_space_clusters: None,
            cached_pages: 1 << 18,
            dirty_pages: None,
            dirty_age: None,
            background_writeback: true,
            probe: Probe::default(),
        }
    }
}

impl VolumeOptions {
    /// The defaults: 4096-byte blocks, one block per cluster, delayed allocation, no inline data.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes in one block: a power of two from 512 to 4096, the default; a multiple of the device's
    /// [alignment](crate::device::Limits::alignment).
    pub fn block_size(mut self, bytes: u64) -> Self {
        self.block_size = bytes;
        self
    }

    /// Blocks in one allocation cluster ("bigalloc"): a power of two up to 2^16; 1 by default.
    pub fn cluster_blocks(mut self, blocks: u64) -> Self {
        self.cluster_blocks = blocks;
        self
    }

    /// Whether allocation is delayed until writeback, as it is by default.
    pub fn delayed_allocation(mut self, delayed: bool) -> Self {
        self.delayed = delayed;
        self
    }

    /// The longest a file may get inside the mapping store before it moves to blocks, in bytes; at most
    /// 4096. None by default.
    pub fn inline_limit(mut self, bytes: u64) -> Self {
        self.inline_limit = bytes;
        self
    }

    /// Clusters in one allocation group, at least one; 32,768 by default.
    pub fn group_clusters(mut self, clusters: u64) -> Self {
        self.group_clusters = clusters;
        self
    }

    /// While fewer clusters than this are free beyond the promised ones, writes allocate at once instead
    /// of delaying. By default a sixty-fourth of the volume.
    pub fn low_space_clusters(mut self, clusters: u64) -> Self {
        self.low_space_clusters = Some(clusters);
        self
    }

    /// The most pages of 4096 bytes that the volume keeps in memory: beyond them, clean ones that were not used lately
    /// leave. Dirty ones stay until they are written. By default 2^18, a GiB.
    pub fn cached_pages(mut self, pages: u64) -> Self {
        self.cached_pages = pages;
        self
    }

    /// From `background` dirty pages on they are written back in the background; from `most` on, writers wait until
    /// fewer are dirty or all were tried. One call may dirty more. By default a tenth and a fifth of the
    /// [cached pages](Self::cached_pages).
    pub fn dirty_pages(mut self, background: u64, most: u64) -> Self {
        self.dirty_pages = Some((background, most));
        self
    }

    /// Writes a file back in the background when it has had dirty pages for so long, give or take a quarter, or 5 ms if
    /// that is more. Not by default.
    pub fn dirty_age(mut self, age: Duration) -> Self {
        self.dirty_age = Some(age);
        self
    }

    /// Whether anything is written back in the background, as it is by default. If not, everything waits for a sync, and
    /// no writer does.
    pub fn background_writeback(mut self, background: bool) -> Self {
        self.background_writeback = background;
        self
    }

    pub(super) fn dirty_limits(&self) -> Option<DirtyLimits> {
        let parts = (self.cached_pages / 10, self.cached_pages / 5);
        let (background, most) = self.dirty_pages.unwrap_or(parts);
        self.background_writeback.then_some(DirtyLimits {
            background: background.max(1),
            most: most.max(1),
            age: self.dirty_age,
        })
    }

    pub(super) fn geometry(&self) -> Result<Geometry> {
        Geometry::new(self.block_size, self.cluster_blocks)
    }

    /// What a test changes inside the volume.
    #[cfg(feature = "testing")]
    pub fn probe(mut self, probe: Probe) -> Self {
        self.probe = probe;
        self
    }
}
