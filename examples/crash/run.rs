//! A run: operations on a volume on a device that records, and what was in every file when.

use std::sync::{Arc, Mutex};
use std::thread;

use extent_map::Result;
use extent_map::device::{BlockDevice, FaultyDevice, MemoryDevice, Recorder, Recording};
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

/// The errno of a failing device.
const EIO: i32 = 5;

/// A volume that is watched.
struct Watched {
    device: Arc<Recorder>,
    options: VolumeOptions,
    volume: Volume,
    fails: bool,
}

/// A file and its history.
struct Tracked {
    file: File,
    history: History,
}

impl Watched {
    /// Formats a device of `bytes` bytes that is full of other data, and opens it. Of the operations from then on the one
    /// with the number `fault` fails.
    fn new(bytes: u64, options: VolumeOptions, fault: Option<u64>) -> Result<Self> {
        let junk = Arc::new(MemoryDevice::new(bytes));
        junk.write_at(0, &b"left by others. ".repeat(bytes as usize / 16))?;
        Volume::format_persistent(junk.clone(), &options)?;
        let faulty = Arc::new(FaultyDevice::new(junk));
        let device = Arc::new(Recorder::new(faulty.clone())?);
        if let Some(nth) = fault {
            faulty.tear_at(None, nth, nth);
        }
        let volume = open(&device, &options)?;
        Ok(Self {
            device,
            options,
            volume,
            fails: fault.is_some(),
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

    /// Closes the volume and opens it again.
    fn reopen(&mut self, files: &mut [Tracked]) -> Result<()> {
        self.volume.sync()?;
        self.volume = open(&self.device, &self.options)?;
        for tracked in files {
            tracked.file = self.volume.file(tracked.file.number())?;
        }
        Ok(())
    }

    fn end(self, files: Vec<Tracked>) -> Result<Run> {
        let found = extent_map::testing::check(&self.volume);
        let mut violations = found.err().unwrap_or_default();
        if self.fails {
            // Pages that the device failed to write are clean.
            violations.retain(|violation| violation.invariant != 10);
        }
        assert!(violations.is_empty(), "{violations:?}");
        let histories = files.into_iter().map(|tracked| {
            let Tracked { file, history } = tracked;
            (file.number(), history)
        });
        Ok(Run {
            histories: histories.collect(),
            recording: self.device.recording(),
            options: self.options,
        })
    }
}

/// Opens a volume on a device that fails at most once.
fn open(device: &Arc<Recorder>, options: &VolumeOptions) -> Result<Volume> {
    let open = || Volume::open(device.clone(), options);
    open().or_else(|_| open())
}

impl Tracked {
    /// Notes what an operation has left that began at the moment `began`.
    fn note(&mut self, began: usize) {
        let mut content = vec![0; self.file.size() as usize];
        match self.file.read_at(0, &mut content) {
            Ok(read) if read == content.len() => self.history.changed(began, content),
            // An error after the first page leaves a short read.
            _ => self.history.failed(),
        }
    }

    /// Notes that an operation which makes the file durable has ended at the moment `ended`.
    fn note_sync(&mut self, outcome: &Outcome, ended: usize) {
        match outcome {
            Outcome::Done => self.history.synced(ended),
            _ => self.history.failed(),
        }
    }
}

/// Runs `ops` one after the other on a volume of `files` files; to forget what is cached is to close the volume and to
/// open it. The device fails once, at the operation with the number `fault`, if there is one.
///
/// # Errors
/// Those of making the volume.
pub(crate) fn in_turn(
    bytes: u64,
    options: VolumeOptions,
    files: usize,
    ops: impl IntoIterator<Item = Op>,
    fault: Option<u64>,
) -> Result<Run> {
    let mut watched = Watched::new(bytes, options, fault)?;
    let mut files = watched.files(files)?;
    for op in ops {
        let began = watched.device.moment();
        let outcome = match op {
            Op::DropCaches => match watched.reopen(&mut files) {
                Ok(()) => Outcome::Done,
                Err(error) => Outcome::Failed(error.errno()),
            },
            _ => {
                let open: Vec<File> = files.iter().map(|tracked| tracked.file.clone()).collect();
                op.apply(&watched.volume, &open)
            }
        };
        let ended = watched.device.moment();
        files.iter_mut().for_each(|tracked| tracked.note(began));
        match &op {
            Op::Sync | Op::DropCaches => files
                .iter_mut()
                .for_each(|tracked| tracked.note_sync(&outcome, ended)),
            Op::File(number, FileOp::SyncData | FileOp::SyncAll) => {
                files[*number].note_sync(&outcome, ended);
            }
            Op::File(number, _) if outcome == Outcome::Failed(EIO) => {
                files[*number].history.failed();
            }
            _ => {}
        }
    }
    watched.end(files)
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
    let watched = Watched::new(bytes, options, None)?;
    let files = watched.files(scripts.len())?;
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        scope.spawn(|| beside(&watched.volume));
        for (mut tracked, script) in files.into_iter().zip(scripts) {
            let (done, watched) = (&done, &watched);
            scope.spawn(move || {
                alone(watched, &mut tracked, &script);
                done.lock().expect("nobody panics").push(tracked);
            });
        }
    });
    watched.end(done.into_inner().expect("nobody panics"))
}

fn alone(watched: &Watched, tracked: &mut Tracked, script: &[FileOp]) {
    for op in script {
        let began = watched.device.moment();
        let outcome = op.apply(&tracked.file);
        let ended = watched.device.moment();
        tracked.note(began);
        if matches!(op, FileOp::SyncData | FileOp::SyncAll) {
            tracked.note_sync(&outcome, ended);
        }
    }
}
