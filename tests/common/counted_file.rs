//! A file on a volume whose device counts what it is asked for, and that writes nothing back by itself.

use std::sync::Arc;

use extent_map::device::{BlockDevice, FaultyDevice, MemoryDevice};
use extent_map::file::{File, Volume, VolumeOptions};
use extent_map::units::FileNumber;

pub(crate) struct Setup {
    pub(crate) device: Arc<FaultyDevice>,
    pub(crate) volume: Volume,
    pub(crate) file: File,
}

pub(crate) fn setup(options: VolumeOptions) -> Setup {
    setup_on(Arc::new(MemoryDevice::new(64 << 20)), options)
}

pub(crate) fn setup_on(device: Arc<dyn BlockDevice>, options: VolumeOptions) -> Setup {
    let device = Arc::new(FaultyDevice::new(device));
    let options = options.background_writeback(false);
    let volume = Volume::format(device.clone(), &options).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    Setup {
        device,
        volume,
        file,
    }
}
