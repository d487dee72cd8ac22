//! A disk of the system that is really a file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held as long as there is a disk: until it has become another program, a child has what its parent has open, and while
/// it is open, nobody else can have a disk to himself.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A loop device over a new file of zeros; the only one of this process.
pub(crate) struct LoopDisk {
    path: PathBuf,
    _open: File,
    _folder: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl LoopDisk {
    /// A disk of `size` bytes, or a message that there can be none: it takes root, and a system with loop devices.
    pub(crate) fn new(size: u64) -> Option<Self> {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("disk");
        File::create(&image).unwrap().set_len(size).unwrap();
        let attached = losetup(["--show", "-f"].as_ref(), &image);
        let Some(path) = attached else {
            println!("not tested on a block device, as there is no loop device");
            return None;
        };
        let path = PathBuf::from(path);
        let open = File::open(&path).unwrap();
        // Takes effect when nobody has it open any more, whatever becomes of this process.
        losetup(["-d"].as_ref(), &path).unwrap();
        Some(Self {
            path,
            _open: open,
            _folder: folder,
            _turn: turn,
        })
    }

    /// Where the block device is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// What `losetup` says when it is content.
fn losetup(how: &[&str], path: &Path) -> Option<String> {
    let output = Command::new("losetup").args(how).arg(path).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim().to_owned())
}
