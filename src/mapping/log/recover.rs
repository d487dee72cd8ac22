//! Recovery: the last image, and behind it every transaction of the log that is there as a whole.

use std::collections::BTreeMap;
use std::mem;

use crate::device::BlockDevice;
use crate::error::{Error, Result};
use crate::probe::{Mutation, Probe};
use crate::spans::span;
use crate::units::FileNumber;

use super::super::table::FileState;
use super::finding::{self, Finding};
use super::image;
use super::layout::{Layout, MOST_MOVED, SECTOR, UNIT};
use super::record::Change;
use super::sector::Sector;
use super::superblock::{BEYOND_REACH, Copy, Superblock, latest};
use super::wire::Reader;

/// What a device holds.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) superblock: Superblock,
    pub(super) layout: Layout,
    pub(super) files: BTreeMap<FileNumber, FileState>,
    /// The log is not empty, or the copies of the superblock differ.
    pub(super) in_doubt: bool,
    damaged_copies: Vec<usize>,
}

impl Recovered {
    /// A store that was just made.
    pub(super) fn empty(superblock: Superblock, layout: Layout) -> Self {
        Self {
            superblock,
            layout,
            files: BTreeMap::new(),
            in_doubt: false,
            damaged_copies: Vec::new(),
        }
    }

    /// What contradicts something else.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let copies = self.damaged_copies.iter();
        let damaged = copies.map(|&copy| Finding::DamagedSuperblock { copy });
        let mut findings: Vec<_> = damaged.collect();
        let (geometry, bytes) = (self.superblock.geometry, self.superblock.device_bytes);
        findings.extend(finding::audit(
            &self.files,
            geometry,
            self.layout.end..bytes,
        ));
        findings
    }
}

/// Reads the store on `device`.
pub(super) fn recover(device: &dyn BlockDevice, probe: &Probe) -> Result<Recovered> {
    span!(DEBUG, "recover");
    let (copies, layout) = superblocks(device)?;
    let superblock = latest(&copies)?.clone();
    if superblock.device_bytes > device.size()
        || superblock.device_bytes < layout.least_device(superblock.geometry)
        // Where the one copy has led to the other, the next recovery must look again.
        || layout != Layout::of(superblock.device_bytes)
        || superblock.image.bytes > layout.image_bytes()
        || superblock.generation >= BEYOND_REACH
    {
        return Err(Error::Corrupt("the superblock is not that of this device"));
    }
    layout.check_clusters(superblock.device_bytes, superblock.geometry)?;
    let image = layout.image(superblock.generation);
    let files = image::read(device, image.start, &superblock.image)?;
    let mut log = vec![0; (layout.log.end - layout.log.start) as usize];
    device.read_at(layout.log.start, &mut log)?;
    let (transactions, is_empty) = transactions(&log, superblock.generation, probe)?;
    let mut replay = Replay::from(files);
    for transaction in transactions {
        replay.transaction(&transaction)?;
    }
    if replay.image_bytes > layout.image_bytes() {
        return Err(Error::Corrupt("the mapping is longer than an image"));
    }
    let damaged = (0..2).filter(|&copy| !matches!(copies[copy], Copy::Good(_)));
    Ok(Recovered {
        layout,
        files: replay.files,
        in_doubt: !is_empty || copies[0] != copies[1],
        damaged_copies: damaged.collect(),
        superblock,
    })
}

/// Both copies of the superblock, and the layout that they tell of.
pub(super) fn superblocks(device: &dyn BlockDevice) -> Result<([Copy; 2], Layout)> {
    let mut layout = Layout::of(device.size());
    if device.size() < layout.end {
        return Err(Error::Corrupt("the device is too small for a volume"));
    }
    let first = read_copy(device, layout.superblocks[0])?;
    // A device may have grown since.
    if let Copy::Good(superblock) = &first
        && superblock.device_bytes <= device.size()
    {
        layout = Layout::of(superblock.device_bytes);
    }
    let second = read_copy(device, layout.superblocks[1])?;
    // Without the first copy the second one is sought by the size of the device. If that has grown, a file may lie there,
    // and its bytes be anything.
    let only_second = !matches!(first, Copy::Good(_)) && matches!(second, Copy::Good(_));
    if only_second && layout.smaller().any(|smaller| ends(device, &smaller)) {
        return Err(Error::Corrupt("the volume may be smaller than its device"));
    }
    Ok(([first, second], layout))
}

fn read_copy(device: &dyn BlockDevice, offset: u64) -> Result<Copy> {
    let mut unit = [0; UNIT as usize];
    device.read_at(offset, &mut unit)?;
    Ok(Copy::read(&unit[..SECTOR]))
}

/// Whether a volume of that layout has its last copy of the superblock on `device`.
fn ends(device: &dyn BlockDevice, layout: &Layout) -> bool {
    let last = read_copy(device, layout.superblocks[1]);
    matches!(last, Ok(Copy::Good(last)) if Layout::of(last.device_bytes) == *layout)
}

/// The whole transactions of the log, in order, and whether it has nothing of this generation at all.
fn transactions(log: &[u8], generation: u64, probe: &Probe) -> Result<(Vec<Vec<u8>>, bool)> {
    let sectors = log.chunks_exact(SECTOR);
    let accepts_torn = probe.is(Mutation::AcceptTornTransaction);
    let mut whole: Vec<Vec<u8>> = Vec::new();
    let mut transaction = Vec::new();
    let mut is_empty = true;
    let mut ended = false;
    for (position, bytes) in sectors.enumerate() {
        let sector = Sector::read(bytes);
        let (tag, payload) = match sector {
            Sector::Sealed(tag, payload) if tag.generation == generation => (tag, payload),
            Sector::Sealed(tag, _) if tag.generation > generation => {
                return Err(Error::Corrupt("a sector of the log is from the future"));
            }
            Sector::Damaged if !ended => {
                return Err(Error::Corrupt("a sector of the log fails its checksum"));
            }
            Sector::Sealed(_, old) if accepts_torn && !transaction.is_empty() => {
                transaction.extend(old);
                continue;
            }
            Sector::Empty if accepts_torn && !transaction.is_empty() => continue,
            // The end, where nothing of this generation was written or it did not arrive.
            _ => {
                ended = true;
                continue;
            }
        };
        is_empty = false;
        // Behind the end there can only be more of the one transaction that did not arrive.
        if tag.position as usize != position || tag.transaction as usize != whole.len() {
            return Err(Error::Corrupt("a sector of the log is out of place"));
        }
        if ended {
            continue;
        }
        transaction.extend(payload);
        if tag.last {
            whole.push(mem::take(&mut transaction));
        }
    }
    Ok((whole, is_empty))
}

/// The files while the log is replayed.
struct Replay {
    files: BTreeMap<FileNumber, FileState>,
    image_bytes: u64,
    /// Extents moved or converted so far.
    moved: u64,
}

impl Replay {
    fn from(files: Vec<(FileNumber, FileState)>) -> Self {
        Self {
            image_bytes: files.iter().map(|(_, file)| image::bytes_of(file)).sum(),
            files: files.into_iter().collect(),
            moved: 0,
        }
    }

    fn transaction(&mut self, transaction: &[u8]) -> Result<()> {
        let mut records = Reader(transaction);
        let image_bytes = records.u64();
        while !records.0.is_empty() {
            let (number, change) = Change::decode(&mut records)?;
            let file = self.files.entry(number).or_default();
            self.moved += change.moves(file);
            if self.moved > MOST_MOVED {
                return Err(Error::Corrupt("the log moves more than any log does"));
            }
            let (after, _removed) = change
                .apply(file)
                .map_err(|_| Error::Corrupt("a record of the log does not fit the mapping"))?;
            self.image_bytes = self.image_bytes - image::bytes_of(file) + image::bytes_of(&after);
            *file = after;
        }
        match image_bytes == Some(self.image_bytes) {
            true => Ok(()),
            false => Err(Error::Corrupt("the log does not lead to what it says")),
        }
    }
}
