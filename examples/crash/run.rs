//! A run: operations on a volume on a device that records, and what was in every file when.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::thread;

use extent_map::Result;
use extent_map::device::{
    BlockDevice, FaultyDevice, ImageDevice, MemoryDevice, Recorder, Recording,
};
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

/// What befalls a volume beside its operations.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mishaps {
    /// The device fails once, at the operation with this number.
    pub(crate) fault: Option<u64>,
    /// The process dies within the operation of the device with this number. Another one opens the volume, on a device that
    /// has gone on.
    pub(crate) killed: Option<u64>,
}

/// The errno of a failing device.
const EIO: i32 = 5;
/// Those of calls that cannot be, or have no room: nothing to seek, stores behind the end of a file, arguments, sizes.
const REFUSALS: [i32; 5] = [6, 14, 22, 27, 28];

/// A volume that is watched.
struct Watched {
    device: Arc<Recorder>,
    /// What the process has of the device: nothing any more once it was killed.
    reach: Arc<FaultyDevice>,
    options: VolumeOptions,
    volume: Volume,
    mishaps: Mishaps,
    /// Whether what was done before was not brought to an end.
    crashed: bool,
    /// How many operations opening it has taken.
    opened_at: u64,
}

/// A file and its history.
struct Tracked {
    file: File,
    history: History,
}

impl Watched {
    /// Formats a device of `bytes` bytes that is full of other data, and opens it.
    fn new(bytes: u64, options: VolumeOptions, mishaps: Mishaps) -> Result<Self> {
        let junk = Arc::new(MemoryDevice::new(bytes));
        junk.write_at(0, &b"left by others. ".repeat(bytes as usize / 16))?;
        Volume::format_persistent(junk.clone(), &options)?;
        Self::on(junk, options, mishaps)
    }

    /// Opens the volume on `device`. The operations of the device are counted from then on.
    fn on(device: Arc<dyn BlockDevice>, options: VolumeOptions, mishaps: Mishaps) -> Result<Self> {
        let faulty = Arc::new(FaultyDevice::new(device));
        let device = Arc::new(Recorder::new(faulty.clone())?);
        if let Some(nth) = mishaps.fault {
            faulty.tear_at(None, nth, nth);
        }
        let reach = Arc::new(FaultyDevice::new(device.clone()));
        let volume = open(&reach, &options)?;
        let opened_at = reach.operation_count();
        if let Some(nth) = mishaps.killed {
            reach.cut_power_at(nth, nth);
        }
        Ok(Self {
            device,
            reach,
            options,
            volume,
            mishaps,
            crashed: mishaps.killed.is_some(),
            opened_at,
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
        self.open_again(files)
    }

    /// Whether the process was killed, and no other one started since.
    fn has_died(&self) -> bool {
        let operations = self.reach.operation_count() - self.opened_at;
        self.mishaps.killed.is_some_and(|nth| nth < operations)
    }

    /// Whatever befalls a volume, it answers nothing else: never that it contradicts itself.
    fn assert_possible(&self, op: &dyn Debug, outcome: &Outcome) {
        if let Outcome::Failed(errno) = outcome {
            let unlucky = self.mishaps.fault.is_some() || self.has_died();
            let possible = REFUSALS.contains(errno) || unlucky && *errno == EIO;
            assert!(possible, "{op:?}: {outcome:?}");
        }
    }

    /// What a write past the page cache writes, and where: whole blocks.
    fn direct(&self, offset: u64, len: u64, seed: u8) -> (u64, Vec<u8>) {
        let block = self.volume.statfs().block_size;
        let data = extent_map::testing::pattern(seed, len - len % block);
        (offset - offset % block, data.unwrap_or_default())
    }

    /// If the process was killed, starts another one; returns whether it did.
    fn revive(&mut self, files: &mut [Tracked]) -> Result<bool> {
        let died = self.has_died();
        if died {
            self.mishaps.killed = None;
            self.reach.clear_faults();
            self.open_again(files)?;
        }
        Ok(died)
    }

    fn open_again(&mut self, files: &mut [Tracked]) -> Result<()> {
        self.volume = open(&self.reach, &self.options)?;
        for tracked in files {
            tracked.file = self.volume.file(tracked.file.number())?;
        }
        Ok(())
    }

    fn end(self, mut files: Vec<Tracked>) -> Result<Run> {
        // Who looks is not killed.
        self.reach.clear_faults();
        if self.mishaps.fault.is_some() {
            for tracked in &mut files {
                let began = self.device.moment();
                if tracked.file.sync_all().is_err() {
                    tracked.history.failed(began);
                }
            }
        }
        let found = extent_map::testing::check(&self.volume);
        let mut violations = found.err().unwrap_or_default();
        let end = self.device.moment();
        let lost: Vec<FileNumber> = files
            .iter()
            .filter(|tracked| tracked.history.is_lost(end))
            .map(|tracked| tracked.file.number())
            .collect();
        // Pages that the device failed to write are clean; a crash may leave bytes behind the end of a file.
        let excused = |file| self.crashed || lost.contains(&file);
        violations.retain(|one| one.invariant != 10 || !one.file.is_some_and(excused));
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
fn open(device: &Arc<FaultyDevice>, options: &VolumeOptions) -> Result<Volume> {
    let open = || Volume::open(device.clone(), options);
    open().or_else(|_| open())
}

impl Tracked {
    /// Notes what an operation has left that began at the moment `began`. Where the process has died, nothing: the next one
    /// does.
    fn note(&mut self, watched: &Watched, began: usize) {
        // A device fails at most once.
        for _ in 0..2 {
            let mut content = vec![0; self.file.size() as usize];
            match self.file.read_at(0, &mut content) {
                Ok(read) if read == content.len() => {
                    return self.history.changed(began, content);
                }
                // An error after the first page leaves a short read.
                _ if watched.has_died() => return,
                _ => self.history.failed(began),
            }
        }
    }

    /// Notes what an operation that makes the file durable has come to, which began and ended at these moments.
    fn note_sync(&mut self, outcome: &Outcome, began: usize, ended: usize) {
        match outcome {
            Outcome::Done => self.history.synced(ended),
            _ => self.history.failed(began),
        }
    }
}

/// Runs `ops` one after the other on a volume of `files` files; to forget what is cached is to close the volume and to
/// open it.
///
/// # Errors
/// Those of making the volume.
pub(crate) fn in_turn(
    bytes: u64,
    options: VolumeOptions,
    files: usize,
    ops: impl IntoIterator<Item = Op>,
    mishaps: Mishaps,
) -> Result<Run> {
    let watched = Watched::new(bytes, options, mishaps)?;
    let files = watched.files(files)?;
    one_by_one(watched, files, ops)
}

/// The same on the volume that is on `image` already, whose files are durably as they are found.
pub(crate) fn in_turn_again(
    image: ImageDevice,
    options: VolumeOptions,
    files: usize,
    ops: impl IntoIterator<Item = Op>,
    mishaps: Mishaps,
) -> Result<Run> {
    let mut watched = Watched::on(Arc::new(image), options, mishaps)?;
    watched.crashed = true;
    let mut files = watched.files(files)?;
    loop {
        for tracked in &mut files {
            tracked.note(&watched, 0);
        }
        if !watched.revive(&mut files)? {
            break;
        }
    }
    for tracked in &mut files {
        tracked.history.synced(0);
    }
    one_by_one(watched, files, ops)
}

fn one_by_one(
    mut watched: Watched,
    mut files: Vec<Tracked>,
    ops: impl IntoIterator<Item = Op>,
) -> Result<Run> {
    for op in ops {
        let began = watched.device.moment();
        let outcome = match op {
            Op::DropCaches => match watched.reopen(&mut files) {
                Ok(()) => Outcome::Done,
                Err(error) => Outcome::Failed(error.errno()),
            },
            _ => {
                let open: Vec<File> = files.iter().map(|tracked| tracked.file.clone()).collect();
                apply(&op, &watched, &open)
            }
        };
        let ended = watched.device.moment();
        watched.assert_possible(&op, &outcome);
        if let (Op::File(number, FileOp::Write { offset, len, seed }), Outcome::Failed(EIO)) =
            (&op, &outcome)
            && is_direct(*seed)
        {
            let (offset, data) = watched.direct(*offset, *len, *seed);
            let history = &mut files[*number].history;
            history.tried(began, offset, &data);
        }
        let mut died = false;
        loop {
            died |= watched.revive(&mut files)?;
            for tracked in &mut files {
                tracked.note(&watched, began);
            }
            if !watched.has_died() {
                break;
            }
        }
        match &op {
            // Nobody is left to be told.
            _ if died => {}
            Op::Sync | Op::DropCaches => files
                .iter_mut()
                .for_each(|tracked| tracked.note_sync(&outcome, began, ended)),
            Op::File(number, FileOp::SyncData | FileOp::SyncAll) => {
                files[*number].note_sync(&outcome, began, ended);
            }
            Op::File(number, _) if outcome == Outcome::Failed(EIO) => {
                files[*number].history.failed(began);
            }
            _ => {}
        }
    }
    let began = watched.device.moment();
    if watched.revive(&mut files)? {
        for tracked in &mut files {
            tracked.note(&watched, began);
        }
    }
    watched.end(files)
}

/// Whether a write goes past the page cache.
fn is_direct(seed: u8) -> bool {
    seed % 4 == 3
}

/// Does an operation: some writes past the page cache, and with each sync of the volume the device hears what is free.
fn apply(op: &Op, watched: &Watched, files: &[File]) -> Outcome {
    match *op {
        Op::File(file, FileOp::Write { offset, len, seed }) if is_direct(seed) => {
            let (offset, data) = watched.direct(offset, len, seed);
            let len = data.len() as u64;
            let written = files[file].write_direct_at(offset, &data);
            match written {
                // What follows is unspecified where the device has failed.
                Ok(written) if (written as u64) < len && watched.mishaps.fault.is_some() => {
                    Outcome::Failed(EIO)
                }
                Ok(written) => Outcome::Count(written as u64),
                Err(error) => Outcome::Failed(error.errno()),
            }
        }
        Op::Sync => {
            let outcome = op.apply(&watched.volume, files);
            // It may fail: nobody has to hear of that.
            let _ = watched.volume.trim(0..u64::MAX, 0);
            outcome
        }
        _ => op.apply(&watched.volume, files),
    }
}

/// Runs each list of operations in a thread of its own, on a file of its own.
pub(crate) fn at_once(
    bytes: u64,
    options: VolumeOptions,
    scripts: Vec<Vec<FileOp>>,
    mishaps: Mishaps,
) -> Result<Run> {
    at_once_beside(bytes, options, scripts, mishaps, |_| ())
}

/// The same with something else that is done to the volume meanwhile.
pub(crate) fn at_once_beside(
    bytes: u64,
    options: VolumeOptions,
    scripts: Vec<Vec<FileOp>>,
    mishaps: Mishaps,
    beside: impl FnOnce(&Volume) + Send,
) -> Result<Run> {
    let mut watched = Watched::new(bytes, options, mishaps)?;
    let files = watched.files(scripts.len())?;
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        scope.spawn(|| beside(&watched.volume));
        for (mut tracked, script) in files.into_iter().zip(scripts) {
            let (done, watched) = (&done, &watched);
            scope.spawn(move || {
                let began = alone(watched, &mut tracked, &script);
                done.lock().expect("nobody panics").push((began, tracked));
            });
        }
    });
    let done = done.into_inner().expect("nobody panics");
    let (began, mut files): (Vec<usize>, Vec<Tracked>) = done.into_iter().unzip();
    if watched.revive(&mut files)? {
        for (tracked, began) in files.iter_mut().zip(began) {
            tracked.note(&watched, began);
        }
    }
    watched.end(files)
}

/// Stops when the process is killed. When the last operation began.
fn alone(watched: &Watched, tracked: &mut Tracked, script: &[FileOp]) -> usize {
    let mut began = watched.device.moment();
    for op in script {
        began = watched.device.moment();
        let outcome = op.apply(&tracked.file);
        let ended = watched.device.moment();
        watched.assert_possible(op, &outcome);
        if watched.has_died() {
            break;
        }
        tracked.note(watched, began);
        if watched.has_died() {
            break;
        }
        match op {
            FileOp::SyncData | FileOp::SyncAll => tracked.note_sync(&outcome, began, ended),
            _ if outcome == Outcome::Failed(EIO) => tracked.history.failed(began),
            _ => {}
        }
    }
    began
}
