//! What may be read of a volume whose device fails, and which errors are owed to whom.

use extent_map::device::OperationKind;
use extent_map::file::AllocateMode;
use extent_map::testing::{FileOp, Op, Oracle, Outcome, Shape};

const EIO: Outcome = Outcome::Failed(5);

/// No pattern that is written has this byte; the device is full of it at first.
pub const STALE: u8 = 0xff;

/// A dense model that knows which bytes a failure may have taken.
#[derive(Debug)]
pub struct Expected {
    oracle: Oracle,
    files: [Content; Shape::FILES],
    shape: Shape,
}

/// What is known about a file beside what the oracle says.
#[derive(Debug, Default)]
struct Content {
    /// Bytes that are not listed are [`Fate::Kept`].
    fates: Vec<Fate>,
    owed: Owed,
    /// Data was lost: which blocks count as data, and what the device holds, is no longer known.
    lost_data: bool,
}

/// Whether a byte is what the oracle says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fate {
    /// It is, and the device has it.
    #[default]
    Kept,
    /// It is, but only until a write of it fails.
    Cached,
    /// It may be what was there before, or a zero.
    Lost,
}

/// Whether the open file must hear of a writeback error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Owed {
    #[default]
    Nothing,
    /// Some file of the volume has had an error, perhaps this one.
    Perhaps,
    Error,
}

impl Expected {
    /// An empty volume.
    pub fn new(shape: Shape) -> Self {
        Self {
            oracle: shape.oracle().expect("a shape that can be drawn"),
            files: Default::default(),
            shape,
        }
    }

    /// Whether data of file `number` was lost.
    pub fn has_lost_data(&self, number: usize) -> bool {
        self.files[number].lost_data
    }

    /// Judges what came of `op`, during which device operations of the kinds in `struck` failed.
    pub fn judge(&mut self, op: &Op, outcome: &Outcome, struck: &[OperationKind]) {
        match op {
            Op::Sync | Op::DropCaches => {
                self.told(!struck.is_empty(), outcome);
                for file in &mut self.files {
                    match struck.is_empty() {
                        true => file.reach_the_device(),
                        false => file.lose(),
                    }
                    let owed = match struck {
                        [] => Owed::Nothing,
                        _ if struck.contains(&OperationKind::Flush) => Owed::Error,
                        _ => Owed::Perhaps,
                    };
                    file.owed = file.owed.max(owed);
                }
                self.oracle.apply(op);
            }
            Op::File(number, file_op) => self.judge_file(*number, file_op, outcome, struck),
        }
    }

    /// An error was told, and only if there was one.
    fn told(&self, failed: bool, outcome: &Outcome) {
        let expected = if failed { EIO } else { Outcome::Done };
        assert_eq!(*outcome, expected);
    }

    fn judge_file(
        &mut self,
        number: usize,
        op: &FileOp,
        outcome: &Outcome,
        struck: &[OperationKind],
    ) {
        let failed = !struck.is_empty();
        match op {
            FileOp::SyncData | FileOp::SyncAll | FileOp::SyncRange { .. } => {
                if struck.contains(&OperationKind::Flush) {
                    // What the others have written is as little durable.
                    self.files
                        .iter_mut()
                        .for_each(|file| file.owed = Owed::Error);
                }
                let file = &mut self.files[number];
                let owed = std::mem::take(&mut file.owed);
                match failed {
                    true => file.lose(),
                    false if matches!(op, FileOp::SyncRange { .. }) => {}
                    false => file.reach_the_device(),
                }
                self.follow(number, op);
                if failed || owed != Owed::Perhaps {
                    self.told(failed || owed == Owed::Error, outcome);
                } else {
                    assert!([Outcome::Done, EIO].contains(outcome), "{outcome:?}");
                }
            }
            FileOp::Read { offset, .. } | FileOp::LoadMapped { offset, .. } => {
                if *outcome == EIO {
                    assert!(failed, "{op:?} failed");
                    return;
                }
                match (outcome, self.follow(number, op)) {
                    (Outcome::Bytes(bytes), Outcome::Bytes(expected)) => {
                        // Shorter where the device failed on the way, and only there.
                        assert!(
                            bytes.len() < expected.len() || !failed,
                            "{op:?} hides an error"
                        );
                        assert!(bytes.len() == expected.len() || failed, "{op:?} is short");
                        self.compare(number, *offset, bytes, &expected);
                    }
                    (outcome, expected) => assert_eq!(*outcome, expected, "{op:?}"),
                }
            }
            FileOp::StoreMapped { offset, seed, .. } => {
                let stored = match outcome {
                    Outcome::Count(stored) if failed => FileOp::StoreMapped {
                        offset: *offset,
                        len: *stored,
                        seed: *seed,
                    },
                    _ => op.clone(),
                };
                self.unless_failed(number, &stored, outcome, failed);
                assert!(
                    stored != *op || !failed || *outcome == EIO,
                    "{op:?} hides an error"
                );
            }
            FileOp::SeekData(_) | FileOp::SeekHole(_) => {
                assert!(!failed, "{op:?} uses the device");
                let expected = self.follow(number, op);
                assert!(
                    *outcome == expected || self.files[number].lost_data,
                    "{op:?}"
                );
            }
            FileOp::Allocate {
                mode: AllocateMode::CollapseRange | AllocateMode::InsertRange,
                ..
            } => {
                // What is to move is written first. If that fails nothing moves, and the next sync tells it once more.
                if failed {
                    self.files[number].lose();
                    self.files[number].owed = Owed::Error;
                    assert_eq!(*outcome, EIO, "{op:?} hides an error");
                    return;
                }
                assert_eq!(*outcome, self.follow(number, op), "{op:?}");
                self.shift(number, op, outcome);
            }
            FileOp::Allocate { offset, len, .. } if *outcome == EIO => {
                assert!(failed, "{op:?} failed");
                // The edges of the range are zeroed one after the other.
                self.files[number].mark(*offset, *len, Fate::Lost);
                self.files[number].lost_data = true;
            }
            _ => self.unless_failed(number, op, outcome, failed),
        }
    }

    /// An operation that fails when the device does, with nothing changed, and does what the oracle does otherwise.
    fn unless_failed(&mut self, number: usize, op: &FileOp, outcome: &Outcome, failed: bool) {
        if *outcome == EIO {
            assert!(failed, "{op:?} failed");
            return;
        }
        let is_store = matches!(op, FileOp::StoreMapped { .. });
        assert!(!failed || is_store, "{op:?} hides an error");
        let before = self.oracle.observe(number).size;
        assert_eq!(*outcome, self.follow(number, op), "{op:?}");
        let after = self.oracle.observe(number).size;
        let file = &mut self.files[number];
        // Growing zeroes the rest of the last block anew, whatever became of it before.
        let block_end = before.next_multiple_of(self.shape.block_size);
        file.mark(
            before,
            block_end.min(after).saturating_sub(before),
            Fate::Cached,
        );
        match (op, outcome) {
            (
                FileOp::Write { offset, .. } | FileOp::StoreMapped { offset, .. },
                Outcome::Count(count),
            ) => {
                file.mark(*offset, *count, Fate::Cached);
            }
            (FileOp::Allocate { offset, len, mode }, Outcome::Done) => match mode {
                AllocateMode::PunchHole => {
                    // Behind the end nothing is zeroed that was not before.
                    let end = (offset + len).min(self.oracle.observe(number).size);
                    file.mark(*offset, end.saturating_sub(*offset), Fate::Cached);
                }
                AllocateMode::ZeroRange | AllocateMode::ZeroRangeKeepSize => {
                    file.mark(*offset, *len, Fate::Cached);
                }
                _ => {}
            },
            (FileOp::SetLen(size), Outcome::Done) => {
                // The rest of the last block is zeroed in the cache.
                file.fates.truncate(*size as usize);
                let rest = size.next_multiple_of(self.shape.block_size) - size;
                file.mark(*size, rest, Fate::Cached);
            }
            _ => {}
        }
    }

    fn follow(&mut self, number: usize, op: &FileOp) -> Outcome {
        self.oracle.apply(&Op::File(number, op.clone()))
    }

    /// Moves what is known with the bytes.
    fn shift(&mut self, number: usize, op: &FileOp, outcome: &Outcome) {
        let fates = &mut self.files[number].fates;
        let FileOp::Allocate { mode, offset, len } = *op else {
            return;
        };
        let (start, end) = (offset as usize, (offset + len) as usize);
        if *outcome != Outcome::Done || start >= fates.len() {
            return;
        }
        match mode {
            AllocateMode::CollapseRange => drop(fates.drain(start..end.min(fates.len()))),
            _ => drop(fates.splice(start..start, vec![Fate::Kept; end - start])),
        }
    }

    /// Compares the whole content of file `number`.
    pub fn compare_all(&mut self, number: usize, bytes: &[u8]) {
        let expected = self.oracle.observe(number).content;
        assert_eq!(bytes.len(), expected.len(), "size of file {number}");
        self.compare(number, 0, bytes, &expected);
    }

    fn compare(&self, number: usize, offset: u64, bytes: &[u8], expected: &[u8]) {
        // The oracle has no stale byte.
        if bytes == expected {
            return;
        }
        let fates = self.files[number]
            .fates
            .get(offset as usize..)
            .unwrap_or_default();
        let fates = fates.iter().copied().chain(std::iter::repeat(Fate::Kept));
        for (at, ((byte, expected), fate)) in bytes.iter().zip(expected).zip(fates).enumerate() {
            assert_ne!(
                *byte, STALE,
                "byte {at} of {offset} of file {number} was never written"
            );
            assert!(
                byte == expected || fate == Fate::Lost,
                "byte {at} from {offset} of file {number} is {byte}, was {expected}"
            );
        }
    }
}

impl Content {
    fn mark(&mut self, offset: u64, len: u64, fate: Fate) {
        let (start, end) = (offset as usize, (offset + len) as usize);
        if self.fates.len() < end {
            self.fates.resize(end, Fate::Kept);
        }
        self.fates[start..end].fill(fate);
    }

    fn reach_the_device(&mut self) {
        let cached = self.fates.iter_mut().filter(|fate| **fate == Fate::Cached);
        cached.for_each(|fate| *fate = Fate::Kept);
    }

    /// A write or flush failed: what waited for it is clean now, wherever it is.
    fn lose(&mut self) {
        let cached = self.fates.iter_mut().filter(|fate| **fate == Fate::Cached);
        cached.for_each(|fate| *fate = Fate::Lost);
        self.lost_data = true;
    }
}
