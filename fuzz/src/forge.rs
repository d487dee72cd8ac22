//! The format of a volume as `ARCHITECTURE.md` has it, written without the library: whatever one likes, with good
//! checksums.

use extent_map::device::{BlockDevice, ImageDevice};

pub(crate) const UNIT: u64 = 4096;
const SECTOR: usize = 512;
const PAYLOAD: usize = 488;

/// The bit beside a disk block that says that it is unwritten.
pub(crate) const UNWRITTEN: u64 = 1 << 63;

/// Where things lie on a volume of some size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    pub(crate) log: u64,
    log_bytes: u64,
    pub(crate) image_bytes: u64,
}

impl Places {
    pub(crate) fn of(device_bytes: u64) -> Self {
        let part = device_bytes / 256 / UNIT * UNIT;
        Self {
            log: UNIT,
            log_bytes: part.clamp(16 << 10, 32 << 20),
            image_bytes: part.clamp(16 << 10, 256 << 20),
        }
    }

    fn image(&self, generation: u64) -> u64 {
        self.log + self.log_bytes + generation % 2 * self.image_bytes
    }

    fn superblock(&self, copy: u64) -> u64 {
        copy * (self.log + self.log_bytes + 2 * self.image_bytes)
    }

    /// Where clusters of files may begin.
    pub(crate) fn end(&self) -> u64 {
        self.superblock(1) + UNIT
    }
}

/// A superblock, field by field.
#[derive(Clone, Debug)]
pub(crate) struct Superblock {
    pub(crate) block_bytes: u32,
    pub(crate) cluster_blocks: u32,
    pub(crate) checksum: u32,
    pub(crate) device_bytes: u64,
    pub(crate) generation: u64,
    pub(crate) image_bytes: u64,
    pub(crate) files: u64,
    pub(crate) extents: u64,
}

impl Superblock {
    /// Writes it to its place as copy 0 or 1, as far as the device has that.
    pub(crate) fn put(&self, copy: u64, places: &Places, device: &ImageDevice) {
        let mut bytes = b"extntmap".to_vec();
        for field in [1, self.block_bytes, self.cluster_blocks, self.checksum] {
            bytes.extend(field.to_le_bytes());
        }
        for field in [
            self.device_bytes,
            self.generation,
            self.image_bytes,
            self.files,
            self.extents,
        ] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.resize(SECTOR - 4, 0);
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        put(device, places.superblock(copy), &bytes);
    }
}

/// Writes `image` to the place of `generation`.
pub(crate) fn put_image(image: &[u8], generation: u64, places: &Places, device: &ImageDevice) {
    put(device, places.image(generation), image);
}

/// A file of an image without its extents; none without inline bytes.
pub(crate) fn file(number: u64, size: u64, extents: u32, inline: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend(size.to_le_bytes());
    bytes.extend(extents.to_le_bytes());
    bytes.extend(
        inline
            .map_or(u32::MAX, |inline| inline.len() as u32)
            .to_le_bytes(),
    );
    bytes.extend(inline.unwrap_or_default());
    bytes
}

/// Blocks of a file on the device.
pub(crate) fn extent(start: u32, blocks: u32, disk: u64) -> Vec<u8> {
    [range(start, blocks), disk.to_le_bytes().to_vec()].concat()
}

/// Blocks of a file.
pub(crate) fn range(start: u32, blocks: u32) -> Vec<u8> {
    [start.to_le_bytes(), blocks.to_le_bytes()].concat()
}

/// A record of a transaction.
pub(crate) fn record(kind: u8, file: u64, rest: &[u8]) -> Vec<u8> {
    [&[kind], &file.to_le_bytes()[..], rest].concat()
}

/// What the sectors of a transaction say of themselves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tag {
    pub(crate) generation: u64,
    pub(crate) position: u32,
    pub(crate) transaction: u32,
}

/// Writes a transaction to sector `at` of the log, as far as that goes; returns the sector behind it.
pub(crate) fn put_transaction(
    records: &[u8],
    image_bytes: u64,
    tag: Tag,
    at: u64,
    places: &Places,
    device: &ImageDevice,
) -> u64 {
    let bytes = [&image_bytes.to_le_bytes(), records].concat();
    let count = bytes.len().div_ceil(PAYLOAD).next_multiple_of(8);
    for index in 0..count {
        let from = (index * PAYLOAD).min(bytes.len());
        let payload = &bytes[from..(from + PAYLOAD).min(bytes.len())];
        let mut sector = vec![0; 4];
        sector.extend((payload.len() as u16).to_le_bytes());
        sector.extend([u8::from(index == count - 1), 0]);
        sector.extend(tag.generation.to_le_bytes());
        sector.extend(tag.position.wrapping_add(index as u32).to_le_bytes());
        sector.extend(tag.transaction.to_le_bytes());
        sector.extend(payload);
        sector.resize(SECTOR, 0);
        let checksum = crc32fast::hash(&sector[4..]);
        sector[..4].copy_from_slice(&checksum.to_le_bytes());
        let place = (at + index as u64) * SECTOR as u64;
        if place < places.log_bytes {
            put(device, places.log + place, &sector);
        }
    }
    at + count as u64
}

/// Whether the log has room for one more transaction of a few records.
pub(crate) fn has_room(at: u64, places: &Places) -> bool {
    (at + 8) * SECTOR as u64 <= places.log_bytes
}

fn put(device: &ImageDevice, offset: u64, bytes: &[u8]) {
    let end = offset.checked_add(bytes.len() as u64);
    if end.is_some_and(|end| end <= device.size()) {
        device.write_at(offset, bytes).expect("inside");
    }
}
