//! Where the blocks of the volume live.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;
use extent_map::device::{BlockDevice, FileDevice, MemoryDevice};
use tempfile::NamedTempFile;

#[cfg(target_os = "linux")]
use extent_map::device::DirectDevice;
#[cfg(all(target_os = "linux", feature = "uring"))]
use extent_map::device::{UringDevice, UringOptions};

/// A kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeviceKind {
    /// In memory
    Memory,
    /// In a sparse file
    File,
    /// The same, past the system's page cache
    Direct,
    /// The same, by way of an io_uring (feature uring)
    Uring,
}

impl DeviceKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::File => "file",
            Self::Direct => "direct",
            Self::Uring => "uring",
        }
    }

    /// A device of `size` bytes in a new file at `image`, or in one that is gone at the end; and the folder it is in.
    pub(crate) fn make(
        self,
        image: Option<&Path>,
        size: u64,
    ) -> Result<(Arc<dyn BlockDevice>, PathBuf), String> {
        if self == Self::Memory {
            return Ok((Arc::new(MemoryDevice::new(size)), env::temp_dir()));
        }
        let Some(path) = image else {
            let temporary = NamedTempFile::new().map_err(|error| error.to_string())?;
            let sized = temporary.as_file().set_len(size);
            sized.map_err(|error| format!("{}: {error}", temporary.path().display()))?;
            // Only the device knows the file from here on: nothing is left behind, however this ends.
            return Ok((self.open(temporary.path())?, env::temp_dir()));
        };
        let made = FileDevice::create(path, size);
        made.map_err(|error| format!("--image {}: {}", path.display(), reason(&error)))?;
        let device = self.open(path).inspect_err(|_| {
            // Nobody needs an image that is no device.
            let _ = fs::remove_file(path);
        })?;
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        Ok((device, folder.unwrap_or(Path::new(".")).into()))
    }

    fn open(self, path: &Path) -> Result<Arc<dyn BlockDevice>, String> {
        let device: extent_map::Result<Arc<dyn BlockDevice>> = match self {
            Self::Memory | Self::File => FileDevice::open(path).map(|device| Arc::new(device) as _),
            #[cfg(target_os = "linux")]
            Self::Direct => DirectDevice::open(path).map(|device| Arc::new(device) as _),
            #[cfg(all(target_os = "linux", feature = "uring"))]
            Self::Uring => {
                UringDevice::open(path, UringOptions::default()).map(|device| Arc::new(device) as _)
            }
            #[cfg(not(all(target_os = "linux", feature = "uring")))]
            Self::Uring => return Err("--device uring: add --features uring (Linux)".into()),
            #[cfg(not(target_os = "linux"))]
            Self::Direct => return Err("--device direct: only on Linux".into()),
        };
        device.map_err(|error| {
            let (name, place) = (self.name(), path.display());
            format!("--device {name} in {place}: {}", reason(&error))
        })
    }
}

/// What the system says to an error, in words.
fn reason(error: &extent_map::Error) -> String {
    match error {
        extent_map::Error::Io(io) => std::io::Error::from_raw_os_error(io.errno).to_string(),
        other => other.to_string(),
    }
}
