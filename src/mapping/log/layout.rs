//! Where on the device what lies: format version 1, as `ARCHITECTURE.md` documents it.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::units::{Geometry, MAX_VOLUME_CLUSTERS};

/// What is written at once is made of these: no device needs more to be aligned.
pub(super) const UNIT: u64 = 4096;

/// What a device writes whole or not at all.
pub(super) const SECTOR: usize = 512;

/// The least and the most that an image of the mapping may take.
const IMAGE_BYTES: [u64; 2] = [16 << 10, 256 << 20];

/// The least and the most that the log takes.
const LOG_BYTES: [u64; 2] = [16 << 10, 32 << 20];

/// The part of a device that each of them takes in between.
const PART: u64 = 256;

/// How many extents the records of one log may move or convert together: recovery does all of it again, and a short record
/// may be about all of a file. More than there is room for records that are about one each.
pub(super) const MOST_MOVED: u64 = 1 << 22;

/// The places of everything that is not a file's, in bytes from the start of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// The two copies of the superblock, one unit each: first and last.
    pub(super) superblocks: [u64; 2],
    pub(super) log: Range<u64>,
    /// Images of even generations, and of odd ones.
    pub(super) images: [Range<u64>; 2],
    /// Where files may begin.
    pub(super) end: u64,
}

impl Layout {
    /// The layout of a volume on the first `device_bytes` bytes of a device.
    pub(super) fn of(device_bytes: u64) -> Self {
        let part = |[least, most]: [u64; 2]| (device_bytes / PART / UNIT * UNIT).clamp(least, most);
        let mut next = UNIT;
        let mut place = |len| {
            next += len;
            next - len..next
        };
        let log = place(part(LOG_BYTES));
        let images = [place(part(IMAGE_BYTES)), place(part(IMAGE_BYTES))];
        let last = place(UNIT);
        Self {
            superblocks: [0, last.start],
            log,
            images,
            end: last.end,
        }
    }

    /// The layouts of smaller volumes whose last copy of the superblock lies before that of this one.
    pub(super) fn smaller(&self) -> impl Iterator<Item = Self> {
        let last = self.superblocks[1];
        (0..)
            .map(|units| Self::of(units * UNIT * PART))
            .take_while(move |smaller| smaller.superblocks[1] < last)
    }

    /// How long a device must be that has a cluster for files.
    pub(super) fn least_device(&self, geometry: Geometry) -> u64 {
        let cluster = geometry.cluster_bytes();
        self.end.next_multiple_of(cluster) + cluster
    }

    /// Refuses a volume on a device of `device_bytes` bytes, which is long enough, whose clusters nobody could count.
    pub(super) fn check_clusters(&self, device_bytes: u64, geometry: Geometry) -> Result<()> {
        let cluster = geometry.cluster_bytes();
        let usable = device_bytes / cluster - self.end.div_ceil(cluster);
        match usable <= MAX_VOLUME_CLUSTERS {
            true => Ok(()),
            false => Err(Error::NotSupported(
                "a volume of more than 2^32 - 1 clusters",
            )),
        }
    }

    /// How many sectors the log has.
    pub(super) fn log_sectors(&self) -> u32 {
        // At most 32 MiB of them.
        ((self.log.end - self.log.start) / SECTOR as u64) as u32
    }

    /// How many bytes an image may have.
    pub(super) fn image_bytes(&self) -> u64 {
        self.images[0].end - self.images[0].start
    }

    /// Where the image of `generation` lies.
    pub(super) fn image(&self, generation: u64) -> &Range<u64> {
        &self.images[(generation % 2) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overlaps_and_little_is_taken_from_a_mebibyte_to_many_tebibytes() {
        for shift in 20..45 {
            let device = 1 << shift;
            let layout = Layout::of(device);
            let [even, odd] = layout.images.clone();
            let [first, last] = layout.superblocks;
            let places = [
                first..first + UNIT,
                layout.log.clone(),
                even,
                odd,
                last..last + UNIT,
            ];
            assert!(
                places.windows(2).all(|two| two[0].end == two[1].start),
                "{layout:?}"
            );
            assert!(places.iter().all(|place| place.start % UNIT == 0));
            assert_eq!(places[4].end, layout.end);
            assert!(layout.end <= device / 16, "{layout:?}");
        }
    }
}
