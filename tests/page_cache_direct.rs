//! Direct access: what it asks the device for, what it refuses, and what an error leaves behind. That it agrees with all
//! other access is for `page_cache`.

use std::sync::Arc;

use extent_map::Error;
use extent_map::device::{FaultyDevice, MemoryDevice, OperationKind};
use extent_map::file::{AllocateMode, ExtentKind, File, Volume, VolumeOptions};
use extent_map::testing;
use extent_map::units::FileNumber;

const BLOCK: u64 = 4096;
const BYTES: usize = BLOCK as usize;

struct Setup {
    device: Arc<FaultyDevice>,
    volume: Volume,
    file: File,
}

/// A volume on a device that is full of stale bytes.
fn setup() -> Setup {
    let memory = Arc::new(MemoryDevice::new(16 << 20));
    let device = Arc::new(FaultyDevice::new(memory));
    let volume = Volume::format(device.clone(), &VolumeOptions::new()).unwrap();
    let stale = volume.file(FileNumber(9)).unwrap();
    stale.write_at(0, &vec![0xee; 8 << 20]).unwrap();
    stale.sync_all().unwrap();
    stale.set_len(0).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    device.take_log();
    Setup {
        device,
        volume,
        file,
    }
}

impl Setup {
    fn operations(&self, kind: OperationKind) -> Vec<u64> {
        let log = self.device.take_log().into_iter();
        log.filter(|o| o.kind == kind)
            .map(|o| o.len / BLOCK)
            .collect()
    }

    fn content(&self) -> Vec<u8> {
        let mut bytes = vec![0xdd; self.file.size() as usize];
        assert_eq!(self.file.read_at(0, &mut bytes), Ok(bytes.len()));
        bytes
    }
}

#[test]
fn direct_access_takes_few_commands_and_no_page() {
    let setup = setup();
    let pages = setup.volume.stats().pages_cached;
    let data = vec![7; 600 * BYTES];
    assert_eq!(setup.file.write_direct_at(0, &data), Ok(data.len()));
    assert_eq!(setup.operations(OperationKind::Write), [256, 256, 88]);
    let mut bytes = vec![0; 700 * BYTES];
    assert_eq!(setup.file.read_direct_at(0, &mut bytes), Ok(data.len()));
    assert_eq!(setup.operations(OperationKind::Read), [256, 256, 88]);
    assert_eq!(bytes[..data.len()], data);
    assert!(bytes[data.len()..].iter().all(|byte| *byte == 0));
    assert_eq!(setup.volume.stats().pages_cached, pages);
    testing::check_synced(&setup.volume).unwrap();
}

#[test]
fn parts_of_blocks_are_refused() {
    let setup = setup();
    let refused = |outcome| matches!(outcome, Err(Error::InvalidInput(_)));
    assert!(refused(setup.file.write_direct_at(1, &[1; BYTES])));
    assert!(refused(setup.file.write_direct_at(0, &[1; 100])));
    assert!(refused(setup.file.read_direct_at(512, &mut [0; BYTES])));
    assert!(refused(setup.file.read_direct_at(0, &mut [0; 100])));
    assert_eq!((setup.file.size(), setup.file.blocks()), (0, 0));
    assert_eq!(setup.file.write_direct_at(0, &[]), Ok(0));
    assert_eq!(setup.file.read_direct_at(BLOCK, &mut [0; BYTES]), Ok(0));
}

#[test]
fn a_direct_read_zeroes_what_lies_behind_the_end_wherever_the_file_lives() {
    let device = Arc::new(MemoryDevice::new(1 << 20));
    let options = VolumeOptions::new().inline_limit(100);
    let volume = Volume::format(device, &options).unwrap();
    let [inside, in_blocks] = [1, 2].map(|number| volume.file(FileNumber(number)).unwrap());
    for (file, len) in [(inside, 10), (in_blocks, 1000)] {
        assert_eq!(file.write_at(0, &vec![1; len]), Ok(len));
        let mut bytes = [9; BYTES];
        assert_eq!(file.read_direct_at(0, &mut bytes), Ok(len));
        assert!(bytes[..len].iter().all(|byte| *byte == 1));
        assert!(bytes[len..].iter().all(|byte| *byte == 0));
        bytes.fill(9);
        assert_eq!(file.read_direct_at(BLOCK, &mut bytes), Ok(0));
        assert_eq!(bytes, [0; BYTES]);
        let refused = file.read_direct_at(1, &mut bytes);
        assert!(matches!(refused, Err(Error::InvalidInput(_))));
    }
}

#[test]
fn what_did_not_arrive_stays_unwritten() {
    let setup = setup();
    setup.file.set_len(8 * BLOCK).unwrap();
    setup.device.fail_at(Some(OperationKind::Write), 0);
    let failed = setup.file.write_direct_at(2 * BLOCK, &[1; 2 * BYTES]);
    assert!(matches!(failed, Err(Error::Io(_))));
    assert_eq!(setup.content(), vec![0; 8 * BYTES]);
    let extents = setup.file.extents().unwrap();
    assert!(extents.iter().all(|e| e.kind == ExtentKind::Unwritten));
    testing::check(&setup.volume).unwrap();
}

#[test]
fn a_write_that_fails_behind_the_end_leaves_nothing_there() {
    let setup = setup();
    setup.file.write_at(0, &[1; 100]).unwrap();
    // The first command arrives, the second does not, and the third does not come.
    setup.file.sync_all().unwrap();
    setup.device.fail_at(Some(OperationKind::Write), 1);
    let written = setup.file.write_direct_at(BLOCK, &vec![2; 700 * BYTES]);
    assert_eq!(written, Ok(256 * BYTES));
    assert_eq!(setup.file.size(), 257 * BLOCK);
    assert_eq!(setup.file.blocks() * 512, 257 * BLOCK);
    setup.file.set_len(800 * BLOCK).unwrap();
    assert!(setup.content()[257 * BYTES..].iter().all(|byte| *byte == 0));
    testing::check(&setup.volume).unwrap();
}

#[test]
fn a_write_behind_the_end_of_which_nothing_arrives_leaves_the_size() {
    let setup = setup();
    setup.file.write_at(0, &[1; 100]).unwrap();
    setup.file.sync_all().unwrap();
    setup.device.fail_at(Some(OperationKind::Write), 0);
    let failed = setup.file.write_direct_at(8 * BLOCK, &[2; BYTES]);
    assert!(matches!(failed, Err(Error::Io(_))));
    assert_eq!((setup.file.size(), setup.file.blocks()), (100, 8));
    testing::check(&setup.volume).unwrap();
}

#[test]
fn a_direct_read_hears_that_what_it_waits_for_could_not_be_written() {
    let setup = setup();
    setup.file.write_at(0, &[1; BYTES]).unwrap();
    setup.device.fail_at(Some(OperationKind::Write), 0);
    let read = setup.file.read_direct_at(0, &mut [0; BYTES]);
    assert!(matches!(read, Err(Error::Io(_))));
    assert!(matches!(setup.file.sync_all(), Err(Error::Io(_))));
    assert_eq!(setup.file.sync_all(), Ok(()));
}

#[test]
fn direct_writes_fill_what_was_preallocated_and_what_is_delayed() {
    let setup = setup();
    let (start, len) = (0, 4 * BLOCK);
    setup
        .file
        .allocate(AllocateMode::Allocate, start, len)
        .unwrap();
    setup.file.write_at(4 * BLOCK, &[1; 4 * BYTES]).unwrap();
    setup
        .file
        .write_direct_at(2 * BLOCK, &[2; 4 * BYTES])
        .unwrap();
    let mut expected = vec![0; 8 * BYTES];
    expected[2 * BYTES..6 * BYTES].fill(2);
    expected[6 * BYTES..].fill(1);
    assert_eq!(setup.content(), expected);
    setup.volume.drop_caches().unwrap();
    assert_eq!(setup.content(), expected);
    testing::check(&setup.volume).unwrap();
}
