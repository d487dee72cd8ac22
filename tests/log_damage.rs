//! Damage to a mapping on a device (`LogStore`): what is no longer as it was written is an error or is not needed, and is
//! never taken for something else.

use std::sync::Arc;

use extent_map::Error;
use extent_map::block::BlockQueue;
use extent_map::device::{BlockDevice, ImageDevice, MemoryDevice, Recorder, Survivors};
use extent_map::file::{AllocateMode, Volume, VolumeOptions};
use extent_map::mapping::{ExtentState, Finding, LogStore, MappedExtent, MappingStore};
use extent_map::probe::{Mutation, Probe};
use extent_map::stats::Counters;
use extent_map::units::{DiskBlock, FileBlock, FileNumber, FileRange, Geometry};
use rayon::prelude::*;

const FILES: u64 = 3;

/// Bytes at the start of the device that are the store's: superblock, log, two images, superblock.
const STORE: u64 = 56 << 10;

/// What is in the files.
type Contents = Vec<Vec<u8>>;

fn contents(volume: &Volume) -> extent_map::Result<Contents> {
    let content = |number| {
        let file = volume.file(FileNumber(number))?;
        let mut content = vec![0; file.size() as usize];
        file.read_at(0, &mut content)?;
        Ok(content)
    };
    (0..FILES).map(content).collect()
}

/// A volume with an image and, behind it, transactions of more than one sector.
fn volume(device: Arc<dyn BlockDevice>) -> Volume {
    let options = VolumeOptions::new().block_size(512).inline_limit(64);
    let volume = Volume::format_persistent(device, &options).unwrap();
    let files: Vec<_> = (0..FILES)
        .map(|n| volume.file(FileNumber(n)).unwrap())
        .collect();
    files[0].write_at(0, b"inside the store").unwrap();
    for round in 0..4u8 {
        for file in 1..FILES {
            for block in 0..20 {
                let offset = 1024 * (20 * u64::from(round) + block);
                files[file as usize]
                    .write_at(offset, &[round + 1; 512])
                    .unwrap();
            }
        }
        files[1].sync_all().unwrap();
    }
    files[2].allocate(AllocateMode::PunchHole, 0, 4096).unwrap();
    files[2].sync_all().unwrap();
    volume
}

/// The generation of a sector of the log.
fn generation(device: &dyn BlockDevice, sector: u64) -> u64 {
    let mut bytes = [0; 512];
    device.read_at(4096 + 512 * sector, &mut bytes).unwrap();
    u64::from_le_bytes(bytes[8..16].try_into().unwrap())
}

fn image() -> (ImageDevice, Contents) {
    let device = Arc::new(MemoryDevice::new(1 << 20));
    let volume = volume(device.clone());
    // A transaction takes eight sectors: until the log has two.
    let file = volume.file(FileNumber(0)).unwrap();
    let mut size = 20;
    let generations = || [0, 8, 16].map(|sector| generation(&*device, sector));
    while !matches!(generations(), [one, two, three] if one == two && two > three) {
        file.set_len(size).unwrap();
        file.sync_all().unwrap();
        size += 1;
    }
    let contents = contents(&volume).unwrap();
    (ImageDevice::copy_of(&*device).unwrap(), contents)
}

/// What became of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// An error that says so.
    Refused,
    /// It opens, the check says what is damaged, and no content has changed.
    Found,
    /// Nothing has changed.
    Unneeded,
}

fn fate(device: Arc<ImageDevice>, expected: &Contents) -> Fate {
    let findings = Volume::check(&*device).unwrap();
    match Volume::open(device, &VolumeOptions::new()) {
        Err(error) => refused(&error, &findings),
        Ok(volume) => {
            assert!(contents(&volume).unwrap() == *expected, "other contents");
            found(&findings)
        }
    }
}

fn refused(error: &Error, findings: &[Finding]) -> Fate {
    assert!(
        matches!(error, Error::Corrupt(_) | Error::NotSupported(_)),
        "{error}"
    );
    assert!(matches!(findings, [Finding::Unreadable(_)]), "{findings:?}");
    Fate::Refused
}

fn found(findings: &[Finding]) -> Fate {
    match findings.is_empty() {
        true => Fate::Unneeded,
        false => Fate::Found,
    }
}

/// All that a store says.
fn mapping(store: &LogStore) -> Vec<impl PartialEq + use<>> {
    let files = (0..FILES).map(FileNumber);
    let everything = FileRange::starting_at(FileBlock(0));
    let of_file = |file| {
        (
            store.extents(file, everything),
            store.size(file),
            store.inline_data(file),
        )
    };
    files.map(of_file).collect()
}

fn flipped(image: &ImageDevice, byte: u64, bits: u8) -> Arc<ImageDevice> {
    let device = image.clone();
    let mut old = [0];
    device.read_at(byte, &mut old).unwrap();
    device.write_at(byte, &[old[0] ^ bits]).unwrap();
    Arc::new(device)
}

#[test]
fn every_flipped_byte_of_the_store_is_found_or_changes_nothing() {
    let (image, expected) = image();
    assert_eq!(fate(Arc::new(image.clone()), &expected), Fate::Unneeded);
    let store = LogStore::open(Arc::new(image.clone())).unwrap();
    // The data of the files is what it is.
    let fate = |byte| {
        let device = flipped(&image, byte, 1 << (byte % 8));
        let findings = Volume::check(&*device).unwrap();
        match LogStore::open(device) {
            Err(error) => refused(&error, &findings),
            Ok(opened) => {
                assert!(mapping(&opened) == mapping(&store), "another mapping");
                found(&findings)
            }
        }
    };
    let fates: Vec<Fate> = (0..STORE).into_par_iter().map(fate).collect();
    let count = |wanted, bytes: std::ops::Range<usize>| {
        fates[bytes].iter().filter(|fate| **fate == wanted).count()
    };
    let unit = 4096;
    // Each copy of the superblock is one sector, and the other one is good.
    assert_eq!(count(Fate::Found, 0..512), 512);
    let last = STORE as usize - unit;
    assert_eq!(count(Fate::Found, last..last + 512), 512);
    // Of the log all transactions that are in use are whole units.
    let log = count(Fate::Refused, unit..5 * unit);
    assert!(log >= 2 * unit, "{log} bytes of the log matter");
    // Of the images one is in use.
    let images =
        [5..9, 9..13].map(|image| count(Fate::Refused, image.start * unit..image.end * unit));
    assert!(
        images.contains(&0) && images.iter().any(|bytes| *bytes > 500),
        "{images:?}"
    );
}

#[test]
fn without_both_copies_of_the_superblock_there_is_no_volume() {
    let (image, expected) = image();
    let twice = flipped(&flipped(&image, 40, 1), STORE - 4096 + 40, 1);
    assert_eq!(fate(twice, &expected), Fate::Refused);
    let zeros = Arc::new(ImageDevice::new(1 << 20));
    assert_eq!(fate(zeros, &expected), Fate::Refused);
    let tiny = Arc::new(ImageDevice::new(4096));
    assert_eq!(fate(tiny, &expected), Fate::Refused);
}

#[test]
fn a_sector_of_the_log_that_the_device_has_lost_long_after_is_not_taken_for_a_torn_write() {
    let (image, expected) = image();
    let mut sector = [0; 512];
    image.read_at(4096, &mut sector).unwrap();
    assert!(sector.iter().any(|byte| *byte != 0), "the log is in use");
    image.write_zeroes(4096, 512).unwrap();
    assert_eq!(fate(Arc::new(image), &expected), Fate::Refused);
}

/// What is on `image`, on a device of another size.
fn resized(image: &ImageDevice, size: u64) -> ImageDevice {
    let mut bytes = vec![0; image.size().min(size) as usize];
    image.read_at(0, &mut bytes).unwrap();
    let device = ImageDevice::new(size);
    device.write_at(0, &bytes).unwrap();
    device
}

#[test]
fn a_device_that_was_cut_off_is_refused_and_one_that_has_grown_opens() {
    let (image, expected) = image();
    let resized = |size| Arc::new(resized(&image, size));
    assert_eq!(fate(resized(1 << 19), &expected), Fate::Refused);
    assert_eq!(fate(resized(64 << 20), &expected), Fate::Unneeded);
}

/// Writes `field` to this place of a copy of the superblock, whose checksum stays good.
fn forge(device: &dyn BlockDevice, copy: u64, place: usize, field: &[u8]) {
    let mut sector = [0; 512];
    device.read_at(copy, &mut sector).unwrap();
    sector[place..place + field.len()].copy_from_slice(field);
    let checksum = crc32fast::hash(&sector[..508]);
    sector[508..].copy_from_slice(&checksum.to_le_bytes());
    device.write_at(copy, &sector).unwrap();
}

#[test]
fn a_superblock_that_no_checkpoint_has_written_is_refused_although_its_checksum_is_good() {
    let empty = |size| {
        let device = Arc::new(ImageDevice::new(size));
        Volume::format_persistent(device.clone(), &VolumeOptions::new()).unwrap();
        device
    };
    let is_refused = |device: Arc<ImageDevice>| {
        let findings = Volume::check(&*device).unwrap();
        assert!(matches!(findings[..], [Finding::Unreadable(_)]));
        let opened = Volume::open(device, &VolumeOptions::new());
        assert!(matches!(opened, Err(Error::Corrupt(_))), "{opened:?}");
    };
    // After a few more checkpoints it would have no number for the next one.
    let device = empty(1 << 20);
    for copy in [0, STORE - 4096] {
        forge(&*device, copy, 32, &(u64::MAX - 1).to_le_bytes());
    }
    is_refused(device);
    // Clusters of 256 MiB.
    let device = empty(1 << 20);
    for copy in [0, STORE - 4096] {
        forge(&*device, copy, 16, &(1_u32 << 16).to_le_bytes());
    }
    is_refused(device);
    // The second copy, which is newer, says that the volume is smaller: the store would lie elsewhere.
    let device = empty(64 << 20);
    let second = 4096 + 3 * (64 << 20) / 256;
    forge(&*device, second, 24, &(32_u64 << 20).to_le_bytes());
    forge(&*device, second, 32, &3_u64.to_le_bytes());
    is_refused(device);
}

#[test]
fn bytes_of_a_file_do_not_pass_for_the_superblock_of_a_device_that_has_grown() {
    let (image, expected) = image();
    let device = resized(&image, 64 << 20);
    // An empty volume as long as the device, where its last copy would be.
    let second = 4096 + 3 * (64 << 20) / 256;
    let mut sector = [0; 512];
    image.read_at(0, &mut sector).unwrap();
    device.write_at(second, &sector).unwrap();
    forge(&device, second, 20, &[0; 44]);
    forge(&device, second, 24, &(64_u64 << 20).to_le_bytes());
    forge(&device, second, 32, &1000_u64.to_le_bytes());
    assert_eq!(fate(Arc::new(device.clone()), &expected), Fate::Unneeded);
    assert_eq!(fate(flipped(&device, 40, 1), &expected), Fate::Refused);
}

#[test]
fn formatting_leaves_no_superblock_of_a_smaller_volume_behind() {
    // Its last copy lies where the image will be that is not in use.
    let device = Arc::new(resized(&image().0, 8 << 20));
    Volume::format_persistent(device.clone(), &VolumeOptions::new()).unwrap();
    let empty = vec![Vec::new(); FILES as usize];
    assert_eq!(fate(flipped(&device, 40, 1), &empty), Fate::Found);
}

#[test]
fn a_volume_of_more_clusters_than_can_be_counted_is_neither_made_nor_opened_nor_called_clean() {
    // 2^32 blocks of 4096 bytes, of which the store takes some; or 2^35 of 512.
    let device = Arc::new(MemoryDevice::new(1 << 44));
    let [fits, many] = [4096, 512].map(|block| Geometry::new(block, 1).unwrap());
    LogStore::format(device.clone(), fits).unwrap();
    let refused = LogStore::format(device.clone(), many).map(drop);
    assert!(
        matches!(refused, Err(Error::NotSupported(_))),
        "{refused:?}"
    );
    let open = || Volume::open(device.clone(), &VolumeOptions::new()).map(drop);
    assert_eq!(Volume::check(&*device), Ok(Vec::new()));
    assert_eq!(open(), Ok(()));
    for copy in [0, 4096 + (32 << 20) + 2 * (256 << 20)] {
        forge(&*device, copy, 12, &512_u32.to_le_bytes());
    }
    let refused = open().unwrap_err();
    assert!(matches!(refused, Error::NotSupported(_)), "{refused}");
    let findings = Volume::check(&*device);
    assert_eq!(findings, Ok(vec![Finding::Unreadable(refused)]));
}

/// A device with a store that has these extents (file, block, number of blocks, disk block), clusters of four blocks, and a
/// file 1 of this size.
fn stored(extents: &[(u64, u64, u64, u64)], size: u64) -> Arc<MemoryDevice> {
    let geometry = Geometry::new(1024, 4).unwrap();
    let device = Arc::new(MemoryDevice::new(1 << 20));
    let store = LogStore::format(device.clone(), geometry).unwrap();
    for &(file, start, len, disk) in extents {
        let extent = MappedExtent {
            range: FileRange::at(FileBlock(start), len),
            disk: DiskBlock(disk),
            state: ExtentState::Written,
        };
        store.insert(FileNumber(file), extent).unwrap();
    }
    store.set_size(FileNumber(1), size).unwrap();
    let counters = Arc::new(Counters::default());
    let queue = BlockQueue::new(device.clone(), geometry.block_size, counters);
    store.commit(&queue).unwrap();
    device
}

#[test]
fn a_store_that_overlaps_is_refused_when_it_is_opened_and_found_by_the_check() {
    let findings = |extents: &[(u64, u64, u64, u64)], size: u64| {
        let device = stored(extents, size);
        let findings = Volume::check(&*device).unwrap();
        let opened = Volume::open(device, &VolumeOptions::new()).map(drop);
        assert_eq!(opened.is_err(), !findings.is_empty(), "{findings:?}");
        assert!(
            matches!(opened, Ok(()) | Err(Error::Corrupt(_))),
            "{opened:?}"
        );
        findings
    };
    let (one, two) = (FileNumber(1), FileNumber(2));
    assert_eq!(findings(&[(1, 0, 4, 80), (2, 0, 4, 84)], 4096), []);
    // Two blocks of one cluster, and the next one.
    assert_eq!(findings(&[(1, 1, 1, 81), (1, 3, 5, 83)], 4096), []);
    assert!(matches!(
        findings(&[(1, 0, 8, 80), (2, 0, 4, 84)], 4096)[..],
        [Finding::Shared { cluster: DiskBlock(84), file, other }] if file == one && other == two
    ));
    assert!(matches!(
        findings(&[(1, 0, 2, 80), (1, 5, 1, 81)], 4096)[..],
        [Finding::Shared { file, other, .. }] if file == one && other == one
    ));
    let misplaced = findings(&[(1, 0, 4, 81)], 4096);
    assert!(matches!(misplaced[..], [Finding::Misplaced { file, .. }] if file == one));
    let in_two_places = findings(&[(1, 0, 1, 80), (1, 3, 1, 87)], 4096);
    assert!(matches!(in_two_places[..], [Finding::Misplaced { file, .. }] if file == one));
    let out = [
        findings(&[(2, 0, 4, 52)], 0),
        findings(&[(2, 0, 8, 1020)], 0),
    ];
    for found in out {
        assert!(
            matches!(found[..], [Finding::OutOfRange { file, .. }] if file == two),
            "{found:?}"
        );
    }
    let huge = findings(&[(1, 0, 4, 80)], u64::MAX);
    assert!(matches!(huge[..], [Finding::Size { file, size: u64::MAX }] if file == one));
}

#[test]
fn without_the_look_for_contradictions_a_cluster_in_two_places_is_opened() {
    let probe = Probe::new().mutations([Mutation::OpenContradictions]);
    let options = VolumeOptions::new().probe(probe);
    let in_two_places = stored(&[(1, 0, 1, 80), (1, 3, 1, 87)], 4096);
    assert_eq!(Volume::open(in_two_places, &options).map(drop), Ok(()));
}

#[test]
fn a_torn_transaction_of_several_sectors_is_dropped_whole() {
    let run = |probe: Probe| {
        let device = Arc::new(Recorder::new(Arc::new(MemoryDevice::new(1 << 20))).unwrap());
        let volume = volume(device.clone());
        let all = contents(&volume).unwrap();
        let before: Contents = {
            let options = VolumeOptions::new();
            contents(&Volume::open(device.clone(), &options).unwrap()).unwrap()
        };
        assert!(before == all);
        // Many extents in one commit: its transaction has several sectors with content.
        let file = volume.file(FileNumber(1)).unwrap();
        for block in 0..60 {
            file.write_at((1 << 19) + 1024 * block, &[9; 512]).unwrap();
        }
        let size = file.size();
        file.sync_all().unwrap();
        let recording = device.recording();
        let mut cut = recording.power_cut();
        let mut sizes = Vec::new();
        let options = VolumeOptions::new().probe(probe);
        loop {
            let last = cut.moment() + 12 > recording.moment();
            for seed in 0..if last { 40 } else { 0 } {
                let image = Arc::new(cut.image(Survivors::Random(seed << 8)));
                let opened = Volume::open(image, &options).and_then(|volume| {
                    let file = volume.file(FileNumber(1))?;
                    Ok((file.size(), file.extents()?.len()))
                });
                sizes.push(opened);
            }
            if !cut.advance() {
                break;
            }
        }
        sizes.sort_by_key(|opened| opened.clone().unwrap_or((u64::MAX, 0)));
        sizes.dedup();
        (sizes, before[1].len() as u64, size)
    };
    let (sizes, before, after) = run(Probe::new());
    let opened: Vec<u64> = sizes
        .iter()
        .map(|opened| opened.clone().unwrap().0)
        .collect();
    assert_eq!(opened, [before, after]);
    let (broken, ..) = run(Probe::new().mutations([Mutation::AcceptTornTransaction]));
    assert_ne!(broken, sizes);
}
