//! How a volume is formatted.

use crate::error::Result;
use crate::probe::Probe;
use crate::units::{BlockSize, ClusterRatio, Geometry};

/// Options of [`Volume::format`](super::Volume::format); the defaults are those of a plain ext4.
#[derive(Clone, Debug)]
pub struct VolumeOptions {
    pub(super) block_size: u64,
    pub(super) cluster_blocks: u64,
    pub(super) delayed: bool,
    pub(super) inline_limit: u64,
    pub(super) group_clusters: u64,
    pub(super) low_space_clusters: Option<u64>,
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
            probe: Probe::default(),
        }
    }
}

impl VolumeOptions {
    /// The defaults: 4096-byte blocks, one block per cluster, delayed allocation, no inline data.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes in one block: a power of two from 512 to 4096.
    pub fn block_size(mut self, bytes: u64) -> Self {
        self.block_size = bytes;
        self
    }

    /// Blocks in one allocation cluster ("bigalloc"): a power of two.
    pub fn cluster_blocks(mut self, blocks: u64) -> Self {
        self.cluster_blocks = blocks;
        self
    }

    /// Whether allocation is delayed until writeback.
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

    /// Clusters in one allocation group.
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

    pub(super) fn geometry(&self) -> Result<Geometry> {
        Ok(Geometry {
            block_size: BlockSize::new(self.block_size)?,
            cluster: ClusterRatio::new(self.cluster_blocks)?,
        })
    }

    /// What a test changes inside the volume.
    #[cfg(feature = "testing")]
    pub fn probe(mut self, probe: Probe) -> Self {
        self.probe = probe;
        self
    }
}
