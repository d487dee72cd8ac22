//! A file on a volume whose device counts what it is asked for, and that writes nothing back by itself.

use std::sync::Arc;

use extent_map::device::{FaultyDevice, MemoryDevice};
use extent_map::file::{File, Volume, VolumeOptions};
use extent_map::units::FileNumber;

pub(crate) struct Setup {
    pub(crate) device: Arc<FaultyDevice>,
    pub(crate) volume: Volume,
    pub(crate) file: File,
}

pub(crate) fn setup(options: VolumeOptions) -> Setup {
    let device = Arc::new(FaultyDevice::new(Arc::new(MemoryDevice::new(64 << 20))));
    let options = options.background_writeback(false);
    let volume = Volume::format(device.clone(), &options).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    Setup {
        device,
        volume,
        file,
    }
}
