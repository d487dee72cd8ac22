//! Clusters that are allocated and yet have delayed blocks.

use std::collections::BTreeSet;

/// The pending clusters of a file, by logical cluster number; empty forever when a cluster is one
/// block.
///
/// A cluster that has both allocated and delayed blocks costs no reservation, as its space is paid
/// for. But when its allocated blocks are freed while delayed ones stay, a reservation must be made
/// again; this set tells.
#[derive(Debug, Default)]
pub(super) struct PendingClusters {
    clusters: BTreeSet<u64>,
}

impl PendingClusters {
    pub(super) fn contains(&self, cluster: u64) -> bool {
        self.clusters.contains(&cluster)
    }

    pub(super) fn len(&self) -> u64 {
        self.clusters.len() as u64
    }

    /// Records `cluster`; whether it was not yet recorded.
    pub(super) fn insert(&mut self, cluster: u64) -> bool {
        self.clusters.insert(cluster)
    }

    /// Drops the record of `cluster`; whether there was one.
    pub(super) fn remove(&mut self, cluster: u64) -> bool {
        self.clusters.remove(&cluster)
    }

    /// Drops the records of the clusters `first..end`; how many there were.
    pub(super) fn remove_range(&mut self, first: u64, end: u64) -> u64 {
        let recorded: Vec<u64> = self.clusters.range(first..end).copied().collect();
        recorded
            .iter()
            .filter(|cluster| self.clusters.remove(cluster))
            .count() as u64
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.clusters.iter().copied()
    }
}
