//! What a caller wants to have allocated.

use crate::units::{ClusterRatio, DiskBlock};

/// A wish for clusters in one run. The answer has from one up to [`clusters`](Self::clusters) of them: all, where a
/// free run of that length exists and its group is not busy. On a volume of more than 64 groups that is sure for
/// [`at_least`](Self::at_least) only, or where a run twice as long exists: of the groups that may have none, some are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct AllocRequest {
    clusters: u64,
    minimum: u64,
    goal: Option<Goal>,
    align: u64,
    stream: u64,
}

/// Where on the volume a run would best lie. The cluster of the block is meant; a block outside the volume is no goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Goal {
    /// Beginning exactly here, behind the extent before it in the file, even if only a part of the wish is free here.
    From(DiskBlock),
    /// Ending exactly before this block, ahead of the extent behind it in the file; all of the wish or nothing.
    UpTo(DiskBlock),
    /// Somewhere from here on; all of the wish or nothing.
    Near(DiskBlock),
}

impl AllocRequest {
    /// `clusters` clusters, anywhere.
    pub const fn anywhere(clusters: u64) -> Self {
        Self {
            clusters,
            minimum: 1,
            goal: None,
            align: 1,
            stream: 0,
        }
    }

    /// `clusters` clusters, best from the cluster of `block` on: [`Goal::From`].
    pub const fn near(block: DiskBlock, clusters: u64) -> Self {
        Self::anywhere(clusters).goal(Goal::From(block))
    }

    /// The same, with this goal.
    pub const fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    /// The same, but with fewer than `clusters` clusters only where no group that nobody works on has so many in a run. 1 by
    /// default.
    pub const fn at_least(mut self, clusters: u64) -> Self {
        self.minimum = clusters;
        self
    }

    /// The same, with a start that is a multiple of `clusters` clusters if any such run has all of the wish, as for
    /// the stripes of an array of disks.
    pub const fn aligned(mut self, clusters: u64) -> Self {
        self.align = clusters;
        self
    }

    /// The same, of this stream: requests of one stream without a goal begin to look at the same place. Streams share a
    /// few places, one for each processor; the number of the file is a good stream.
    pub const fn stream(mut self, stream: u64) -> Self {
        self.stream = stream;
        self
    }

    /// The same, of another length.
    pub(super) const fn of(self, clusters: u64) -> Self {
        Self { clusters, ..self }
    }

    /// Clusters wanted.
    pub const fn clusters(&self) -> u64 {
        self.clusters
    }

    /// What a search needs to know of it, if it may have `clusters`.
    pub(super) fn wanted(&self, clusters: u64, ratio: ClusterRatio) -> Wanted {
        Wanted {
            length: clusters,
            minimum: self.minimum.clamp(1, clusters),
            align: self.align.max(1),
            goal: self.goal.map(|goal| goal.place(ratio)),
            stream: self.stream,
        }
    }
}

impl Goal {
    pub(super) const fn place(self, ratio: ClusterRatio) -> Place {
        match self {
            Self::From(block) => Place::From(block.0 / ratio.blocks()),
            Self::UpTo(block) => Place::UpTo(block.0 / ratio.blocks()),
            Self::Near(block) => Place::Near(block.0 / ratio.blocks()),
        }
    }
}

/// A request in clusters, counted from the start of the volume.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// At least one.
    pub(super) length: u64,
    /// From 1 to `length`.
    pub(super) minimum: u64,
    pub(super) align: u64,
    pub(super) goal: Option<Place>,
    pub(super) stream: u64,
}

/// A [`Goal`] in clusters.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    From(u64),
    UpTo(u64),
    Near(u64),
}

impl Place {
    /// A cluster in the group to search first.
    pub(super) const fn cluster(self) -> u64 {
        match self {
            Self::From(cluster) | Self::Near(cluster) => cluster,
            Self::UpTo(end) => end.saturating_sub(1),
        }
    }
}
