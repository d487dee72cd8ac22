//! A disk of the system that is really a file.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A loop device over a new file of zeros; detached at the end.
pub(crate) struct LoopDisk {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl LoopDisk {
    /// A disk of `size` bytes, or a message that there can be none: it takes root, and a system with loop devices.
    pub(crate) fn new(size: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("disk");
        std::fs::File::create(&image)
            .unwrap()
            .set_len(size)
            .unwrap();
        let attached = Command::new("losetup")
            .args(["--show", "-f"])
            .arg(&image)
            .output();
        match attached {
            Ok(output) if output.status.success() => Some(Self {
                path: String::from_utf8(output.stdout).unwrap().trim().into(),
                _folder: folder,
            }),
            refused => {
                println!("not tested on a block device, as there is no loop device: {refused:?}");
                None
            }
        }
    }

    /// Where the block device is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let detached = Command::new("losetup").arg("-d").arg(&self.path).status();
        if !detached.is_ok_and(|status| status.success()) {
            eprintln!("{} is still attached", self.path.display());
        }
    }
}
