//! What a device may hold after a power cut, against the definition: operation by operation, sector by sector.

use std::collections::BTreeSet;
use std::sync::Arc;

use extent_map::device::OperationKind::{self, Discard, Flush, Read, Write, WriteZeroes};
use extent_map::device::{
    BlockDevice, ImageDevice, Operation, PowerCut, Recording, SECTOR, Survivors,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

#[path = "common/io.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod io;

use io::read;

const SECTORS: u64 = 6;

// --- histories ------------------------------------------------------------------------------------

/// A step of a history: operations begin and end in any order.
#[derive(Clone, Debug)]
enum Step {
    Begin {
        kind: OperationKind,
        first: u64,
        len: u64,
        fua: bool,
    },
    /// The `nth` of those under way, counted modulo their number.
    End { nth: usize, ok: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        5 => Just(Write), 3 => Just(Flush), 1 => Just(Discard), 1 => Just(WriteZeroes), 1 => Just(Read)
    ];
    let begin = (kind, 0..SECTORS, 1..4_u64, prop::bool::weighted(0.2));
    let begin = begin.prop_map(|(kind, first, len, fua)| Step::Begin {
        kind,
        first,
        len: len.min(SECTORS - first),
        fua: fua && kind == Write,
    });
    let end = (0..4_usize, prop::bool::weighted(0.8)).prop_map(|(nth, ok)| Step::End { nth, ok });
    prop_oneof![begin, end]
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..40)
}

/// An operation as the definition sees it: when it began and ended, counted in beginnings and ends.
#[derive(Clone, Debug)]
struct Done {
    kind: OperationKind,
    sectors: std::ops::Range<u64>,
    fua: bool,
    /// What it writes into each byte.
    byte: u8,
    began: usize,
    ended: Option<(usize, bool)>,
}

/// What is wrong with a recording.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    None,
    /// A flush is taken for a read.
    ForgetsFlushes,
    /// A failed flush is taken for a good one.
    BelievesFlushes,
    ForgetsFua,
    /// Every write is durable at its end.
    AllFua,
    /// A failed write is taken for a good one.
    BelievesWrites,
    /// A discard is taken for zeros that are written.
    DiscardWrites,
    /// Every write ends as soon as it began.
    EndsWritesEarly,
}

fn byte_at_start(sector: u64) -> u8 {
    200 + sector as u8
}

/// Carries out the steps; the recording has the flaw, the list of operations has not.
fn carry_out(steps: &[Step], flaw: Flaw) -> (Recording, Vec<Done>) {
    let start = ImageDevice::new(SECTORS * SECTOR);
    for sector in 0..SECTORS {
        let bytes = [byte_at_start(sector); SECTOR as usize];
        start.write_at(sector * SECTOR, &bytes).unwrap();
    }
    let mut recording = Recording::new(start);
    let mut done: Vec<Done> = Vec::new();
    let mut under_way: Vec<usize> = Vec::new();
    let mut moment = 0;
    for step in steps {
        match *step {
            Step::Begin {
                kind,
                first,
                len,
                fua,
            } => {
                let byte = match kind {
                    Write => 1 + done.len() as u8,
                    _ => 0,
                };
                let seen_as = match (flaw, kind) {
                    (Flaw::ForgetsFlushes, Flush) => Read,
                    (Flaw::DiscardWrites, Discard) => WriteZeroes,
                    _ => kind,
                };
                let (offset, bytes) = match kind {
                    Flush => (0, 0),
                    _ => (first * SECTOR, len * SECTOR),
                };
                let data: Arc<[u8]> = match kind {
                    Write => vec![byte; bytes as usize].into(),
                    _ => Arc::default(),
                };
                let operation = Operation {
                    kind: seen_as,
                    offset,
                    len: bytes,
                };
                let seen_fua = match flaw {
                    Flaw::ForgetsFua => false,
                    Flaw::AllFua => true,
                    _ => fua,
                };
                let number = recording.begin(operation, data, seen_fua).unwrap();
                assert_eq!(number, done.len());
                if flaw == Flaw::EndsWritesEarly && kind == Write {
                    recording.end(number, true);
                }
                under_way.push(number);
                done.push(Done {
                    kind,
                    sectors: first..first + len,
                    fua,
                    byte,
                    began: moment,
                    ended: None,
                });
            }
            Step::End { .. } if under_way.is_empty() => continue,
            Step::End { nth, ok } => {
                let number = under_way.remove(nth % under_way.len());
                done[number].ended = Some((moment, ok));
                let believes = match flaw {
                    Flaw::BelievesFlushes => done[number].kind == Flush,
                    Flaw::BelievesWrites => done[number].kind == Write,
                    _ => false,
                };
                if !(flaw == Flaw::EndsWritesEarly && done[number].kind == Write) {
                    recording.end(number, ok || believes);
                }
            }
        }
        moment += 1;
    }
    (recording, done)
}

// --- the definition ---------------------------------------------------------------------------------

/// Whether what `write` wrote is durable at `moment`.
fn durable(write: &Done, all: &[Done], moment: usize) -> bool {
    let ended_well_before =
        |one: &Done, moment| matches!(one.ended, Some((end, true)) if end < moment);
    let flushed = |flush: &Done| {
        flush.kind == Flush
            && ended_well_before(flush, moment)
            && ended_well_before(write, flush.began)
    };
    matches!(write.kind, Write | WriteZeroes)
        && ended_well_before(write, moment)
        && (write.fua || all.iter().any(flushed))
}

/// The bytes that `sector` may be full of after a power cut at `moment`.
fn allowed(all: &[Done], sector: u64, moment: usize) -> BTreeSet<u8> {
    let here: Vec<_> = all
        .iter()
        .filter(|one| one.began < moment && one.sectors.contains(&sector))
        .filter(|one| matches!(one.kind, Write | WriteZeroes | Discard))
        .collect();
    let durable: Vec<_> = here
        .iter()
        .filter(|one| durable(one, all, moment))
        .collect();
    let superseded = |one: &Done| {
        durable
            .iter()
            .any(|newer| matches!(one.ended, Some((end, _)) if end < newer.began))
    };
    let mut bytes: BTreeSet<_> = here
        .iter()
        .filter(|one| !superseded(one))
        .map(|one| one.byte)
        .collect();
    if durable.is_empty() {
        bytes.insert(byte_at_start(sector));
    }
    bytes
}

/// What each sector of an image is full of.
fn bytes_of(image: &ImageDevice) -> Result<Vec<u8>, String> {
    let bytes = read(image, 0, (SECTORS * SECTOR) as usize);
    let sectors = bytes.chunks(SECTOR as usize).map(|sector| {
        let whole = sector.iter().all(|byte| *byte == sector[0]);
        whole.then_some(sector[0])
    });
    sectors
        .collect::<Option<_>>()
        .ok_or_else(|| "a sector is torn".into())
}

/// Compares all that the cut makes possible with the definition.
fn compare(cut: &PowerCut<'_>, all: &[Done], moment: usize) -> Result<(), String> {
    let allowed: Vec<_> = (0..SECTORS)
        .map(|sector| allowed(all, sector, moment))
        .collect();
    let whole = (0..20).map(Survivors::Random);
    for survivors in whole.chain([Survivors::Nothing, Survivors::Everything]) {
        for (sector, byte) in bytes_of(&cut.image(survivors))?.into_iter().enumerate() {
            if !allowed[sector].contains(&byte) {
                return Err(format!(
                    "{survivors:?}: {byte} in sector {sector}, allowed {allowed:?}"
                ));
            }
        }
    }
    let mut seen = vec![BTreeSet::new(); SECTORS as usize];
    for only in (0..=all.len()).rev() {
        let image = cut.image_of(|number, _| number == only);
        for (sector, byte) in bytes_of(&image)?.into_iter().enumerate() {
            seen[sector].insert(byte);
        }
    }
    match seen == allowed {
        true => Ok(()),
        false => Err(format!("possible {seen:?}, allowed {allowed:?}")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn a_power_cut_leaves_exactly_what_the_definition_allows(steps in history()) {
        let (recording, all) = carry_out(&steps, Flaw::None);
        let mut cut = recording.power_cut();
        for moment in 0..=recording.moment() {
            cut.advance_to(moment);
            prop_assert_eq!(cut.moment(), moment);
            prop_assert_eq!(compare(&cut, &all, moment), Ok(()));
        }
    }

    #[test]
    fn a_cut_that_advances_misses_no_moment_with_other_possibilities(steps in history()) {
        let (recording, all) = carry_out(&steps, Flaw::None);
        let everywhere = |moment| -> Vec<_> { (0..SECTORS).map(|sector| allowed(&all, sector, moment)).collect() };
        let mut cut = recording.power_cut();
        let mut seen = vec![everywhere(0)];
        while cut.advance() {
            prop_assert_eq!(compare(&cut, &all, cut.moment()), Ok(()));
            seen.push(everywhere(cut.moment()));
            // It stands just before something that can change what is possible.
            let idle = |one: &Done| match one.kind {
                Read => one.began == cut.moment() || one.ended.is_some_and(|(end, _)| end == cut.moment()),
                _ => one.kind == Flush && one.began == cut.moment(),
            };
            prop_assert!(!all.iter().any(idle));
        }
        prop_assert_eq!(cut.moment(), recording.moment());
        seen.dedup();
        let mut expected: Vec<_> = (0..=recording.moment()).map(everywhere).collect();
        expected.dedup();
        prop_assert_eq!(seen, expected);
    }
}

#[test]
fn every_flaw_of_a_recording_shows_in_what_a_power_cut_leaves() {
    let mut runner = TestRunner::deterministic();
    let histories: Vec<_> = (0..300)
        .map(|_| history().new_tree(&mut runner).unwrap().current())
        .collect();
    let noticed = |flaw| {
        histories.iter().any(|steps| {
            let (recording, all) = carry_out(steps, flaw);
            let mut cut = recording.power_cut();
            cut.advance_to(usize::MAX);
            compare(&cut, &all, usize::MAX).is_err()
        })
    };
    assert!(!noticed(Flaw::None));
    for flaw in [
        Flaw::ForgetsFlushes,
        Flaw::BelievesFlushes,
        Flaw::ForgetsFua,
        Flaw::AllFua,
        Flaw::BelievesWrites,
        Flaw::DiscardWrites,
        Flaw::EndsWritesEarly,
    ] {
        assert!(noticed(flaw), "{flaw:?}");
    }
}

#[test]
fn chance_finds_every_combination_of_sectors_of_a_few_writes() {
    let steps: Vec<_> = [0, 2, 4]
        .into_iter()
        .map(|first| Step::Begin {
            kind: Write,
            first,
            len: 2,
            fua: false,
        })
        .collect();
    let (recording, _) = carry_out(&steps, Flaw::None);
    let crash = |seed| bytes_of(&recording.crash(recording.moment(), Survivors::Random(seed)));
    let images: BTreeSet<_> = (0..4000).map(|seed| crash(seed).unwrap()).collect();
    assert_eq!(images.len(), 1 << SECTORS);
    assert_eq!(crash(17), crash(17), "a seed always says the same");
    // Whole writes in order, which sector by sector would be rare among many, are a sixth of all.
    let prefixes = (0..4000).filter(|&seed| {
        let bytes = crash(seed).unwrap();
        let arrived: Vec<_> = (0..3)
            .map(|write| bytes[2 * write] < 200 && bytes[2 * write + 1] < 200)
            .collect();
        let lost: Vec<_> = (0..3)
            .map(|write| bytes[2 * write] >= 200 && bytes[2 * write + 1] >= 200)
            .collect();
        arrived == [true, true, false] && lost == [false, false, true]
    });
    assert!(prefixes.count() > 100);
}
