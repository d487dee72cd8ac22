//! A run: operations on a volume on a device that records, and what was in every file when.

use std::sync::{Arc, Mutex};
use std::thread;

use extent_map::Result;
use extent_map::device::{BlockDevice, MemoryDevice, Recorder, Recording};
use extent_map::file::{File, Volume, VolumeOptions};
use extent_map::testing::{FileOp, Op, Outcome};
use extent_map::units::FileNumber;

use super::history::History;

/// What was done, what the device was asked for meanwhile, and what files had in them.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) recording: Recording,
    pub(crate) histories: Vec<(FileNumber, History)>,
    pub(crate) options: VolumeOptions,
}

/// A volume that is watched.
struct Watched {
    device: Arc<Recorder>,
    options: VolumeOptions,
    volume: Volume,
}

/// A file and its history.
struct Tracked {
    file: File,
    history: History,
}

impl Watched {
    /// Formats a device of `bytes` bytes that is full of other data.
    fn new(bytes: u64, options: VolumeOptions) -> Result<Self> {
        let junk = Arc::new(MemoryDevice::new(bytes));
        junk.write_at(0, &b"left by others. ".repeat(bytes as usize / 16))?;
        Volume::format_persistent(junk.clone(), &options)?;
        let device = Arc::new(Recorder::new(junk)?);
        let volume = Volume::open(device.clone(), &options)?;
        Ok(Self {
            device,
            options,
            volume,
        })
    }

    fn files(&self, count: usize) -> Result<Vec<Tracked>> {
        let file = |number| {
            Ok(Tracked {
                file: self.volume.file(FileNumber(number))?,
                history: History::new(),
            })
        };
        (0..count as u64).map(file).collect()
    }

    fn end(self, files: Vec<Tracked>) -> Run {
        let histories = files.into_iter().map(|tracked| {
            let Tracked { file, history } = tracked;
            (file.number(), history)
        });
        Run {
            histories: histories.collect(),
            recording: self.device.recording(),
            options: self.options,
        }
    }
}

impl Tracked {
    /// Notes what an operation has left that began at the moment `began`.
    fn note(&mut self, began: usize) -> Result<()> {
        let mut content = vec![0; self.file.size() as usize];
        self.file.read_at(0, &mut content)?;
        self.history.changed(began, content);
        Ok(())
    }
}

/// Runs `ops` one after the other on a volume of `files` files; to forget what is cached is to close the volume and to
/// open it.
pub(crate) fn in_turn(
    bytes: u64,
    options: VolumeOptions,
    files: usize,
    ops: impl IntoIterator<Item = Op>,
) -> Result<Run> {
    let mut watched = Watched::new(bytes, options)?;
    let mut files = watched.files(files)?;
    for op in ops {
        let began = watched.device.moment();
        let outcome = match op {
            Op::DropCaches => {
                files = reopened(&mut watched, files)?;
                Outcome::Done
            }
            _ => {
                let open: Vec<File> = files.iter().map(|tracked| tracked.file.clone()).collect();
                op.apply(&watched.volume, &open)
            }
        };
        let ended = watched.device.moment();
        files
            .iter_mut()
            .try_for_each(|tracked| tracked.note(began))?;
        let done = outcome == Outcome::Done;
        match op {
            Op::Sync | Op::DropCaches if done => {
                files
                    .iter_mut()
                    .for_each(|tracked| tracked.history.synced(ended));
            }
            Op::File(number, FileOp::SyncData | FileOp::SyncAll) if done => {
                files[number].history.synced(ended);
            }
            _ => {}
        }
    }
    Ok(watched.end(files))
}

/// Closes the volume and opens it again.
fn reopened(watched: &mut Watched, files: Vec<Tracked>) -> Result<Vec<Tracked>> {
    let kept: Vec<_> = files
        .into_iter()
        .map(|tracked| (tracked.file.number(), tracked.history))
        .collect();
    watched.volume.sync()?;
    watched.volume = Volume::open(watched.device.clone(), &watched.options)?;
    let tracked = |(number, history)| {
        let file = watched.volume.file(number)?;
        Ok(Tracked { file, history })
    };
    kept.into_iter().map(tracked).collect()
}

/// Runs each list of operations in a thread of its own, on a file of its own.
pub(crate) fn at_once(
    bytes: u64,
    options: VolumeOptions,
    scripts: Vec<Vec<FileOp>>,
) -> Result<Run> {
    at_once_beside(bytes, options, scripts, |_| ())
}

/// The same with something else that is done to the volume meanwhile.
pub(crate) fn at_once_beside(
    bytes: u64,
    options: VolumeOptions,
    scripts: Vec<Vec<FileOp>>,
    beside: impl FnOnce(&Volume) + Send,
) -> Result<Run> {
    let watched = Watched::new(bytes, options)?;
    let files = watched.files(scripts.len())?;
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        scope.spawn(|| beside(&watched.volume));
        for (mut tracked, script) in files.into_iter().zip(scripts) {
            let (done, watched) = (&done, &watched);
            scope.spawn(move || {
                let outcome = alone(watched, &mut tracked, &script);
                done.lock().expect("nobody panics").push((outcome, tracked));
            });
        }
    });
    let mut files = Vec::new();
    for (outcome, tracked) in done.into_inner().expect("nobody panics") {
        outcome?;
        files.push(tracked);
    }
    Ok(watched.end(files))
}

fn alone(watched: &Watched, tracked: &mut Tracked, script: &[FileOp]) -> Result<()> {
    for op in script {
        let began = watched.device.moment();
        let outcome = op.apply(&tracked.file);
        let ended = watched.device.moment();
        tracked.note(began)?;
        if outcome == Outcome::Done && matches!(op, FileOp::SyncData | FileOp::SyncAll) {
            tracked.history.synced(ended);
        }
    }
    Ok(())
}
