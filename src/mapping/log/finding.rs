//! What can be wrong with a mapping that was read without an error.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use crate::error::Error;
use crate::units::{DiskBlock, DiskRun, FileNumber, Geometry, PAGE_SIZE};

use super::super::MappedExtent;
use super::super::table::FileState;

/// One thing that is wrong with a volume on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// This copy of the superblock (0 or 1) is damaged. The other is good; the next checkpoint writes both.
    DamagedSuperblock {
        /// Which one.
        copy: usize,
    },
    /// Superblock, image or log cannot be used. No more is known of the volume then.
    Unreadable(Error),
    /// An extent reaches out of the part of the volume that files may use.
    OutOfRange {
        /// Whose extent it is.
        file: FileNumber,
        /// The disk blocks.
        run: DiskRun,
    },
    /// A block does not have the same place in its cluster on the volume as in the file, or a cluster of the file is in
    /// two places.
    Misplaced {
        /// Whose extent it is.
        file: FileNumber,
        /// The disk blocks.
        run: DiskRun,
    },
    /// A cluster belongs to two files, or twice to one.
    Shared {
        /// The first block of the cluster.
        cluster: DiskBlock,
        /// One owner.
        file: FileNumber,
        /// The other.
        other: FileNumber,
    },
    /// A size that no file can have, or not that of the file's inline bytes.
    Size {
        /// The file.
        file: FileNumber,
        /// Its size in bytes.
        size: u64,
    },
    /// A file has inline bytes and extents, or more inline bytes than a page.
    Inline {
        /// The file.
        file: FileNumber,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DamagedSuperblock { copy } => {
                write!(f, "copy {copy} of the superblock is damaged")
            }
            Self::Unreadable(error) => write!(f, "{error}"),
            Self::OutOfRange { file, run } => {
                write!(f, "{file}: {run:?} are not the files' to use")
            }
            Self::Misplaced { file, run } => write!(f, "{file}: {run:?} are not in their cluster"),
            Self::Shared {
                cluster,
                file,
                other,
            } => write!(
                f,
                "the cluster at {cluster:?} belongs to {file} and {other}"
            ),
            Self::Size { file, size } => write!(f, "{file}: a size of {size} bytes cannot be"),
            Self::Inline { file } => write!(f, "{file}: inline bytes that cannot be"),
        }
    }
}

/// Clusters of a file, as numbers on the volume.
struct Owned {
    clusters: Range<u64>,
    file: FileNumber,
    /// The first of them in the file.
    logical: u64,
}

impl Owned {
    /// Whether both say the same of the clusters that they share.
    fn agrees(&self, other: &Self) -> bool {
        let distance = |owned: &Self| owned.clusters.start.wrapping_sub(owned.logical);
        self.file == other.file && distance(self) == distance(other)
    }
}

/// Looks for contradictions between `files`, which may use the bytes `usable` of the device.
pub(super) fn audit(
    files: &BTreeMap<FileNumber, FileState>,
    geometry: Geometry,
    usable: Range<u64>,
) -> Vec<Finding> {
    let cluster_bytes = geometry.cluster_bytes();
    let usable = usable.start.div_ceil(cluster_bytes)..usable.end / cluster_bytes;
    let mut findings = Vec::new();
    let mut owned: Vec<Owned> = Vec::new();
    for (&file, state) in files {
        let size = state.size;
        let inline = state.inline.as_ref().map(|bytes| bytes.len() as u64);
        if size > geometry.max_file_size() || inline.is_some_and(|len| len != size) {
            findings.push(Finding::Size { file, size });
        }
        if inline.is_some_and(|len| len > PAGE_SIZE || state.extents.count() > 0) {
            findings.push(Finding::Inline { file });
        }
        let first_of_file = owned.len();
        for extent in state.extents.iter() {
            let run = extent.run();
            let Some(of_extent) = clusters_of(file, extent, geometry) else {
                findings.push(Finding::Misplaced { file, run });
                continue;
            };
            let before = owned[first_of_file..].last();
            let shares = |before: &Owned| {
                let len = before.clusters.end - before.clusters.start;
                before.logical + len > of_extent.logical
            };
            if before.is_some_and(|before| shares(before) && !before.agrees(&of_extent)) {
                findings.push(Finding::Misplaced { file, run });
            }
            if of_extent.clusters.start < usable.start || of_extent.clusters.end > usable.end {
                findings.push(Finding::OutOfRange { file, run });
            }
            owned.push(of_extent);
        }
    }
    owned.sort_by_key(|owned| owned.clusters.start);
    let mut furthest: Option<&Owned> = None;
    for next in &owned {
        if let Some(before) = furthest
            && next.clusters.start < before.clusters.end
            && !before.agrees(next)
        {
            findings.push(Finding::Shared {
                cluster: DiskBlock(next.clusters.start * geometry.cluster.blocks()),
                file: before.file,
                other: next.file,
            });
        }
        if furthest.is_none_or(|before| before.clusters.end < next.clusters.end) {
            furthest = Some(next);
        }
    }
    findings
}

/// The clusters of an extent; none if its blocks are not where they should be in them.
fn clusters_of(file: FileNumber, extent: &MappedExtent, geometry: Geometry) -> Option<Owned> {
    let ratio = geometry.cluster;
    let run = extent.run();
    let offset = ratio.offset_in_cluster(extent.range.start());
    let (logical, end) = ratio.clusters_touched(extent.range);
    let first = run.start.0 / ratio.blocks();
    (run.start.0 % ratio.blocks() == offset).then_some(Owned {
        clusters: first..first + (end - logical),
        file,
        logical,
    })
}
