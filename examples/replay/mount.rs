//! The volume that a trace is replayed on, and how it is mounted again.

use std::io;
use std::mem;
use std::sync::Arc;

use clap::ValueEnum;
use extent_map::device::{BlockDevice, MemoryDevice};
use extent_map::file::{File, Volume, VolumeOptions};
use extent_map::testing::{Op, Outcome};
use extent_map::units::FileNumber;
use extent_map::{Error, Result};
use tempfile::NamedTempFile;

use super::blackbox::Device;
use super::trace::Head;

/// A kind of mapping store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Store {
    /// In memory; to mount again is to forget all that is cached
    #[default]
    Memory,
    /// On the device; to mount again is to close the volume and to open it
    Log,
}

/// A volume and its open files.
#[derive(Debug)]
pub(crate) struct Mount {
    /// Not there only while it is mounted again, or when that has failed.
    volume: Option<Volume>,
    files: Vec<File>,
    device: Arc<dyn BlockDevice>,
    options: VolumeOptions,
    store: Store,
    _image: Option<NamedTempFile>,
}

impl Mount {
    /// Formats a device as the head of a trace wants it.
    pub(crate) fn new(head: &Head, device: Device, store: Store) -> io::Result<Self> {
        let options = VolumeOptions::new()
            .block_size(head.block_size)
            .cluster_blocks(head.cluster_blocks)
            .delayed_allocation(head.delayed);
        let (device, image) = device.make(device_bytes(head, store, &options)?)?;
        let volume = match store {
            Store::Memory => Volume::format(Arc::clone(&device), &options)?,
            Store::Log => Volume::format_persistent(Arc::clone(&device), &options)?,
        };
        let files = (0..head.files).map(|number| volume.file(FileNumber(number)));
        Ok(Self {
            files: files.collect::<Result<_>>()?,
            volume: Some(volume),
            device,
            options,
            store,
            _image: image,
        })
    }

    /// Whether the volume is there: not when mounting it again has failed.
    pub(crate) fn is_mounted(&self) -> bool {
        self.volume.is_some()
    }

    pub(crate) fn volume(&self) -> &Volume {
        self.volume.as_ref().expect("mounted")
    }

    pub(crate) fn files(&self) -> &[File] {
        &self.files
    }

    pub(crate) fn apply(&mut self, op: &Op) -> Outcome {
        match (op, self.store) {
            (Op::DropCaches, Store::Log) => match self.again() {
                Ok(()) => Outcome::Done,
                Err(error) => Outcome::Failed(error.errno()),
            },
            _ => op.apply(self.volume(), &self.files),
        }
    }

    /// Mounts the volume again.
    pub(crate) fn again(&mut self) -> Result<()> {
        if self.store == Store::Memory {
            return self.volume().drop_caches();
        }
        let numbers: Vec<_> = self.files.iter().map(File::number).collect();
        self.unmount()?;
        let volume = Volume::open(Arc::clone(&self.device), &self.options)?;
        let files = numbers.into_iter().map(|number| volume.file(number));
        self.files = files.collect::<Result<_>>()?;
        self.volume = Some(volume);
        Ok(())
    }

    /// Closes the volume, and looks whether all is well on the device.
    pub(crate) fn unmount(&mut self) -> Result<()> {
        drop(mem::take(&mut self.files));
        if let Some(volume) = self.volume.take() {
            volume.close()?;
        }
        match self.store {
            Store::Log if !Volume::check(&*self.device)?.is_empty() => {
                Err(Error::Corrupt("the volume is not as it should be"))
            }
            _ => Ok(()),
        }
    }
}

/// The size of a device on which files may use what the head of a trace says.
fn device_bytes(head: &Head, store: Store, options: &VolumeOptions) -> Result<u64> {
    let usable = head.free_blocks.saturating_mul(head.block_size);
    // The first cluster is the volume's own.
    let mut size = usable.saturating_add(head.cluster_blocks * head.block_size);
    if store == Store::Memory {
        return Ok(size);
    }
    // What a volume takes grows with its device, but by much less.
    loop {
        let device = Arc::new(MemoryDevice::new(size));
        let missing = match Volume::format_persistent(device, options) {
            Ok(volume) => usable - volume.statfs().free_blocks * head.block_size,
            Err(Error::DeviceTooSmall { have, need }) => need - have,
            Err(error) => return Err(error),
        };
        if missing == 0 {
            return Ok(size);
        }
        size += missing;
    }
}
