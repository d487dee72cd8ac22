//! Batches of bios on a device with bad blocks, beside an image of the device.
//!
//! The commands that the device gets must be exactly those that a brute-force plan expects: the fewest that can carry a
//! section, and nothing that moved across a flush or an overlap. From how they ended follows what each bio must
//! come to and what the device must hold.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use arbitrary::{Arbitrary, Unstructured};
use extent_map::block::{Bio, BlockQueue, Scheduler};
use extent_map::device::OperationKind::{self, Discard, Flush, Read, Write, WriteZeroes};
use extent_map::device::{BlockDevice, Buffer, Buffers, Completion, Limits};
use extent_map::stats::Counters;
use extent_map::units::{BlockSize, DiskBlock, DiskRun};
use extent_map::{Error, IoError, Result};

use super::commands::{Command, Commands, Ends};
use super::io::{EIO, read};

const BLOCK: usize = 512;
/// Blocks of the device.
const BLOCKS: u64 = 32;

/// What is pushed to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Push {
    kind: OperationKind,
    start: u64,
    count: u64,
    byte: u8,
    fua: bool,
    preflush: bool,
    /// Told to a completion instead of a handle.
    told: bool,
    /// In a buffer for each block.
    pieces: bool,
}

/// What is pushed to a batch, or done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Push(Push),
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
        let [kind, at, flags]: [u8; Self::ENCODED_LEN] = source.arbitrary()?;
        let byte = at | 1;
        // Some lie in part outside the device.
        let (start, count) = (u64::from(at) % BLOCKS, u64::from(flags) % 5);
        let writes = byte & 32 != 0;
        let kind = match kind % 16 {
            0..6 => Write,
            6..9 => Read,
            9 => WriteZeroes,
            10 => Discard,
            11 | 12 => Flush,
            13 | 14 => return Ok(Self::Submit),
            _ => {
                return Ok(Self::Bad {
                    start,
                    count,
                    writes,
                });
            }
        };
        Ok(Self::Push(Push {
            kind,
            start,
            count: if kind == Flush { 0 } else { count },
            byte,
            fua: kind == Write && flags / 5 % 8 == 1,
            preflush: kind != Flush && flags / 5 % 8 == 2,
            told: flags / 40 % 2 == 1,
            pieces: flags / 80 % 2 == 1,
        }))
    }
}

impl Push {
    fn bytes(&self) -> Range<u64> {
        match self.kind {
            Flush => 0..0,
            _ => bytes(self.start, self.count),
        }
    }

    fn moves_data(&self) -> bool {
        [Read, Write].contains(&self.kind)
    }

    fn is_admitted(&self) -> bool {
        self.bytes().end <= DEVICE_BYTES
    }

    fn bio(&self) -> Bio {
        let (start, len) = (DiskBlock(self.start), self.count as usize * BLOCK);
        let run = DiskRun::new(start, self.count);
        let memory = |byte: u8| -> Buffers {
            match self.pieces {
                true => (0..self.count)
                    .map(|_| Buffer::copy_of(&[byte; BLOCK]))
                    .collect(),
                false => Buffer::copy_of(&vec![byte; len]).into(),
            }
        };
        let mut bio = match self.kind {
            Read if self.pieces => Bio::read_into(start, memory(0xee)),
            Read => Bio::read(run),
            Write if self.byte & 2 == 0 => Bio::write(start, vec![self.byte; len].into()),
            Write => Bio::write_from(start, memory(self.byte)),
            WriteZeroes => Bio::write_zeroes(run),
            Discard => Bio::discard(run),
            Flush => Bio::flush(),
        };
        if self.fua {
            bio = bio.fua();
        }
        if self.preflush {
            bio = bio.preflush();
        }
        bio
    }
}

/// What stands between a batch and the bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) max_blocks: u64,
    pub(crate) scheduler: Scheduler,
    /// The device works by itself, and ends what is started like this.
    pub(crate) ends: Option<Ends>,
    pub(crate) depth: usize,
    pub(crate) native_fua: bool,
}

/// The size of a device for [`compare`].
pub(crate) const DEVICE_BYTES: u64 = BLOCKS * BLOCK as u64;

fn bytes(start: u64, count: u64) -> Range<u64> {
    start * BLOCK as u64..(start + count) * BLOCK as u64
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start.max(other.start) < one.end.min(other.end)
}

/// The queue, and what the device should hold.
struct Pair {
    device: Arc<Commands>,
    counters: Arc<Counters>,
    queue: BlockQueue,
    setup: Setup,
    bad: (Option<OperationKind>, Range<u64>),
    image: Vec<u8>,
}

/// Runs `steps` on `device`, which holds zeros and is large enough.
pub(crate) fn compare(device: Arc<dyn BlockDevice>, setup: Setup, steps: &[Step]) {
    let limits = Limits {
        max_bytes: setup.max_blocks * BLOCK as u64,
        depth: setup.depth,
        asynchronous: setup.ends.is_some(),
        native_fua: setup.native_fua,
        ..Limits::default()
    };
    let device = Commands::new(device, limits, setup.ends.unwrap_or(Ends::AtOnce));
    let counters = Arc::new(Counters::default());
    let block_size = BlockSize::new(BLOCK as u64).unwrap();
    let queue = BlockQueue::new(device.clone(), block_size, counters.clone());
    let mut pair = Pair {
        device,
        counters,
        queue: queue.scheduler(setup.scheduler),
        setup,
        bad: (None, 0..0),
        image: vec![0; DEVICE_BYTES as usize],
    };
    let mut pushed: Vec<Push> = Vec::new();
    for step in steps {
        match *step {
            Step::Push(push) => {
                // Of reads that overlap in a section it cannot be told whose command failed.
                let overlaps = |other: &Push| overlap(&other.bytes(), &push.bytes());
                let mut reads = pushed.iter().filter(|other| other.kind == Read);
                if push.kind == Read && reads.any(overlaps) {
                    pair.submit(&std::mem::take(&mut pushed));
                }
                pushed.push(push);
            }
            Step::Submit => pair.submit(&std::mem::take(&mut pushed)),
            Step::Bad {
                start,
                count,
                writes,
            } => {
                pair.bad = (writes.then_some(Write), bytes(start, count));
                pair.device.fail_range(pair.bad.0, pair.bad.1.clone());
            }
        }
    }
    pair.submit(&pushed);
    if setup.ends.is_some() {
        let most = pair.device.most_under_way();
        assert!(most <= setup.depth, "{most} were under way at once");
    }
}

/// The memory of a bio, and how it ended.
type End = (Buffers, Result<()>);

/// The ends of the bios that have no handle, by their tag.
#[derive(Default)]
struct Told(Mutex<Vec<Option<End>>>);

impl Completion for Told {
    fn completed(&self, tag: u64, buffers: Buffers, result: Result<()>) {
        let mut told = self.0.lock().unwrap();
        let place = &mut told[tag as usize];
        assert!(place.is_none(), "told twice");
        *place = Some((buffers, result));
    }
}

/// What happens one after the other.
enum Stage {
    /// Bios that do not overlap, in any order.
    Section(Vec<usize>),
    Flush,
}

/// The sections of a batch, by the rules.
fn stages(pushed: &[Push]) -> Vec<Stage> {
    let mut stages = vec![Stage::Section(Vec::new())];
    for (index, push) in pushed.iter().enumerate() {
        if !push.is_admitted() {
            continue;
        }
        if push.kind == Flush || push.preflush {
            stages.push(Stage::Flush);
            stages.push(Stage::Section(Vec::new()));
        }
        if push.bytes().is_empty() {
            continue;
        }
        let fits = |section: &[usize]| {
            let mut others = section.iter().map(|other| pushed[*other]);
            others.all(|other| !overlap(&other.bytes(), &push.bytes()))
        };
        match stages.last_mut() {
            Some(Stage::Section(section)) if fits(section) => section.push(index),
            _ => stages.push(Stage::Section(vec![index])),
        }
    }
    stages.retain(|stage| !matches!(stage, Stage::Section(section) if section.is_empty()));
    stages
}

impl Pair {
    fn submit(&mut self, pushed: &[Push]) {
        let before = self.counters.snapshot();
        let told = Arc::new(Told::default());
        told.0.lock().unwrap().resize(pushed.len(), None);
        let mut batch = self.queue.batch();
        for (index, push) in pushed.iter().enumerate() {
            match push.told {
                true => batch.push_with(push.bio(), told.clone(), index as u64),
                false => batch.push(push.bio()),
            }
        }
        let mut handles = batch.submit().into_iter();
        let mut outcomes: Vec<_> = pushed
            .iter()
            .map(|push| (!push.told).then(|| handles.next().expect("a handle").finish()))
            .collect();
        assert!(handles.next().is_none());
        for (outcome, told) in outcomes.iter_mut().zip(wait_for(&told, pushed)) {
            *outcome = outcome.take().or(told);
        }
        let log = self.device.take_log();
        let outcomes: Vec<_> = outcomes
            .into_iter()
            .map(|end| end.expect("an end"))
            .collect();
        self.judge(pushed, &outcomes, &log);

        let after = self.counters.snapshot();
        let data = log.iter().filter(|command| command.kind != Flush).count() as u64;
        let bios = pushed
            .iter()
            .filter(|push| push.is_admitted() && !push.bytes().is_empty());
        let merged = after.bios_merged - before.bios_merged;
        let split = after.bios_split - before.bios_split;
        assert_eq!(bios.count() as u64 + split - merged, data, "{pushed:?}");
        assert_eq!(after.device_requests - before.device_requests, data);
        assert_eq!(after.bios - before.bios, pushed.len() as u64);

        self.device.fail_range(None, 0..0);
        let now = read(&*self.device, 0, self.image.len());
        self.device.take_log();
        assert!(now == self.image, "the device differs after {pushed:?}");
        self.device.fail_range(self.bad.0, self.bad.1.clone());
    }

    /// Checks the commands of a batch and the outcomes that follow from them, and does the same to the image.
    fn judge(&mut self, pushed: &[Push], outcomes: &[End], log: &[Command]) {
        for (push, (_, result)) in pushed.iter().zip(outcomes) {
            let refused = matches!(result, Err(Error::InvalidInput(_)));
            assert_eq!(refused, !push.is_admitted(), "{push:?}: {result:?}");
            if push.is_admitted() && push.bytes().is_empty() {
                assert_eq!(*result, Ok(()), "{push:?}");
            }
        }
        let mut rest = log;
        let stages = stages(pushed);
        for (at, stage) in stages.iter().enumerate() {
            let Stage::Section(section) = stage else {
                let Some((command, later)) = rest.split_first() else {
                    panic!("a flush is missing: {pushed:?}");
                };
                assert!(command.kind == Flush && command.ok, "{pushed:?}");
                rest = later;
                continue;
            };
            let section: Vec<_> = section
                .iter()
                .map(|i| (&pushed[*i], &outcomes[*i]))
                .collect();
            let flushes = stages[at + 1..]
                .iter()
                .take_while(|s| matches!(s, Stage::Flush));
            let sent = self.take_section(&section, &mut rest, flushes.count());
            section
                .iter()
                .for_each(|(push, end)| self.judge_bio(push, end, &sent));
        }
        assert_eq!(rest, [], "nobody asked for it: {pushed:?}");
    }

    /// Checks the commands of a section, behind which come `flushes` others, and takes them off the log.
    fn take_section(
        &self,
        section: &[(&Push, &End)],
        log: &mut &[Command],
        flushes: usize,
    ) -> Vec<Command> {
        let expected = self.plan(section);
        let mut sent = Vec::new();
        let mut last = (0, 0);
        let is_flush = |command: &&Command| command.kind == Flush;
        let len = {
            let data = log
                .iter()
                .enumerate()
                .filter(|(_, command)| !is_flush(command));
            let end = data.map(|(at, _)| at + 1).nth(expected.len() - 1);
            let end = end.unwrap_or_else(|| panic!("{log:?} instead of {expected:?}"));
            let behind = log[end..].iter().take_while(is_flush).count();
            end + behind.checked_sub(flushes).expect("no flush is missing")
        };
        let (own, later) = log.split_at(len);
        *log = later;
        let mut own_flushes = 0;
        for (at, command) in (1..).zip(own) {
            match command.kind {
                Flush => (last.0, own_flushes) = (at, own_flushes + 1),
                _ => sent.push(*command),
            }
            let durable = section.iter().any(|(push, (_, result))| {
                push.fua && result.is_ok() && overlap(&push.bytes(), &range(command))
            });
            if durable {
                last.1 = at;
            }
        }
        let mut plain: Vec<_> = sent
            .iter()
            .map(|c| (c.kind, c.offset, c.len, c.fua))
            .collect();
        plain.sort_unstable_by_key(|command| (command.1, command.2));
        assert_eq!(plain, expected);
        let durable = section
            .iter()
            .filter(|(push, end)| push.fua && end.1.is_ok())
            .count();
        match self.setup.ends {
            None => assert_eq!(own_flushes, durable),
            Some(_) if self.setup.native_fua => assert_eq!(own_flushes, 0),
            // Some may share one.
            Some(_) => assert!(own_flushes <= durable && (own_flushes == 0) == (durable == 0)),
        }
        let flushed = last.0 >= last.1 || self.setup.native_fua && self.setup.ends.is_some();
        assert!(flushed, "no flush behind a durable write");
        sent
    }

    /// The fewest commands that a section takes, sorted.
    fn plan(&self, section: &[(&Push, &End)]) -> Vec<(OperationKind, u64, u64, bool)> {
        let mut bios: Vec<&Push> = section.iter().map(|(push, _)| *push).collect();
        bios.sort_by_key(|push| push.start);
        let native = self.setup.native_fua && self.setup.ends.is_some();
        let joined = |a: &&Push, b: &&Push| {
            a.bytes().end == b.bytes().start && a.kind == b.kind && !a.fua && !b.fua
        };
        let max = self.setup.max_blocks * BLOCK as u64;
        let mut plan = Vec::new();
        for run in bios.chunk_by(joined) {
            let (first, end) = (run[0], run[run.len() - 1].bytes().end);
            let start = first.bytes().start;
            let step = if first.moves_data() { max } else { end - start };
            for at in (start..end).step_by(step as usize) {
                plan.push((first.kind, at, step.min(end - at), first.fua && native));
            }
        }
        plan.sort_unstable_by_key(|command| (command.1, command.2));
        plan
    }

    /// Checks what came of a bio and does to the image what its commands did.
    fn judge_bio(&mut self, push: &Push, (buffers, result): &End, sent: &[Command]) {
        let all = push.bytes();
        let mine = sent.iter().filter(|command| overlap(&range(command), &all));
        let mut failed = false;
        for command in mine {
            let is_bad = self.bad.0.is_none_or(|kind| kind == command.kind)
                && overlap(&self.bad.1, &range(command));
            assert_eq!(command.ok, !is_bad, "{command:?}");
            failed |= is_bad;
            let part = all.start.max(command.offset)..all.end.min(range(command).end);
            let place = &mut self.image[part.start as usize..part.end as usize];
            match push.kind {
                Write if command.ok => place.fill(push.byte),
                WriteZeroes | Discard if command.ok => place.fill(0),
                _ => {}
            }
        }
        match result {
            Ok(()) => assert!(!failed, "{push:?} succeeded"),
            Err(Error::Io(IoError { errno: EIO, .. })) => assert!(failed, "{push:?} failed"),
            other => panic!("{push:?}: {other:?}"),
        }
        let place = &self.image[all.start as usize..all.end as usize];
        match push.kind {
            Read if result.is_ok() => assert!(buffers.to_vec() == place, "{push:?} reads wrong"),
            Read => assert_eq!(buffers.byte_len(), place.len() as u64),
            Write => assert!(buffers.to_vec() == vec![push.byte; place.len()], "{push:?}"),
            _ => assert_eq!(buffers.len(), 0),
        }
    }
}

fn range(command: &Command) -> Range<u64> {
    command.offset..command.offset + command.len
}

/// The ends that were told, once all are there.
fn wait_for(told: &Told, pushed: &[Push]) -> Vec<Option<End>> {
    loop {
        let ends = told.0.lock().unwrap();
        if ends
            .iter()
            .zip(pushed)
            .all(|(end, push)| !push.told || end.is_some())
        {
            return ends.clone();
        }
        drop(ends);
        std::thread::yield_now();
    }
}
