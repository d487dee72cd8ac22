//! The bytes of an image, against a volume that is opened on it.

use std::sync::{Arc, OnceLock};

use extent_map::device::{BlockDevice, ImageDevice, MemoryDevice};
use extent_map::file::{AllocateMode, Volume, VolumeOptions};
use extent_map::probe::Probe;
use extent_map::units::{FileNumber, PAGE_SIZE};

use super::bytes::Bytes;

/// Bytes of the store at the start of a device of this size.
const STORE: u64 = 56 << 10;
const DEVICE: u64 = 1 << 20;
const SECTOR: usize = 512;

/// A volume with files, an image and a log in use.
fn base() -> &'static ImageDevice {
    static BASE: OnceLock<ImageDevice> = OnceLock::new();
    BASE.get_or_init(|| {
        let device = Arc::new(MemoryDevice::new(DEVICE));
        let options = VolumeOptions::new()
            .block_size(1024)
            .cluster_blocks(2)
            .inline_limit(100);
        let volume = Volume::format_persistent(device.clone(), &options).expect("room enough");
        for number in 0..9 {
            let file = volume.file(FileNumber(number)).expect("a new file");
            for at in 0..number {
                file.write_at(at * 5000, &[number as u8; 2000])
                    .expect("space enough");
            }
            file.allocate(AllocateMode::PunchHole, 3000, 4000)
                .expect("a hole");
            file.sync_all().expect("a good device");
        }
        ImageDevice::copy_of(&*device).expect("a good device")
    })
}

/// Changes bytes of an image as `data` says, with good checksums where it likes, and opens what comes of it: an error, or a
/// volume that can be used and closed, and is clean then.
pub fn run(data: &[u8]) {
    run_with(data, Probe::new());
}

/// The same with protections taken away from what opens the image.
pub fn run_with(data: &[u8], probe: Probe) {
    let image = Arc::new(base().clone());
    let mut choices = Bytes::new(data);
    change(&image, &mut choices);
    let findings = Volume::check(&*image).expect("the device is good");
    let options = VolumeOptions::new().inline_limit(100).probe(probe);
    let Ok(volume) = Volume::open(image.clone(), &options) else {
        assert!(!findings.is_empty(), "refused for nothing");
        return;
    };
    use_up(volume, &image, 0..10);
}

/// Reads and changes `files` of a volume that was opened on `image`, and closes it: it must be clean then.
pub(crate) fn use_up(volume: Volume, image: &ImageDevice, files: impl IntoIterator<Item = u64>) {
    for number in files {
        let file = volume.file(FileNumber(number)).expect("the store is read");
        let mut page = [0; PAGE_SIZE as usize];
        file.read_at(0, &mut page).expect("the device is good");
        // It may be full.
        let _ = file.write_at(number % 1000 * 100, b"changed");
        let _ = file.allocate(AllocateMode::PunchHole, 2048, 4096);
    }
    let unchecked = [10, 12];
    let violations = extent_map::testing::check(&volume)
        .err()
        .unwrap_or_default();
    let wrong = violations
        .iter()
        .find(|found| !unchecked.contains(&found.invariant));
    assert_eq!(wrong, None);
    volume.close().expect("the device is good");
    assert_eq!(Volume::check(image), Ok(Vec::new()));
}

/// Each change: where, to what, and whether the checksums are made to fit.
fn change(image: &ImageDevice, choices: &mut Bytes<'_>) {
    while let (Some(high), Some(low), Some(byte), Some(fit)) = (
        choices.byte(),
        choices.byte(),
        choices.byte(),
        choices.byte(),
    ) {
        let at = (u64::from(high) << 8 | u64::from(low)) % STORE;
        image.write_at(at, &[byte]).expect("inside");
        if fit % 4 > 0 {
            fit_checksums(image, at);
        }
    }
}

/// Makes every checksum fit that covers the byte at `at`.
fn fit_checksums(image: &ImageDevice, at: u64) {
    let start = at - at % SECTOR as u64;
    let mut sector = [0; SECTOR];
    image.read_at(start, &mut sector).expect("inside");
    let unit = at / PAGE_SIZE;
    match unit {
        0 | 13 => {
            let checksum = crc32fast::hash(&sector[..SECTOR - 4]);
            sector[SECTOR - 4..].copy_from_slice(&checksum.to_le_bytes());
        }
        1..5 => {
            let checksum = crc32fast::hash(&sector[4..]);
            sector[..4].copy_from_slice(&checksum.to_le_bytes());
        }
        // That of an image is in both copies of the superblock.
        _ => return fit_image(image),
    }
    image.write_at(start, &sector).expect("inside");
}

fn fit_image(image: &ImageDevice) {
    for copy in [0, STORE - PAGE_SIZE] {
        let mut sector = [0; SECTOR];
        image.read_at(copy, &mut sector).expect("inside");
        let field = |at: usize| {
            let bytes = sector[at..at + 8].try_into().expect("eight bytes");
            u64::from_le_bytes(bytes)
        };
        let (generation, len) = (field(32), field(40).min(16 << 10));
        let start = PAGE_SIZE * (5 + 4 * (generation % 2));
        let mut bytes = vec![0; len as usize];
        image.read_at(start, &mut bytes).expect("inside");
        sector[20..24].copy_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        image.write_at(copy, &sector).expect("inside");
        fit_checksums(image, copy);
    }
}
