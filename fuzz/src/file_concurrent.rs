//! Threads on one volume under a schedule that the input chooses: nothing is lost, made up or leaked.

use std::collections::BTreeSet;
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use extent_map::delalloc::Probe;
use extent_map::device::MemoryDevice;
use extent_map::file::{AllocateMode, File, Volume};
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
    for (at, byte) in content.iter().enumerate() {
        let at = at as u64;
        let last: Vec<_> = writers
            .iter()
            .map(|events| last_bytes(events, at))
            .collect();
        let (before, threads) = last.split_first().expect("there is a before");
        let mut possible: BTreeSet<u8> = threads
            .iter()
            .flat_map(|(bytes, _)| bytes.clone())
            .collect();
        if threads.iter().all(|(_, surely)| !surely) {
            possible.extend(&before.0);
            if !before.1 {
                possible.insert(0);
            }
        }
        assert!(
            possible.contains(byte),
            "byte {at} of file {number} is {byte}, not of {possible:?}: {history:?}"
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

/// What the byte at `at` can be after `events`, and whether one of them has surely changed it.
fn last_bytes(events: &[Event], at: u64) -> (Vec<u8>, bool) {
    let (mut bytes, mut surely) = (Vec::new(), false);
    for event in events {
        match event {
            Event::Put(offset, put) => {
                let byte = at
                    .checked_sub(*offset)
                    .and_then(|index| put.get(index as usize));
                if let Some(byte) = byte {
                    (bytes, surely) = (vec![*byte], true);
                }
            }
            Event::Zero(from, to) if (*from..*to).contains(&at) => bytes.push(0),
            Event::Zero(..) | Event::Move => {}
        }
    }
    (bytes, surely)
}
