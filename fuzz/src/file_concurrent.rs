//! Threads on one volume under a schedule that the input chooses: nothing is lost, made up or leaked.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use extent_map::device::MemoryDevice;
use extent_map::file::{AllocateMode, File, Volume};
use extent_map::probe::Probe;
use extent_map::testing::{self, FileOp, Op, Outcome, Shape};
use extent_map::units::FileNumber;
use shuttle::scheduler::RandomScheduler;
use shuttle::{Config, Runner, thread};

use super::dealt::Dealt;

/// What was done, and what it answered.
type Done = Vec<(Op, Outcome)>;

/// Runs `data` as threads on a volume.
pub fn run(data: &[u8]) {
    run_with(Probe::default(), data);
}

/// As [`run`] on a volume with a probe in it.
pub fn run_with(probe: Probe, data: &[u8]) {
    let Ok(dealt) = Dealt::arbitrary(&mut Unstructured::new(data)) else {
        return;
    };
    let mut config = Config::new();
    // Pages are copied by way of the stack.
    config.stack_size = 256 << 10;
    config.silence_warnings = true;
    let scheduler = RandomScheduler::new_from_seed(dealt.seed, 1);
    Runner::new(scheduler, config).run(move || once(&dealt, &probe));
}

/// The body of one schedule.
fn once(dealt: &Dealt, probe: &Probe) {
    // Small, so that space runs out now and then.
    let size = (64 * dealt.shape.cluster_bytes()).max(256 << 10);
    let options = dealt.shape.options().probe(probe.clone());
    let volume = Volume::format(Arc::new(MemoryDevice::new(size)), &options).expect("good options");
    let open = |number| volume.file(FileNumber(number)).expect("a new file");
    let files: Vec<File> = (1..=Shape::FILES as u64).map(open).collect();
    let free = volume.statfs().free_blocks;
    let run = |ops: &[Op]| -> Done {
        let done = ops
            .iter()
            .map(|op| (op.clone(), apply(op, &volume, &files)));
        done.collect()
    };
    let mut history = vec![run(&dealt.before)];
    history.extend(thread::scope(|scope| {
        let threads = dealt.threads.each_ref().map(|ops| scope.spawn(|| run(ops)));
        threads.map(|thread| thread.join().expect("no thread panics"))
    }));
    assert_eq!(testing::check(&volume), Ok(()));
    let contents: Vec<_> = files.iter().map(content).collect();
    for (number, content) in contents.iter().enumerate() {
        explain(number, content, &history);
    }
    for file in &files {
        assert_eq!(file.sync_all(), Ok(()));
    }
    assert_eq!(testing::check_synced(&volume), Ok(()));
    assert_eq!(volume.drop_caches(), Ok(()));
    for (file, content) in files.iter().zip(&contents) {
        assert!(
            self::content(file) == *content,
            "what was read is not on the device"
        );
        assert_eq!(file.set_len(0), Ok(()));
    }
    assert_eq!(volume.statfs().free_blocks, free, "space has leaked");
}

/// Syncing a volume uses threads that the explorer does not know; here the files are synced one by one.
fn apply(op: &Op, volume: &Volume, files: &[File]) -> Outcome {
    match op {
        Op::Sync => {
            let synced = |number| Op::File(number, FileOp::SyncAll).apply(volume, files);
            let mut outcomes = (0..files.len()).map(synced);
            let failed = outcomes.find(|outcome| *outcome != Outcome::Done);
            failed.unwrap_or(Outcome::Done)
        }
        op => op.apply(volume, files),
    }
}

fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![0xee; file.size() as usize];
    assert_eq!(file.read_at(0, &mut bytes), Ok(bytes.len()));
    bytes
}

/// Every byte of file `number` must be what some thread did last to it.
///
/// `history` is what was done before, and by each thread. A range that is punched, zeroed or cut off may be so
/// only in part, where the size changed meanwhile: it adds zero to what a byte can be. Where bytes move, only
/// those that somebody wrote are excluded.
fn explain(number: usize, content: &[u8], history: &[Done]) {
    let mut writers: Vec<Vec<Event>> = Vec::new();
    for done in history {
        let events = done.iter().filter_map(|(op, outcome)| match op {
            Op::File(file, op) if *file == number => event(op, outcome),
            _ => None,
        });
        writers.push(events.collect());
    }
    if writers.iter().flatten().any(|event| *event == Event::Move) {
        return;
    }
    let (before, threads) = writers.split_first().expect("there is a before");
    // Between two neighbouring borders every event has changed all bytes or none.
    let borders = writers.iter().flatten().flat_map(Event::borders);
    let borders = borders.chain([0]).filter(|at| *at < content.len() as u64);
    let borders: BTreeSet<u64> = borders.chain([content.len() as u64]).collect();
    for (from, to) in borders.iter().zip(borders.iter().skip(1)) {
        let bytes = &content[*from as usize..*to as usize];
        let mut last: Vec<_> = threads
            .iter()
            .map(|events| LastChange::of(events, *from..*to))
            .collect();
        if last.iter().all(|last| last.put.is_none()) {
            last.push(LastChange::of(before, *from..*to));
        }
        let nobody = last.iter().all(|last| last.put.is_none());
        let zero = nobody || last.iter().any(|last| last.zeroed);
        let put: Vec<&[u8]> = last.iter().filter_map(|last| last.put).collect();
        let explained = |(index, byte): (usize, &u8)| {
            (zero && *byte == 0) || put.iter().any(|put| put[index] == *byte)
        };
        assert!(
            put.contains(&bytes) || bytes.iter().enumerate().all(explained),
            "bytes {from}..{to} of file {number} are {bytes:?}: {history:?}"
        );
    }
}

/// What an operation does to bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    /// From this offset on they become these.
    Put(u64, Vec<u8>),
    /// Some from the first to before the second offset become zeros.
    Zero(u64, u64),
    Move,
}

fn event(op: &FileOp, outcome: &Outcome) -> Option<Event> {
    match (op, outcome) {
        (
            FileOp::Write { offset, seed, .. } | FileOp::StoreMapped { offset, seed, .. },
            Outcome::Count(count),
        ) => Some(Event::Put(*offset, testing::pattern(*seed, *count).ok()?)),
        (FileOp::SetLen(size), _) => Some(Event::Zero(*size, u64::MAX)),
        (FileOp::Allocate { mode, offset, len }, outcome) => match mode {
            AllocateMode::PunchHole | AllocateMode::ZeroRange | AllocateMode::ZeroRangeKeepSize => {
                Some(Event::Zero(*offset, offset + len))
            }
            AllocateMode::CollapseRange | AllocateMode::InsertRange
                if *outcome == Outcome::Done =>
            {
                Some(Event::Move)
            }
            _ => None,
        },
        _ => None,
    }
}

impl Event {
    /// Where the bytes begin and end.
    fn borders(&self) -> [u64; 2] {
        match self {
            Self::Put(offset, bytes) => [*offset, *offset + bytes.len() as u64],
            Self::Zero(from, to) => [*from, *to],
            Self::Move => [0; 2],
        }
    }
}

/// What one thread has last done to a range of bytes.
struct LastChange<'a> {
    /// What it has put there.
    put: Option<&'a [u8]>,
    /// Some may have become zeros after that.
    zeroed: bool,
}

impl<'a> LastChange<'a> {
    /// Of `range`, which no event has changed only in part.
    fn of(events: &'a [Event], range: Range<u64>) -> Self {
        let mut zeroed = false;
        for event in events.iter().rev() {
            let [from, to] = event.borders();
            if !(from..to).contains(&range.start) {
                continue;
            }
            if let Event::Put(_, bytes) = event {
                let bytes = &bytes[(range.start - from) as usize..(range.end - from) as usize];
                let put = Some(bytes);
                return Self { put, zeroed };
            }
            zeroed = true;
        }
        Self { put: None, zeroed }
    }
}
