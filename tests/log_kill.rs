//! A process that is killed while it writes and syncs: every byte that was acknowledged is there.

use std::collections::HashMap;
use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use extent_map::device::FileDevice;
use extent_map::file::{Volume, VolumeOptions};
use extent_map::units::FileNumber;

#[path = "common/random.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod random;

use random::Random;

/// Names the image to a process that is to be killed.
const IMAGE: &str = "EXTENT_MAP_KILLED_IMAGE";
const KILLS: u64 = 100;
const THREADS: u64 = 3;
const RECORD: u64 = 700;

fn open(image: &Path) -> Volume {
    let device = Arc::new(FileDevice::open(image).unwrap());
    Volume::open(device, &VolumeOptions::new()).unwrap()
}

/// What record `number` of a file holds: not what an older one at its place held.
fn record(file: u64, number: u64) -> Vec<u8> {
    let mut random = Random(file << 32 | number);
    (0..RECORD).map(|_| random.any() as u8 | 1).collect()
}

/// Writes records to a file of its own in each of some threads, and says so of each that is synced. Never ends.
fn write_until_killed(image: &Path) {
    let volume = open(image);
    thread::scope(|scope| {
        for number in 1..=THREADS {
            let file = volume.file(FileNumber(number)).unwrap();
            scope.spawn(move || {
                for next in file.size() / RECORD.. {
                    file.write_at(next * RECORD, &record(number, next)).unwrap();
                    file.sync_all().unwrap();
                    let line = format!("synced {number} {next}\n");
                    io::stdout().write_all(line.as_bytes()).unwrap();
                }
            });
        }
    });
}

#[test]
fn every_acknowledged_byte_survives_a_hundred_kills() {
    if let Some(image) = env::var_os(IMAGE) {
        return write_until_killed(image.as_ref());
    }
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    let device = Arc::new(FileDevice::create(&image, 256 << 20).unwrap());
    drop(Volume::format_persistent(device, &VolumeOptions::new()).unwrap());
    let mut random = Random(1);
    let mut synced: HashMap<u64, u64> = HashMap::new();
    for _ in 0..KILLS {
        let mut writer = Command::new(env::current_exe().unwrap())
            .args(["--nocapture", "every_acknowledged"])
            .env(IMAGE, &image)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let mut acknowledge = |line: String| {
            let words: Vec<&str> = line.split(' ').collect();
            if let ["synced", file, number] = words[..] {
                synced.insert(file.parse().unwrap(), number.parse().unwrap());
                return true;
            }
            false
        };
        // It has begun; then at any moment.
        while !acknowledge(lines.next().unwrap().unwrap()) {}
        thread::sleep(Duration::from_micros(random.below(20_000)));
        writer.kill().unwrap();
        // The last line may be cut.
        lines.map_while(Result::ok).for_each(|line| {
            acknowledge(line);
        });
        writer.wait().unwrap();
        assert_eq!(
            Volume::check(&FileDevice::open(&image).unwrap()),
            Ok(vec![])
        );
        let volume = open(&image);
        for (file, last) in &synced {
            let content = volume.file(FileNumber(*file)).unwrap();
            for number in last.saturating_sub(20)..=*last {
                let mut bytes = vec![0; RECORD as usize];
                content.read_at(number * RECORD, &mut bytes).unwrap();
                assert!(
                    bytes == record(*file, number),
                    "file {file}, record {number}"
                );
            }
        }
    }
    println!("{synced:?}");
    assert_eq!(synced.len() as u64, THREADS);
}
