//! Batches of bios on a device with bad blocks, beside an image of the device.
//!
//! Each bio must have the outcome that it deserves, the device must hold what the successful ones would have left
//! one after the other, and the log of the device must show nothing that moved across a flush and no request that
//! could have been merged and was not, or should not have been and was.

use std::ops::Range;
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use extent_map::block::{Bio, BlockQueue};
use extent_map::device::{BlockDevice, FaultyDevice, Operation, OperationKind};
use extent_map::stats::Counters;
use extent_map::units::{BlockSize, DiskBlock, DiskRun};
use extent_map::{Error, IoError, Result};

use super::io::read;

const BLOCK: usize = 512;
/// Blocks of the device.
const BLOCKS: u64 = 32;

/// What is pushed to a batch, or done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Write {
        start: u64,
        count: u64,
        byte: u8,
    },
    Read {
        start: u64,
        count: u64,
    },
    Zero {
        start: u64,
        count: u64,
    },
    Discard {
        start: u64,
        count: u64,
    },
    Flush,
    /// Submits what was pushed.
    Submit,
    /// Blocks turn bad: nothing that touches them, or no write that does, succeeds; none at all for no count.
    Bad {
        start: u64,
        count: u64,
        writes: bool,
    },
}

impl Step {
    /// How many bytes a step is drawn from.
    pub(crate) const ENCODED_LEN: usize = 3;
}

impl<'a> Arbitrary<'a> for Step {
    fn arbitrary(source: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let [kind, start, count]: [u8; Self::ENCODED_LEN] = source.arbitrary()?;
        let byte = start | 1;
        // Some lie in part outside the device.
        let (start, count) = (u64::from(start) % BLOCKS, u64::from(count) % 5);
        Ok(match kind % 16 {
            0..6 => Self::Write { start, count, byte },
            6..9 => Self::Read { start, count },
            9 => Self::Zero { start, count },
            10 => Self::Discard { start, count },
            11 | 12 => Self::Flush,
            13 | 14 => Self::Submit,
            _ => {
                let writes = byte & 32 != 0;
                Self::Bad {
                    start,
                    count,
                    writes,
                }
            }
        })
    }
}

/// The queue, and what the device should hold.
struct Pair {
    device: Arc<FaultyDevice>,
    counters: Arc<Counters>,
    queue: BlockQueue,
    max_bytes: u64,
    bad: Option<(Option<OperationKind>, Range<u64>)>,
    image: Vec<u8>,
}

/// Runs `steps` on `device`, which holds zeros and is large enough, merging up to `max_blocks` blocks.
pub(crate) fn compare(device: Arc<dyn BlockDevice>, max_blocks: u64, steps: &[Step]) {
    let device = Arc::new(FaultyDevice::new(device));
    let counters = Arc::new(Counters::default());
    let block_size = BlockSize::new(BLOCK as u64).unwrap();
    let max_bytes = max_blocks * BLOCK as u64;
    let queue = BlockQueue::new(device.clone(), block_size, counters.clone());
    let mut pair = Pair {
        device,
        counters,
        queue: queue.max_request_bytes(max_bytes),
        max_bytes,
        bad: None,
        image: vec![0; BLOCKS as usize * BLOCK],
    };
    let mut pushed = Vec::new();
    for step in steps {
        match *step {
            Step::Submit => pair.submit(&std::mem::take(&mut pushed)),
            Step::Bad {
                start,
                count,
                writes,
            } => {
                let kind = writes.then_some(OperationKind::Write);
                pair.turn_bad(kind, bytes(start, count));
            }
            step => pushed.push(step),
        }
    }
    pair.submit(&pushed);
}

/// The size of a device for [`compare`].
pub(crate) const DEVICE_BYTES: u64 = BLOCKS * BLOCK as u64;

fn bytes(start: u64, count: u64) -> Range<u64> {
    start * BLOCK as u64..(start + count) * BLOCK as u64
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

/// The bytes of a step that is pushed.
fn range(step: Step) -> Range<u64> {
    match step {
        Step::Write { start, count, .. }
        | Step::Read { start, count }
        | Step::Zero { start, count }
        | Step::Discard { start, count } => bytes(start, count),
        Step::Flush | Step::Submit | Step::Bad { .. } => 0..0,
    }
}

fn kind(step: Step) -> OperationKind {
    match step {
        Step::Write { .. } => OperationKind::Write,
        Step::Read { .. } => OperationKind::Read,
        Step::Zero { .. } => OperationKind::WriteZeroes,
        Step::Discard { .. } => OperationKind::Discard,
        Step::Flush | Step::Submit | Step::Bad { .. } => OperationKind::Flush,
    }
}

fn bio(step: Step) -> Bio {
    let run = |start, count| DiskRun::new(DiskBlock(start), count);
    match step {
        Step::Write { start, count, byte } => {
            let data = vec![byte; count as usize * BLOCK];
            Bio::write(DiskBlock(start), data.into())
        }
        Step::Read { start, count } => Bio::read(run(start, count)),
        Step::Zero { start, count } => Bio::write_zeroes(run(start, count)),
        Step::Discard { start, count } => Bio::discard(run(start, count)),
        Step::Flush | Step::Submit | Step::Bad { .. } => Bio::flush(),
    }
}

impl Pair {
    fn turn_bad(&mut self, kind: Option<OperationKind>, range: Range<u64>) {
        self.device.clear_faults();
        self.bad = (!range.is_empty()).then_some((kind, range));
        if let Some((kind, range)) = &self.bad {
            self.device.fail_range(*kind, range.clone());
        }
    }

    fn is_bad(&self, kind: OperationKind, range: &Range<u64>) -> bool {
        let bad = self.bad.as_ref();
        bad.is_some_and(|(of, bad)| of.is_none_or(|of| of == kind) && overlap(bad, range))
    }

    fn submit(&mut self, steps: &[Step]) {
        let merged_before = self.counters.snapshot().bios_merged;
        let mut batch = self.queue.batch();
        steps.iter().for_each(|step| batch.push(bio(*step)));
        let outcomes: Vec<_> = batch.submit().into_iter().map(|bio| bio.wait()).collect();
        let log = self.device.take_log();
        assert_eq!(outcomes.len(), steps.len());
        for (step, outcome) in steps.iter().zip(&outcomes) {
            self.check_outcome(*step, outcome, &log);
        }
        let merged = self.counters.snapshot().bios_merged - merged_before;
        self.check_log(steps, &log, merged);
        self.device.clear_faults();
        let now = read(&*self.device, 0, self.image.len());
        self.device.take_log();
        assert!(now == self.image, "the device differs after {steps:?}");
        if let Some((kind, range)) = self.bad.take() {
            self.turn_bad(kind, range);
        }
    }

    /// Checks what came of a bio and, if it succeeded, does the same to the image.
    fn check_outcome(&mut self, step: Step, outcome: &Result<Vec<u8>>, log: &[Operation]) {
        let range = range(step);
        let Some(place) = self.image.get_mut(range.start as usize..range.end as usize) else {
            assert!(matches!(outcome, Err(Error::InvalidInput(_))), "{step:?}");
            return;
        };
        match outcome {
            Ok(read) => {
                let expected = match step {
                    Step::Read { .. } => place.to_vec(),
                    _ => Vec::new(),
                };
                assert!(*read == expected, "{step:?}");
                match step {
                    Step::Write { byte, .. } => place.fill(byte),
                    Step::Zero { .. } | Step::Discard { .. } => place.fill(0),
                    _ => {}
                }
                assert!(!self.is_bad(kind(step), &range), "{step:?} succeeded");
            }
            Err(Error::Io(IoError { errno: 5, .. })) => {
                // Its own fault, or that of the request that it became part of.
                let merged = log.iter().any(|operation| {
                    let of = operation.offset..operation.offset + operation.len;
                    let inside = of.start <= range.start && range.end <= of.end;
                    let larger = kind(step) == OperationKind::Write && of != range;
                    operation.kind == kind(step) && inside && larger && self.is_bad(kind(step), &of)
                });
                assert!(self.is_bad(kind(step), &range) || merged, "{step:?} failed");
            }
            outcome => panic!("{step:?}: {outcome:?}"),
        }
    }

    /// Checks the requests that the device got for a batch.
    fn check_log(&self, steps: &[Step], log: &[Operation], merged: u64) {
        let in_order = |operation: &Operation| operation.kind == OperationKind::Flush;
        let parts: Vec<_> = log.split(in_order).collect();
        let pushed: Vec<_> = steps.split(|step| *step == Step::Flush).collect();
        assert_eq!(parts.len(), pushed.len(), "flushes of {steps:?}");
        let mut writes = (0, 0);
        for (part, pushed) in parts.iter().zip(pushed) {
            let inside = |step: &&Step| range(**step).end <= DEVICE_BYTES;
            let reaching: Vec<_> = pushed.iter().filter(inside).copied().collect();
            self.check_part(part, &reaching);
            let is_write = |of: OperationKind| of == OperationKind::Write;
            writes.0 += reaching
                .iter()
                .filter(|step| is_write(kind(**step)))
                .count();
            writes.1 += part
                .iter()
                .filter(|operation| is_write(operation.kind))
                .count();
        }
        assert_eq!(merged, (writes.0 - writes.1) as u64, "merged of {steps:?}");
    }

    /// Checks the requests between two flushes against the bios that were pushed there.
    fn check_part(&self, part: &[Operation], pushed: &[Step]) {
        let of = |operation: &Operation| operation.offset..operation.offset + operation.len;
        let blocks = |kind: OperationKind, range: Range<u64>| {
            range.step_by(BLOCK).map(move |at| (kind as u8, at))
        };
        let asked = part
            .iter()
            .flat_map(|operation| blocks(operation.kind, of(operation)));
        let wanted = pushed
            .iter()
            .flat_map(|step| blocks(kind(*step), range(*step)));
        let sorted = |blocks: &mut dyn Iterator<Item = (u8, u64)>| {
            let mut blocks: Vec<_> = blocks.collect();
            blocks.sort_unstable();
            blocks
        };
        assert_eq!(
            sorted(&mut asked.into_iter()),
            sorted(&mut wanted.into_iter()),
            "{pushed:?}"
        );
        let is_write = |operation: &&Operation| operation.kind == OperationKind::Write;
        for request in part.iter().filter(is_write) {
            let alone = pushed.iter().any(|step| range(*step) == of(request));
            assert!(
                request.len <= self.max_bytes || alone,
                "{request:?} is too large"
            );
        }
        // What touches no byte is never merged.
        let part: Vec<_> = part.iter().filter(|request| request.len > 0).collect();
        for pair in part.windows(2) {
            let touch = pair[0].offset + pair[0].len == pair[1].offset;
            let fit = pair[0].len + pair[1].len <= self.max_bytes;
            let both = pair.iter().all(is_write);
            assert!(!(both && touch && fit), "{pair:?} were not merged");
        }
    }
}
