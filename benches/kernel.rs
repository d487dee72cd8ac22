//! Buffered writes with a sync at the end, against ext4 of the kernel on a loop device: 64 MiB in pieces of 4 KiB and of
//! 1 MiB, into a new file. Both volumes lie in files of one folder, and take turns.
//!
//! ```text
//! cargo bench --bench kernel
//! ```
//!
//! Takes root, loop devices and `mkfs.ext4`; says so where they are not to be had.

#[path = "common/contest.rs"]
#[allow(dead_code, reason = "other benches use the rest")]
mod contest;
#[path = "common/spread.rs"]
#[allow(dead_code, reason = "other benches use the rest")]
mod spread;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use extent_map::device::FileDevice;
use extent_map::file::{Volume, VolumeOptions};
use extent_map::testing::ignore_lock_order;
use extent_map::units::FileNumber;

use contest::{Contestant, Plan, contest};

const ROUNDS: usize = 9;
const VOLUME: u64 = 512 << 20;
const FILE: usize = 64 << 20;

const OURS: &str = "Volume";
const KERNEL: &str = "ext4 of the kernel";

/// A mounted file system of the kernel, which ends with this.
struct Mounted(PathBuf);

impl Mounted {
    /// Makes an ext4 in a file of `folder` and mounts it beside that.
    fn new(folder: &Path) -> Option<Self> {
        let (image, place) = (folder.join("ext4"), folder.join("mounted"));
        fs::File::create(&image).ok()?.set_len(VOLUME).ok()?;
        fs::create_dir(&place).ok()?;
        let done = |program: &str, arguments: &[&str], paths: &[&Path]| {
            let output = Command::new(program).args(arguments).args(paths).output();
            output.is_ok_and(|output| output.status.success())
        };
        (done("mkfs.ext4", &["-q", "-F"], &[&image])
            && done("mount", &["-o", "loop"], &[&image, &place]))
        .then_some(Self(place))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.0.display());
        }
    }
}

/// Nanoseconds for each byte.
fn cost(start: Instant) -> f64 {
    start.elapsed().as_nanos() as f64 / FILE as f64
}

fn ours(volume: &Volume, piece: &[u8]) -> f64 {
    let file = volume.file(FileNumber(1)).expect("a good volume");
    let start = Instant::now();
    for offset in (0..FILE).step_by(piece.len()) {
        let written = file.write_at(offset as u64, piece);
        assert_eq!(written, Ok(piece.len()));
    }
    file.sync_all().expect("a good device");
    let cost = cost(start);
    file.set_len(0).expect("a good volume");
    file.sync_all().expect("a good device");
    cost
}

fn kernel(folder: &Path, piece: &[u8]) -> f64 {
    let path = folder.join("file");
    let file = fs::File::create(&path).expect("a mounted file system");
    let start = Instant::now();
    for offset in (0..FILE).step_by(piece.len()) {
        file.write_all_at(piece, offset as u64)
            .expect("there is room");
    }
    file.sync_all().expect("a good device");
    let cost = cost(start);
    fs::remove_file(&path).expect("it was made");
    fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .expect("a good device");
    cost
}

fn main() -> std::io::Result<()> {
    ignore_lock_order();
    let folder = tempfile::tempdir_in(".")?;
    let Some(mounted) = Mounted::new(folder.path()) else {
        println!("no comparison: ext4 of the kernel cannot be mounted on a loop device here");
        return Ok(());
    };
    let image = FileDevice::create(folder.path().join("image"), VOLUME)
        .and_then(|device| Volume::format_persistent(Arc::new(device), &VolumeOptions::new()));
    let volume = image.expect("an image of good size");
    let plan = Plan {
        rounds: ROUNDS,
        slice: Duration::ZERO,
    };
    println!("MiB/s of 64 MiB written and synced; times as fast as the kernel\n");
    println!("| pieces | {OURS} | {KERNEL} | times |\n|---|---|---|---|");
    for (name, len) in [("4 KiB", 4 << 10), ("1 MiB", 1 << 20)] {
        let piece = vec![7; len];
        let contestants = vec![
            Contestant::new(OURS, || ours(&volume, &piece)),
            Contestant::new(KERNEL, || kernel(&mounted.0, &piece)),
        ];
        let outcome = contest(&plan, contestants);
        let rates: Vec<_> = outcome
            .costs()
            .map(|(_, cost)| format!("{:.0}", 1e9 / cost.median / f64::from(1 << 20)))
            .collect();
        let times = outcome.faster(OURS, KERNEL);
        println!(
            "| {name} | {} | {} | {:.2} ({:.2} .. {:.2}) |",
            rates[0], rates[1], times.median, times.low, times.high
        );
    }
    Ok(())
}
