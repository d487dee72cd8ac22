//! The invariants that hold whenever no operation is half done.
//!
//! Their numbers are used in all tests and pages.
//!
//! | | checked here |
//! |---|---|
//! | I1 | reserved clusters are those with a delayed and no allocated block; their sum is what the ledger has promised |
//! | I2 | status entries are sorted, disjoint, not empty, maximally merged, below 2^32 - 1 |
//! | I3 | status entries agree with the mapping store |
//! | I4 | delayed blocks are not mapped, and dirty in the page cache; dirty blocks are backed |
//! | I5 | pending clusters are those with delayed and allocated blocks; places keep their offset in the cluster |
//! | I6 | the count of allocated clusters is that of the store |
//! | I7, I8 | free clusters of the ledger are those that the groups have free or set aside |
//! | I10 | clean pages hold what the volume holds; nothing but zeros behind the end of the file |
//! | I12 | the stored size is the size, unless the last block still waits for writeback |
//! | I13 | dirty blocks are valid, blocks that are not valid hold zeros |
//! | I14 | no cluster has two owners; the clusters in use are those of the files |
//! | I15 to I17 | counters, index and lists of each group are what its bitmap says; what is set aside does not overlap |
//! | I18 | the counts of status entries are right |
//! | I19 | after a full sync nothing is delayed, reserved or pending ([`check_synced`]) |
//! | I21 | `statfs` adds up |
//!
//! I15 to I17 are what [`Allocator::check`](crate::allocator::Allocator::check) looks at, and are reported as I7.
//!
//! The others are about more than one moment, and checked elsewhere:
//!
//! | | by |
//! |---|---|
//! | I9 | each change of a mapping raises the change counter: `tests/races.rs`, the models in `tests/schedules` |
//! | I11 | what is freed is used again only when that is durable, and all I/O to it has ended: `tests/crash.rs`, `tests/recovery.rs` |
//! | I20 | nothing is left of what has ended: no window of a closed file, no page or I/O of what was dropped: `tests/schedules/background.rs` |
//! | I22 | what a lookup says was true at a moment within the call: `tests/map_history.rs`, `tests/shuttle_histories.rs` |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::file::{FilePicture, Volume, VolumePicture};
use crate::map::Value;
use crate::mapping::{ExtentState, MappedExtent};
use crate::status::{Status, StatusExtent};
use crate::units::{FileBlock, FileNumber, Geometry, MAX_FILE_BLOCKS};

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The number of the invariant: 1 for I1.
    pub invariant: u8,
    /// The file, if it is about one.
    pub file: Option<FileNumber>,
    /// What is wrong.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I{}", self.invariant)?;
        if let Some(file) = self.file {
            write!(f, ", file {file}")?;
        }
        write!(f, ": {}", self.text)
    }
}

/// Checks every invariant that one instant of a volume can show.
///
/// Takes the locks of all files, so it waits for operations under way and must not be called from within
/// one. Allocations and promises that a caller holds by itself, outside any file, are seen as violations.
///
/// # Errors
/// What does not hold.
pub fn check(volume: &Volume) -> Result<(), Vec<Violation>> {
    report(volume, check_picture)
}

/// Checks what holds in addition after [`Volume::sync`] when nothing was written since (I19).
///
/// # Errors
/// As [`check`].
pub fn check_synced(volume: &Volume) -> Result<(), Vec<Violation>> {
    report(volume, check_synced_picture)
}

fn report(volume: &Volume, check: fn(&VolumePicture, &mut Findings)) -> Result<(), Vec<Violation>> {
    let mut findings = Findings::default();
    match volume.picture() {
        Ok(picture) => check(&picture, &mut findings),
        Err(error) => findings.add(3, format!("the mapping store cannot be read: {error}")),
    }
    match findings.violations.is_empty() {
        true => Ok(()),
        false => Err(findings.violations),
    }
}

/// Collects violations.
#[derive(Debug, Default)]
struct Findings {
    violations: Vec<Violation>,
    file: Option<FileNumber>,
}

impl Findings {
    fn add(&mut self, invariant: u8, text: String) {
        self.violations.push(Violation {
            invariant,
            file: self.file,
            text,
        });
    }

    fn expect(&mut self, invariant: u8, holds: bool, text: impl FnOnce() -> String) {
        if !holds {
            self.add(invariant, text());
        }
    }

    fn expect_equal<T: PartialEq + fmt::Debug>(
        &mut self,
        invariant: u8,
        what: &str,
        is: T,
        should_be: T,
    ) {
        self.expect(invariant, is == should_be, || {
            format!("{what}: {is:?}, should be {should_be:?}")
        });
    }
}

fn check_picture(picture: &VolumePicture, findings: &mut Findings) {
    let mut reserved = 0;
    for file in &picture.files {
        findings.file = Some(file.number);
        check_entries(file, findings);
        check_file(file, picture.geometry, findings);
        check_cache(file, picture.geometry, findings);
        reserved += file.reserved_clusters;
    }
    findings.file = None;
    let used = check_owners(picture, findings);

    let ratio = picture.geometry.cluster.blocks();
    let statfs = picture.statfs;
    let promised = statfs.delayed_blocks / ratio;
    findings.expect_equal(1, "clusters promised by the ledger", promised, reserved);
    if let Err(error) = &picture.allocator {
        findings.add(7, error.to_string());
    }
    findings.expect_equal(
        21,
        "free, delayed and used blocks together",
        statfs.free_blocks + statfs.delayed_blocks + used * ratio,
        statfs.blocks,
    );
}

fn check_synced_picture(picture: &VolumePicture, findings: &mut Findings) {
    for file in &picture.files {
        findings.file = Some(file.number);
        let delayed = file.status.iter().find(|entry| entry.status.is_delayed());
        findings.expect_equal(19, "delayed entry", delayed, None);
        let dirty = file.cached.iter().find(|cached| cached.dirty);
        findings.expect_equal(19, "dirty block", dirty.map(|cached| cached.block), None);
        findings.expect_equal(19, "reserved clusters", file.reserved_clusters, 0);
        findings.expect_equal(19, "first pending cluster", file.pending.first(), None);
        findings.expect_equal(19, "stored size", file.stored_size, file.size);
    }
    findings.file = None;
    findings.expect_equal(19, "promised blocks", picture.statfs.delayed_blocks, 0);
}

/// The form of the status tree: I2, I18.
fn check_entries(file: &FilePicture, findings: &mut Findings) {
    for entry in &file.status {
        let range = entry.range;
        findings.expect(
            2,
            !range.is_empty() && range.end().0 <= MAX_FILE_BLOCKS,
            || format!("an entry of {range:?}"),
        );
    }
    for pair in file.status.windows(2) {
        let (left, right) = (pair[0], pair[1]);
        findings.expect(2, left.range.end() <= right.range.start(), || {
            format!("{left:?} overlaps {right:?}")
        });
        let merges = left.range.end() == right.range.start()
            && left.status.can_merge(left.range.len(), right.status);
        findings.expect(2, !merges, || {
            format!("{left:?} and {right:?} are not merged")
        });
    }
    let reclaimable = file
        .status
        .iter()
        .filter(|entry| !entry.status.is_delayed());
    findings.expect_equal(18, "entries", file.entry_count, file.status.len() as u64);
    findings.expect_equal(
        18,
        "reclaimable entries",
        file.reclaimable_count,
        reclaimable.count() as u64,
    );
}

/// What status tree, store and counts say about each other: I1, I3, I4, I5, I6, I12.
fn check_file(file: &FilePicture, geometry: Geometry, findings: &mut Findings) {
    let ratio = geometry.cluster;
    let mapped: BTreeMap<FileBlock, Status> = file.mapped.iter().flat_map(blocks_of).collect();
    let delayed: BTreeSet<FileBlock> = file
        .status
        .iter()
        .filter(|entry| entry.status.is_delayed())
        .flat_map(|entry| entry.range.blocks())
        .collect();

    for entry in &file.status {
        check_entry(entry, &mapped, findings);
    }
    for extent in &file.mapped {
        let start = extent.range.start();
        findings.expect_equal(
            5,
            "offset in the cluster on the volume",
            extent.disk.0 % ratio.blocks(),
            ratio.offset_in_cluster(start),
        );
    }

    let clusters_of = |block: &FileBlock| ratio.cluster_of(*block);
    let allocated_clusters: BTreeSet<u64> = mapped.keys().map(clusters_of).collect();
    let delayed_clusters: BTreeSet<u64> = delayed.iter().map(clusters_of).collect();
    let pending: Vec<u64> = delayed_clusters
        .intersection(&allocated_clusters)
        .copied()
        .collect();
    let reserved = delayed_clusters.difference(&allocated_clusters).count() as u64;
    findings.expect_equal(1, "reserved clusters", file.reserved_clusters, reserved);
    // Where a cluster is one block, a delayed and an allocated one are I4's business.
    if ratio.is_one() {
        findings.expect_equal(5, "first pending cluster", file.pending.first(), None);
    } else {
        findings.expect_equal(5, "pending clusters", &file.pending, &pending);
    }
    findings.expect_equal(
        6,
        "allocated clusters",
        file.allocated_clusters,
        allocated_clusters.len() as u64,
    );

    let dirty: BTreeSet<FileBlock> = file
        .cached
        .iter()
        .filter(|cached| cached.dirty)
        .map(|cached| cached.block)
        .collect();
    for block in delayed.difference(&dirty) {
        findings.add(4, format!("{block:?} is delayed and not dirty"));
    }
    for &block in &dirty {
        let backed = delayed.contains(&block) || mapped.contains_key(&block);
        findings.expect(4, backed, || format!("{block:?} is dirty and not backed"));
        let start = geometry.block_size.offset_of(block);
        findings.expect(12, start < file.size, || {
            format!("{block:?} is dirty behind the end of the file")
        });
    }
    let last = geometry.block_size.block_of(file.size.saturating_sub(1));
    let waits = file.stored_size < file.size && dirty.contains(&last);
    findings.expect(12, waits || file.stored_size == file.size, || {
        format!("size {} is stored as {}", file.size, file.stored_size)
    });
    if file.inline {
        findings.expect_equal(3, "blocks of an inline file", mapped.len(), 0);
    }
}

/// Compares one status entry with what the store has mapped, block by block (I3, I4); a hole may be as
/// long as a file can be, so the mapped blocks are walked instead.
fn check_entry(
    entry: &StatusExtent,
    mapped: &BTreeMap<FileBlock, Status>,
    findings: &mut Findings,
) {
    let range = entry.range;
    if entry.status.is_allocated() {
        for block in range.blocks() {
            let known = entry.status.advance(block.0 - range.start().0);
            findings.expect(3, mapped.get(&block) == Some(&known), || {
                format!(
                    "{block:?} is {known:?} but stored as {:?}",
                    mapped.get(&block)
                )
            });
        }
        return;
    }
    let invariant = if entry.status.is_delayed() { 4 } else { 3 };
    if let Some((block, stored)) = mapped.range(range.start()..range.end()).next() {
        findings.add(
            invariant,
            format!("{block:?} is {:?} but stored as {stored:?}", entry.status),
        );
    }
}

/// Each block of an extent with the status it should have.
fn blocks_of(extent: &MappedExtent) -> impl Iterator<Item = (FileBlock, Status)> + '_ {
    extent.range.blocks().map(|block| {
        let disk = extent.disk_of(block);
        match extent.state {
            ExtentState::Written => (block, Status::Written(disk)),
            ExtentState::Unwritten => (block, Status::Unwritten(disk)),
        }
    })
}

/// The content of the page cache: I10, I13.
fn check_cache(file: &FilePicture, geometry: Geometry, findings: &mut Findings) {
    for cached in &file.cached {
        let block = cached.block;
        findings.expect(13, cached.valid || !cached.dirty, || {
            format!("{block:?} is dirty and not valid")
        });
        let zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        findings.expect(13, cached.valid || zero(&cached.bytes), || {
            format!("{block:?} is not valid and not zero")
        });
        let start = geometry.block_size.offset_of(block);
        let inside = file
            .size
            .saturating_sub(start)
            .min(geometry.block_size.bytes());
        findings.expect(10, zero(&cached.bytes[inside as usize..]), || {
            format!("{block:?} has bytes behind the end of the file")
        });
        if let Some(stored) = cached
            .stored
            .as_ref()
            .filter(|_| cached.valid && !cached.dirty)
        {
            findings.expect(10, *stored == cached.bytes, || {
                format!("{block:?} is clean and differs from the volume")
            });
        }
    }
}

/// Who owns which cluster of the volume (I14); how many have an owner.
fn check_owners(picture: &VolumePicture, findings: &mut Findings) -> u64 {
    let ratio = picture.geometry.cluster;
    let mut owners = BTreeMap::new();
    for (file, extents) in &picture.mapped {
        for extent in extents {
            let (first, end) = ratio.clusters_touched(extent.range);
            let base = extent.disk.0 / ratio.blocks();
            for (place, cluster) in (base..).zip(first..end) {
                let owner = (*file, cluster);
                let other = *owners.entry(place).or_insert(owner);
                findings.expect(14, other == owner, || {
                    format!("cluster {place} belongs to {owner:?} and {other:?}")
                });
            }
        }
    }
    let in_use: BTreeSet<u64> = picture
        .allocated
        .iter()
        .flat_map(|run| run.start.0 / ratio.blocks()..run.end().0 / ratio.blocks())
        .collect();
    let owned: BTreeSet<u64> = owners.into_keys().collect();
    let lost: Vec<_> = in_use.difference(&owned).collect();
    let freed = picture.held_back_clusters;
    findings.expect(14, lost.len() as u64 == freed, || {
        format!("clusters {lost:?} belong to nobody, {freed} of them were freed")
    });
    let free: Vec<_> = owned.difference(&in_use).collect();
    findings.expect(14, free.is_empty(), || {
        format!("clusters {free:?} are free and owned")
    });
    in_use.len() as u64 - freed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::MemoryDevice;
    use crate::error::Error;
    use crate::file::VolumeOptions;
    use crate::sync::Arc;
    use crate::units::{ClusterRatio, DiskBlock, DiskRun, FileRange};

    /// Clusters of four blocks of 1 KiB. File 1 has a written cluster, one both written and delayed, and
    /// a delayed one; file 2 has a written cluster.
    fn volume() -> Volume {
        let options = VolumeOptions::new().block_size(1024).cluster_blocks(4);
        let volume = Volume::format(Arc::new(MemoryDevice::new(1 << 20)), &options).unwrap();
        let file = volume.file(FileNumber(1)).unwrap();
        file.write_at(0, &[1; 6 << 10]).unwrap();
        volume
            .file(FileNumber(2))
            .unwrap()
            .write_at(0, &[2; 1000])
            .unwrap();
        volume.sync().unwrap();
        file.write_at(6 << 10, &[3; 3000]).unwrap();
        volume
    }

    fn found(check: fn(&VolumePicture, &mut Findings), picture: &VolumePicture) -> BTreeSet<u8> {
        let mut findings = Findings::default();
        check(picture, &mut findings);
        let violations = findings.violations.iter();
        violations.map(|violation| violation.invariant).collect()
    }

    fn shifted(entry: StatusExtent, blocks: u64) -> StatusExtent {
        let range = entry.range;
        StatusExtent {
            range: FileRange::at(range.start().advance(blocks), range.len()),
            status: entry.status,
        }
    }

    #[test]
    fn a_sound_volume_has_no_violation_and_every_damage_to_it_is_named() {
        let sound = volume().picture().unwrap();
        assert_eq!(found(check_picture, &sound), BTreeSet::new());
        type Damage = fn(&mut VolumePicture);
        let damages: &[(u8, Damage)] = &[
            (1, |p| p.files[0].reserved_clusters += 1),
            (1, |p| p.statfs.delayed_blocks -= 4),
            (2, |p| {
                let entry = p.files[0].status[0];
                let (left, right) = (
                    FileRange::at(FileBlock(0), 1),
                    FileRange::starting_at(FileBlock(1)),
                );
                p.files[0]
                    .status
                    .splice(0..1, [entry.clip(left), entry.clip(right)]);
            }),
            (2, |p| {
                let first = p.files[0].status[0];
                p.files[0].status[1] = shifted(first, 1);
            }),
            (2, |p| {
                p.files[0].status.insert(
                    0,
                    StatusExtent {
                        range: FileRange::at(FileBlock(0), 0),
                        status: Status::Hole,
                    },
                )
            }),
            (2, |p| {
                p.files[1].status.push(StatusExtent {
                    range: FileRange::at(FileBlock(MAX_FILE_BLOCKS - 1), 2),
                    status: Status::Hole,
                })
            }),
            (3, |p| p.files[0].mapped[0].state = ExtentState::Unwritten),
            (3, |p| p.files[0].mapped[0].disk.0 += 4),
            (3, |p| p.files[0].status[0].status = Status::Hole),
            (3, |p| p.files[1].inline = true),
            (4, |p| p.files[0].status[0].status = Status::Delayed),
            (4, |p| {
                p.files[0].cached.retain(|cached| cached.block.0 != 7)
            }),
            (4, |p| {
                p.files[1].mapped.clear();
                p.files[1].cached[0].dirty = true;
            }),
            (5, |p| p.files[0].pending.clear()),
            (5, |p| p.files[0].pending.push(2)),
            (5, |p| p.files[0].mapped[0].disk.0 += 1),
            (5, |p| p.geometry.cluster = ClusterRatio::ONE),
            (6, |p| p.files[0].allocated_clusters += 1),
            (7, |p| p.allocator = Err(Error::NoSpace)),
            (10, |p| p.files[0].cached[0].bytes[0] ^= 1),
            (10, |p| p.files[1].cached[0].bytes[1000] = 1),
            (12, |p| p.files[1].stored_size -= 1),
            (12, |p| p.files[1].stored_size += 1),
            (12, |p| p.files[0].size = 0),
            (13, |p| p.files[0].cached[6].valid = false),
            (13, |p| p.files[1].cached[1].bytes[0] = 1),
            (14, |p| p.mapped[1].1[0].disk = p.mapped[0].1[0].disk),
            (14, |p| {
                p.mapped[0].1[0].range = FileRange::at(FileBlock(0), 4)
            }),
            (14, |p| p.allocated.push(DiskRun::new(DiskBlock(400), 4))),
            (14, |p| p.allocated.clear()),
            (18, |p| p.files[0].entry_count += 1),
            (18, |p| p.files[0].reclaimable_count += 1),
            (21, |p| p.statfs.free_blocks += 4),
        ];
        for (number, (invariant, damage)) in damages.iter().enumerate() {
            let mut picture = sound.clone();
            damage(&mut picture);
            let found = found(check_picture, &picture);
            assert!(
                found.contains(invariant),
                "damage {number}: I{invariant}, {found:?}"
            );
        }
    }

    #[test]
    fn what_a_sync_must_settle_is_named_before_it_and_not_after() {
        let volume = volume();
        let violations = check_synced(&volume).unwrap_err();
        let names = [
            "delayed entry",
            "dirty block",
            "reserved",
            "pending",
            "stored size",
            "promised",
        ];
        for name in names {
            let told = violations
                .iter()
                .any(|violation| violation.text.contains(name));
            assert!(told, "{name}: {violations:?}");
        }
        volume.sync().unwrap();
        assert_eq!(check_synced(&volume), Ok(()));
        assert_eq!(check(&volume), Ok(()));
    }
}
