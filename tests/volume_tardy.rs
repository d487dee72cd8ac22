//! Volumes on a device that works by itself and does it badly: late, in any order, in several threads, with errors. What
//! several threads write, past the page cache and through it, is what they read, and what a sync has promised is there
//! after a power cut.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use extent_map::device::{Limits, Recorder, Survivors};
use extent_map::file::{AllocateMode, File, Volume, VolumeOptions};
use extent_map::units::FileNumber;
use extent_map::{Error, Result};

#[path = "common/io.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod io;
#[path = "common/random.rs"]
mod random;
#[path = "common/tardy.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod tardy;

use random::Random;
use tardy::{Odds, Tardy};

const BLOCK: u64 = 1024;
const DEVICE: u64 = 2 << 20;
const THREADS: u64 = 3;
const FILE: u64 = 128 << 10;

/// What a file had, and at which moment of the device, when a sync had returned.
type Synced = (FileNumber, usize, Vec<u8>);

/// A file that one thread has to itself, and what is in it as long as no error has made that unknown.
struct Owned<'a> {
    file: File,
    volume: &'a Volume,
    device: &'a Recorder,
    content: Option<Vec<u8>>,
    synced: Vec<Synced>,
}

impl Owned<'_> {
    fn work(&mut self, mut random: Random, steps: u64) {
        for step in 0..steps {
            let offset = random.below(FILE / BLOCK - 16) * BLOCK;
            let len = (random.below(16) + 1) * BLOCK;
            let odd = random.below(BLOCK);
            let done = match random.below(16) {
                0..5 => self.write(offset + odd, len - odd, step, false),
                5..8 => self.write(offset, len, step, true),
                8 => self.punch(offset, len),
                9 => self.set_len(offset + odd),
                10..12 => self.sync(),
                12 => self.volume.drop_caches(),
                _ => self.read(random.below(2) == 0),
            };
            match done {
                Ok(()) => {}
                Err(Error::Io(_)) => self.content = None,
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    /// The content with room up to `end`.
    fn grown(&mut self, end: u64) -> Option<&mut Vec<u8>> {
        let content = self.content.as_mut()?;
        content.resize(content.len().max(end as usize), 0);
        Some(content)
    }

    fn write(&mut self, offset: u64, len: u64, step: u64, direct: bool) -> Result<()> {
        let data = vec![step as u8 | 1; len as usize];
        let written = match direct {
            true => self.file.write_direct_at(offset, &data)?,
            false => self.file.write_at(offset, &data)?,
        };
        if written < data.len() {
            self.content = None;
        }
        if let Some(content) = self.grown(offset + len) {
            content[offset as usize..][..data.len()].copy_from_slice(&data);
        }
        Ok(())
    }

    fn punch(&mut self, offset: u64, len: u64) -> Result<()> {
        self.file.allocate(AllocateMode::PunchHole, offset, len)?;
        if let Some(content) = &mut self.content {
            let end = content.len().min((offset + len) as usize);
            content[end.min(offset as usize)..end].fill(0);
        }
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> Result<()> {
        self.file.set_len(len)?;
        if let Some(content) = &mut self.content {
            content.resize(len as usize, 0);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.file.sync_all()?;
        let moment = self.device.moment();
        if let Some(content) = &self.content {
            self.synced
                .push((self.file.number(), moment, content.clone()));
        }
        Ok(())
    }

    fn read(&mut self, direct: bool) -> Result<()> {
        let mut bytes = vec![0; (2 * FILE) as usize];
        let read = match direct {
            true => self.file.read_direct_at(0, &mut bytes)?,
            false => self.file.read_at(0, &mut bytes)?,
        };
        let differs = |content: &Vec<u8>| bytes[..read] != **content;
        if self.content.as_ref().is_some_and(differs) {
            // What the device has failed to write, in the background too, may be lost; then the next sync says so.
            self.content = None;
            let told = self.file.sync_all();
            assert!(told.is_err(), "{:?}", self.file.number());
        }
        Ok(())
    }
}

fn open(device: Arc<Recorder>, seed: u64) -> Volume {
    let options = VolumeOptions::new()
        .block_size(BLOCK)
        .delayed_allocation(!seed.is_multiple_of(4))
        .cached_pages(24)
        .dirty_pages(8, 32)
        .dirty_age(Duration::from_millis(2))
        .background_writeback(true);
    Volume::format_persistent(device, &options).unwrap()
}

/// How many contents were promised and found; whether any file has heard of an error.
fn run(seed: u64, odds: Odds) -> (usize, bool) {
    let limits = Limits {
        depth: [2, 32][seed as usize % 2],
        queues: [1, 2][seed as usize / 2 % 2],
        native_fua: seed.is_multiple_of(3),
        max_bytes: 8 * BLOCK,
        ..Limits::default()
    };
    let tardy = Tardy::new(DEVICE, BLOCK, limits, Odds::default(), seed);
    let device = Arc::new(Recorder::new(tardy.clone()).unwrap());
    let volume = open(device.clone(), seed);
    tardy.set_odds(odds);
    let all = Mutex::new((Vec::new(), false));
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (volume, device, all) = (&volume, &device, &all);
            scope.spawn(move || {
                let mut owned = Owned {
                    file: volume.file(FileNumber(number)).unwrap(),
                    volume,
                    device,
                    content: Some(Vec::new()),
                    synced: Vec::new(),
                };
                owned.work(Random(seed * THREADS + number), 120);
                let mut all = all.lock().unwrap();
                all.0.append(&mut owned.synced);
                all.1 |= owned.content.is_none();
            });
        }
    });
    tardy.set_odds(Odds::default());
    let (synced, failed) = all.into_inner().unwrap();
    // What could not be given to the device is given now.
    let _ = volume.sync();
    volume.sync().unwrap();
    assert_eq!(volume.statfs().delayed_blocks, 0);
    let found = extent_map::testing::check(&volume);
    let mut violations = found.err().unwrap_or_default();
    // Pages that the device failed to write are clean.
    violations.retain(|violation| !failed || violation.invariant != 10);
    assert!(violations.is_empty(), "{violations:?}");
    volume.close().unwrap();
    let recording = device.recording();
    for (number, moment, content) in &synced {
        let image = recording.crash(*moment, Survivors::Nothing);
        let volume = Volume::open(Arc::new(image), &VolumeOptions::new()).unwrap();
        let file = volume.file(*number).unwrap();
        let mut bytes = vec![0; (2 * FILE) as usize];
        let read = file.read_at(0, &mut bytes).unwrap();
        assert!(bytes[..read] == **content, "{seed}: {number:?} at {moment}");
    }
    (synced.len(), failed)
}

#[test]
fn what_threads_write_is_what_they_read_and_what_they_sync_survives() {
    for seed in 0..6 {
        let (synced, failed) = run(seed, Odds::default());
        assert!(synced > 10 && !failed, "{synced}");
    }
}

#[test]
fn beside_errors_nothing_hangs_no_promise_is_lost_and_what_a_sync_has_promised_survives() {
    let odds = Odds {
        fails: 5,
        dropped: 5,
        lost: 0,
    };
    let runs = (10..22).map(|seed| run(seed, odds));
    let (synced, failed) = runs.fold((0, 0), |(all, errors), (synced, failed)| {
        (all + synced, errors + u64::from(failed))
    });
    assert!(synced > 10 && failed > 0, "{synced}, {failed}");
}
