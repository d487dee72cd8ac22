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
        Self::in_folder(tempfile::tempdir().unwrap(), size)
    }

    /// A disk that says it has `size` bytes, but can be written to only in `room` bytes of them; or a message.
    #[allow(dead_code, reason = "not every test wants a bad disk")]
    pub(crate) fn with_room(size: u64, room: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let limit = format!("size={room}");
        if said(
            "mount",
            &["-t", "tmpfs", "-o", &limit, "none"],
            folder.path(),
        )
        .is_none()
        {
            println!("not tested on a disk that fails, as nothing can be mounted");
            return None;
        }
        let mounted = folder.path().to_owned();
        let disk = Self::in_folder(folder, size);
        // As with the disk: it goes when nobody uses it any more.
        said("umount", &["--lazy"], &mounted).unwrap();
        disk
    }

    fn in_folder(folder: tempfile::TempDir, size: u64) -> Option<Self> {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let image = folder.path().join("disk");
        File::create(&image).unwrap().set_len(size).unwrap();
        let Some(path) = said("losetup", &["--show", "-f"], &image) else {
            println!("not tested on a block device, as there is no loop device");
            return None;
        };
        let path = PathBuf::from(path);
        let open = File::open(&path).unwrap();
        // Takes effect when nobody has it open any more, whatever becomes of this process.
        said("losetup", &["-d"], &path).unwrap();
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

/// What a program says when it is content.
fn said(program: &str, how: &[&str], path: &Path) -> Option<String> {
    let output = Command::new(program).args(how).arg(path).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim().to_owned())
}
