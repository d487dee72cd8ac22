//! A volume on a device that is a file of another volume: the locks of one are no business of the other.

use std::sync::Arc;

use extent_map::Result;
use extent_map::device::{BlockDevice, FaultyDevice, MemoryDevice};
use extent_map::file::{AllocateMode, File, Volume, VolumeOptions};
use extent_map::testing;
use extent_map::units::FileNumber;

/// A device that is a file, as a loop device.
#[derive(Debug)]
struct Loop(File);

impl BlockDevice for Loop {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.0.read_at(offset, buffer).map(drop)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.0.write_at(offset, data).map(drop)
    }

    fn flush(&self) -> Result<()> {
        self.0.sync_data()
    }

    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.0.allocate(AllocateMode::PunchHole, offset, len)
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        self.0.allocate(AllocateMode::ZeroRange, offset, len)
    }
}

fn volume_on(device: impl BlockDevice + 'static) -> (Volume, File) {
    let device = FaultyDevice::new(Arc::new(FaultyDevice::new(Arc::new(device))));
    let volume = Volume::format(Arc::new(device), &VolumeOptions::new()).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    (volume, file)
}

#[test]
fn a_volume_inside_a_file_of_another() {
    let (outer, image) = volume_on(MemoryDevice::new(4 << 20));
    image.set_len(1 << 20).unwrap();
    let (inner, file) = volume_on(Loop(image));
    file.write_at(100, &[7; 50_000]).unwrap();
    file.sync_all().unwrap();
    for volume in [&inner, &outer] {
        volume.drop_caches().unwrap();
        testing::check_synced(volume).unwrap();
    }
    let mut content = vec![0; 50_000];
    assert_eq!(file.read_at(100, &mut content), Ok(50_000));
    assert!(content.iter().all(|byte| *byte == 7));
}
