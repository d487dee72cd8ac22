//! What the threads work on: numbered files, of the volume or of the system.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;

use extent_map::Result;
use extent_map::file::{AllocateMode, File, Volume};
use extent_map::units::FileNumber;
use rustix::fs::{FallocateFlags, fallocate};

/// Files. A write is whole or an error.
pub(crate) trait Target: Send + Sync {
    fn name(&self) -> &'static str;

    /// Whether a page is read as it was at one instant, also beside its writers.
    fn reads_whole_pages(&self) -> bool;

    fn size(&self, file: usize) -> io::Result<u64>;

    /// How many bytes were there.
    fn read(&self, file: usize, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    fn write(&self, file: usize, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Stores through a mapping, which faults the page in.
    fn store(&self, file: usize, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Preallocates, without growing the file.
    fn allocate(&self, file: usize, offset: u64, len: u64) -> io::Result<()>;

    fn punch(&self, file: usize, offset: u64, len: u64) -> io::Result<()>;

    fn truncate(&self, file: usize, size: u64) -> io::Result<()>;

    fn sync(&self, file: usize) -> io::Result<()>;

    /// Writes everything back.
    fn settle(&self) -> io::Result<()>;
}

/// The files 1 and up of a volume.
#[derive(Debug)]
pub(crate) struct OnVolume {
    // Before the volume: they end first.
    files: Vec<File>,
    pub(crate) volume: Volume,
}

impl OnVolume {
    pub(crate) const NAME: &'static str = "Volume";

    pub(crate) fn new(volume: Volume, files: usize) -> Result<Self> {
        let open = |number| volume.file(FileNumber(number));
        let files = (1..=files as u64).map(open).collect::<Result<_>>()?;
        Ok(Self { files, volume })
    }
}

/// Nothing was written, or all: a short write is one that ran out of space.
fn whole(written: usize, data: &[u8]) -> io::Result<()> {
    match written == data.len() {
        true => Ok(()),
        false => Err(io::ErrorKind::StorageFull.into()),
    }
}

impl Target for OnVolume {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn reads_whole_pages(&self) -> bool {
        true
    }

    fn size(&self, file: usize) -> io::Result<u64> {
        Ok(self.files[file].size())
    }

    fn read(&self, file: usize, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.files[file].read_at(offset, buffer)?)
    }

    fn write(&self, file: usize, offset: u64, data: &[u8]) -> io::Result<()> {
        whole(self.files[file].write_at(offset, data)?, data)
    }

    fn store(&self, file: usize, offset: u64, data: &[u8]) -> io::Result<()> {
        whole(self.files[file].store_mapped(offset, data)?, data)
    }

    fn allocate(&self, file: usize, offset: u64, len: u64) -> io::Result<()> {
        Ok(self.files[file].allocate(AllocateMode::AllocateKeepSize, offset, len)?)
    }

    fn punch(&self, file: usize, offset: u64, len: u64) -> io::Result<()> {
        Ok(self.files[file].allocate(AllocateMode::PunchHole, offset, len)?)
    }

    fn truncate(&self, file: usize, size: u64) -> io::Result<()> {
        Ok(self.files[file].set_len(size)?)
    }

    fn sync(&self, file: usize) -> io::Result<()> {
        Ok(self.files[file].sync_all()?)
    }

    fn settle(&self) -> io::Result<()> {
        Ok(self.volume.sync()?)
    }
}

/// Files of the system that are gone at the end.
#[derive(Debug)]
pub(crate) struct OnSystem {
    files: Vec<fs::File>,
}

impl OnSystem {
    pub(crate) const NAME: &'static str = "std::fs::File";

    pub(crate) fn new(folder: &Path, files: usize) -> io::Result<Self> {
        let files = (0..files).map(|_| tempfile::tempfile_in(folder));
        Ok(Self {
            files: files.collect::<io::Result<_>>()?,
        })
    }
}

impl Target for OnSystem {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn reads_whole_pages(&self) -> bool {
        false
    }

    fn size(&self, file: usize) -> io::Result<u64> {
        Ok(self.files[file].metadata()?.len())
    }

    fn read(&self, file: usize, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.files[file].read_at(buffer, offset)
    }

    fn write(&self, file: usize, offset: u64, data: &[u8]) -> io::Result<()> {
        self.files[file].write_all_at(data, offset)
    }

    /// Nobody maps a file without `unsafe`: this is a write too.
    fn store(&self, file: usize, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write(file, offset, data)
    }

    fn allocate(&self, file: usize, offset: u64, len: u64) -> io::Result<()> {
        Ok(fallocate(
            &self.files[file],
            FallocateFlags::KEEP_SIZE,
            offset,
            len,
        )?)
    }

    fn punch(&self, file: usize, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(&self.files[file], flags, offset, len)?)
    }

    fn truncate(&self, file: usize, size: u64) -> io::Result<()> {
        self.files[file].set_len(size)
    }

    fn sync(&self, file: usize) -> io::Result<()> {
        self.files[file].sync_all()
    }

    fn settle(&self) -> io::Result<()> {
        // All at once, as a volume does it.
        thread::scope(|scope| {
            let sync = |file| scope.spawn(move || fs::File::sync_all(file));
            let syncs: Vec<_> = self.files.iter().map(sync).collect();
            let mut ended = syncs.into_iter().map(|sync| sync.join());
            ended.try_for_each(|synced| synced.expect("no panic"))
        })
    }
}
