//! Volumes that nobody has written, made field by field with good checksums, against a store in memory and the rules for
//! what may belong to whom.

use std::collections::HashMap;
use std::sync::Arc;

use extent_map::Error;
use extent_map::device::ImageDevice;
use extent_map::file::{Volume, VolumeOptions};
use extent_map::mapping::{ExtentState, LogStore, MappedExtent, MappingStore, MemoryStore, Shift};
use extent_map::probe::Probe;
use extent_map::units::{DiskBlock, FileBlock, FileNumber, FileRange, MAX_FILE_BLOCKS, PAGE_SIZE};

use super::bytes::Bytes;
use super::forge::{self, Places, Superblock, Tag, UNWRITTEN};
use super::open_image;

/// The numbers that files have.
const FILES: [u64; 4] = [0, 1, 7, u64::MAX];

/// What is to be on the device, and what should be read there.
struct Forgery<'a> {
    choices: Bytes<'a>,
    block_bytes: u64,
    cluster_blocks: u64,
    device_bytes: u64,
    places: Places,
    model: MemoryStore,
    /// A disk block behind all that files have, unless they are told otherwise.
    fresh: u64,
    /// Something is not as any volume has it: it may be refused for that.
    lies: bool,
}

/// Makes a volume as `data` says and opens it: an error where one is due, or a volume that has what was put there, can be
/// used and closed, and is clean then.
pub fn run(data: &[u8]) {
    run_with(data, Probe::new());
}

/// The same with protections taken away from what opens the volume.
pub fn run_with(data: &[u8], probe: Probe) {
    let mut choices = Bytes::new(data);
    let block_bytes = 512 << (choices.byte().unwrap_or(3) % 4);
    let cluster_blocks = 1 << (choices.byte().unwrap_or(0) % 5);
    let device_bytes = [1 << 20, (1 << 20) + 512, 700 << 10, 5 << 20]
        [usize::from(choices.byte().unwrap_or(0)) % 4];
    let places = Places::of(device_bytes);
    let mut forgery = Forgery {
        choices,
        block_bytes,
        cluster_blocks,
        device_bytes,
        places,
        model: MemoryStore::new(),
        fresh: places.end().div_ceil(block_bytes * cluster_blocks) * cluster_blocks,
        lies: false,
    };
    let device = Arc::new(ImageDevice::new(device_bytes));
    forgery.write(&device);
    let sound = !forgery.lies && forgery.is_sound();
    let findings = Volume::check(&*device).expect("the device is good");
    let options = VolumeOptions::new().inline_limit(100).probe(probe);
    let volume = match Volume::open(device.clone(), &options) {
        Ok(volume) => volume,
        Err(error) => {
            assert!(!sound, "{error}: {findings:?}");
            let typed = matches!(error, Error::Corrupt(_) | Error::NotSupported(_));
            assert!(typed && !findings.is_empty(), "{error}: {findings:?}");
            return;
        }
    };
    assert!(sound || forgery.lies, "what contradicts itself is opened");
    if sound {
        assert_eq!(findings, []);
        forgery.compare(&LogStore::open(device.clone()).expect("it was opened before"));
    }
    open_image::use_up(volume, &device, FILES);
}

impl Forgery<'_> {
    /// The next choice among `count`; the first one where there are no more.
    fn choose(&mut self, count: u8) -> u8 {
        self.choices.byte().unwrap_or(0) % count
    }

    /// One time in some: a lie.
    fn lies(&mut self) -> bool {
        let lies = self.choose(64) == 63;
        self.lies |= lies;
        lies
    }

    fn any(&mut self) -> u64 {
        let mut bytes = [0; 8];
        bytes.fill_with(|| self.choices.byte().unwrap_or(0));
        u64::from_le_bytes(bytes)
    }

    /// A number of bytes or blocks, where `usual` is one that makes sense.
    fn number(&mut self, usual: u64) -> u64 {
        match self.choices.byte().unwrap_or(0) {
            250 => 0,
            251 => MAX_FILE_BLOCKS - 1,
            252 => MAX_FILE_BLOCKS * self.block_bytes,
            253 => u64::MAX,
            254 => u64::MAX / 2 - 1,
            255 => self.any(),
            _ => usual,
        }
    }

    fn size(&mut self) -> u64 {
        let usual = u64::from(self.choose(255)) * 300;
        self.number(usual)
    }

    /// Blocks of a file, those of a cluster more often than not.
    fn blocks(&mut self) -> (u32, u32) {
        let clusters = u64::from(self.choose(16));
        let (first, len) = match self.choose(4) {
            0 => (u64::from(self.choose(64)), u64::from(self.choose(8)) + 1),
            n => (
                clusters * self.cluster_blocks,
                u64::from(n) * self.cluster_blocks,
            ),
        };
        (self.number(first) as u32, self.number(len) as u32)
    }

    /// A place on the device for blocks of a file: mostly where nobody is, and in the cluster that the file has already.
    fn disk(&mut self, file: FileNumber, start: u32, len: u32) -> u64 {
        let start = u64::from(start);
        let offset = start % self.cluster_blocks;
        let in_same = |extent: &MappedExtent| {
            extent.range.end().0.saturating_sub(1) / self.cluster_blocks
                == start / self.cluster_blocks
        };
        let shared = self.extents(file.0).into_iter().find(in_same);
        let usual = match shared {
            Some(extent) => (extent.disk.0 + start).saturating_sub(extent.range.start().0),
            None => {
                let fresh = self.fresh;
                self.fresh += (offset + u64::from(len)).next_multiple_of(self.cluster_blocks);
                fresh + offset
            }
        };
        let elsewhere = match self.choose(32) {
            31 => u64::from(self.choose(255)) * self.cluster_blocks + offset,
            _ => usual,
        };
        let unwritten = u64::from(self.choose(2)) * UNWRITTEN;
        self.number(elsewhere) | unwritten
    }

    /// Files, log and superblocks.
    fn write(&mut self, device: &ImageDevice) {
        let (image, files, extents) = self.image();
        let generation = match self.choose(8) {
            7 => self.number(1 << 62),
            n => u64::from(n) + 1,
        };
        self.lies |= generation >= 1 << 63;
        forge::put_image(&image, generation, &self.places, device);
        let good = Superblock {
            block_bytes: self.block_bytes as u32,
            cluster_blocks: self.cluster_blocks as u32,
            checksum: crc32fast::hash(&image),
            device_bytes: self.device_bytes,
            generation,
            image_bytes: image.len() as u64,
            files,
            extents,
        };
        self.log(generation, device);
        for copy in 0..2 {
            let mut superblock = good.clone();
            if self.lies() {
                self.forge(&mut superblock);
            }
            superblock.put(copy, &self.places, device);
        }
    }

    fn forge(&mut self, superblock: &mut Superblock) {
        let value = self.any();
        match self.choose(8) {
            0 => superblock.block_bytes = value as u32,
            1 => superblock.cluster_blocks = 1 << (value % 32),
            2 => superblock.device_bytes = value,
            3 => superblock.generation = value,
            4 => superblock.image_bytes = value,
            5 => superblock.files = value,
            6 => superblock.extents = value,
            _ => superblock.device_bytes = value % (2 * self.device_bytes),
        }
    }

    /// An image, how many files and how many extents are in it.
    fn image(&mut self) -> (Vec<u8>, u64, u64) {
        let (mut image, mut files, mut extents) = (Vec::new(), 0, 0);
        for number in FILES {
            let kind = self.choose(4);
            let size = self.size();
            if kind == 3 {
                continue;
            }
            files += 1;
            let of_file = FileNumber(number);
            if kind == 2 {
                let inline = vec![7; self.inline_len()];
                let size = if self.choose(8) == 7 {
                    size
                } else {
                    inline.len() as u64
                };
                image.extend(forge::file(number, size, 0, Some(&inline)));
                self.lies |= self
                    .model
                    .set_inline_data(of_file, Some(inline.into()))
                    .is_err();
                self.lies |= self.model.set_size(of_file, size).is_err();
                continue;
            }
            let mut list = Vec::new();
            let mut end = 0;
            let count = u32::from(self.choose(4));
            for _ in 0..count {
                let (start, len) = self.blocks();
                // In order, and apart: neighbours might be one.
                let start = start.max(end);
                end = start.saturating_add(len).saturating_add(1);
                let disk = self.disk(of_file, start, len);
                list.extend(forge::extent(start, len, disk));
                self.lies |= !self.insert(of_file, start, len, disk);
            }
            extents += u64::from(count);
            self.lies |= self.model.set_size(of_file, size).is_err();
            // Of a file that is as if it were not there, no image tells.
            self.lies |= size == 0 && count == 0;
            image.extend(forge::file(number, size, count, None));
            image.extend(list);
        }
        (image, files, extents)
    }

    fn inline_len(&mut self) -> usize {
        match self.choose(64) {
            63 => PAGE_SIZE as usize + 1,
            62 => PAGE_SIZE as usize,
            n => usize::from(n) * 3,
        }
    }

    fn log(&mut self, generation: u64, device: &ImageDevice) {
        let (mut at, mut transaction) = (0, 0);
        for _ in 0..self.choose(5) {
            if !forge::has_room(at, &self.places) {
                return;
            }
            let mut records = Vec::new();
            for _ in 0..self.choose(6) + 1 {
                records.extend(self.record());
            }
            // More may not fit.
            records.truncate(3000);
            let mut image_bytes = self.image_bytes();
            self.lies |= image_bytes > self.places.image_bytes || records.len() == 3000;
            let mut tag = Tag {
                generation,
                position: at as u32,
                transaction,
            };
            if self.lies() {
                match self.choose(5) {
                    0 => tag.generation = self.any(),
                    1 => tag.generation = generation.wrapping_sub(1),
                    2 => tag.position = self.any() as u32,
                    3 => tag.transaction = self.any() as u32,
                    _ => image_bytes = self.any(),
                }
            }
            at = forge::put_transaction(&records, image_bytes, tag, at, &self.places, device);
            transaction += 1;
        }
    }

    /// A record, done to the model too; nothing, mostly, where that refuses it.
    fn record(&mut self) -> Vec<u8> {
        let number = FILES[usize::from(self.choose(4))];
        let file = FileNumber(number);
        let (start, len) = self.blocks();
        let range = FileRange::at(FileBlock(start.into()), len.into());
        let is_inline = self.size_and_inline(number).1.is_some();
        let kind = match self.choose(10) {
            0..7 if is_inline && self.choose(8) < 7 => 9,
            7 if !self.extents(number).is_empty() && self.choose(8) < 7 => 9,
            9 if self.choose(32) < 31 => 6,
            kind => kind + 1,
        };
        let possible = range.end().0 <= MAX_FILE_BLOCKS;
        let (fits, rest) = match kind {
            1 => {
                let disk = self.disk(file, start, len);
                let done = self.insert(file, start, len, disk);
                (done, forge::extent(start, len, disk))
            }
            2 => {
                let state = self.choose(16);
                let (state, to) = match state {
                    0..8 => (0, ExtentState::Written),
                    15 => (2, ExtentState::Unwritten),
                    _ => (1, ExtentState::Unwritten),
                };
                let done = possible && state < 2 && self.model.convert(file, range, to).is_ok();
                (done, [forge::range(start, len), vec![state]].concat())
            }
            3 => {
                let done = possible && self.model.remove(file, range).is_ok();
                (done, forge::range(start, len))
            }
            4 | 5 => {
                let by = self.number(u64::from(len));
                let shift = if kind == 4 {
                    Shift::Left(by)
                } else {
                    Shift::Right(by)
                };
                let done = self.model.shift(file, FileBlock(start.into()), shift);
                (
                    done.is_ok(),
                    [&start.to_le_bytes()[..], &by.to_le_bytes()].concat(),
                )
            }
            6 | 7 => {
                let size = self.size();
                let done = match kind {
                    6 => self.model.set_size(file, size),
                    _ => self.model.extend_size(file, size),
                };
                (done.is_ok(), size.to_le_bytes().to_vec())
            }
            8 => {
                let inline = vec![9; self.inline_len()];
                let rest = [&(inline.len() as u16).to_le_bytes()[..], &inline].concat();
                let fits = inline.len() as u64 <= PAGE_SIZE;
                let inline = fits.then(|| inline.into());
                (
                    fits && self.model.set_inline_data(file, inline).is_ok(),
                    rest,
                )
            }
            9 => (self.model.set_inline_data(file, None).is_ok(), Vec::new()),
            _ => (false, Vec::new()),
        };
        if !fits && self.choose(32) < 31 {
            return Vec::new();
        }
        self.lies |= !fits;
        forge::record(kind, number, &rest)
    }

    /// Gives the model's file blocks; returns whether it could.
    fn insert(&mut self, file: FileNumber, start: u32, len: u32, disk: u64) -> bool {
        let extent = MappedExtent {
            range: FileRange::at(FileBlock(start.into()), len.into()),
            disk: DiskBlock(disk & !UNWRITTEN),
            state: match disk & UNWRITTEN {
                0 => ExtentState::Written,
                _ => ExtentState::Unwritten,
            },
        };
        let possible = len > 0 && extent.range.end().0 <= MAX_FILE_BLOCKS;
        possible && self.model.insert(file, extent).is_ok()
    }

    fn extents(&self, file: u64) -> Vec<MappedExtent> {
        let everything = FileRange::starting_at(FileBlock(0));
        self.model
            .extents(FileNumber(file), everything)
            .expect("in memory")
    }

    fn size_and_inline(&self, file: u64) -> (u64, Option<Arc<[u8]>>) {
        let file = FileNumber(file);
        let size = self.model.size(file).expect("in memory");
        (size, self.model.inline_data(file).expect("in memory"))
    }

    /// How long an image of the model would be.
    fn image_bytes(&self) -> u64 {
        let of_file = |number| {
            let (size, inline) = self.size_and_inline(number);
            let extents = self.extents(number).len() as u64;
            let len = inline.as_ref().map_or(0, |bytes| bytes.len() as u64);
            match size == 0 && inline.is_none() && extents == 0 {
                true => 0,
                false => 24 + len + 16 * extents,
            }
        };
        FILES.into_iter().map(of_file).sum()
    }

    /// Whether each cluster has one owner at one place, inside the volume, and each file a size that it can have.
    fn is_sound(&self) -> bool {
        let cluster_bytes = self.block_bytes * self.cluster_blocks;
        let usable = self.places.end().div_ceil(cluster_bytes)..self.device_bytes / cluster_bytes;
        let (mut owners, mut homes) = (HashMap::new(), HashMap::new());
        FILES.into_iter().all(|number| {
            let extents = self.extents(number);
            let (size, inline) = self.size_and_inline(number);
            let possible = size <= MAX_FILE_BLOCKS * self.block_bytes;
            let len = inline.map(|bytes| bytes.len() as u64);
            let fits = len.is_none_or(|len| len == size && len <= PAGE_SIZE && extents.is_empty());
            let mut blocks = extents.iter().flat_map(|extent| {
                // One that is longer than the volume is found out long before its end.
                extent
                    .range
                    .blocks()
                    .map(|block| (block.0, extent.disk_of(block).0))
            });
            possible
                && fits
                && blocks.all(|(block, disk)| {
                    let (home, cluster) = (block / self.cluster_blocks, disk / self.cluster_blocks);
                    let owner = (number, home);
                    block % self.cluster_blocks == disk % self.cluster_blocks
                        && usable.contains(&cluster)
                        && *owners.entry(cluster).or_insert(owner) == owner
                        && *homes.entry(owner).or_insert(cluster) == cluster
                })
        })
    }

    /// Asserts that `store` has what the model has.
    fn compare(&self, store: &LogStore) {
        let everything = FileRange::starting_at(FileBlock(0));
        for number in FILES {
            let file = FileNumber(number);
            assert_eq!(store.extents(file, everything), Ok(self.extents(number)));
            let size_and_inline = (store.size(file), store.inline_data(file));
            let (size, inline) = self.size_and_inline(number);
            assert_eq!(size_and_inline, (Ok(size), Ok(inline)));
        }
    }
}
