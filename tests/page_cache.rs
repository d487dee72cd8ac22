//! The page cache with a bound: nothing a caller can see changes, and clean pages leave.

use extent_map::device::OperationKind;
use extent_map::file::{AllocateMode, VolumeOptions};
use extent_map::probe::{Mutation, Probe};
use extent_map::testing;
use proptest::prelude::*;

#[path = "common/counted_file.rs"]
mod counted_file;

use counted_file::{Setup, setup};

const PAGE: u64 = 4096;

impl Setup {
    fn pages_in_memory(&self) -> u64 {
        let stats = self.volume.stats();
        stats.pages_cached - stats.pages_evicted
    }

    fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0xee; len];
        let done = self.file.read_at(offset, &mut bytes).unwrap();
        bytes.truncate(done);
        bytes
    }

    /// The reads that `work` makes of the device, in bytes.
    fn reads(&self, work: impl FnOnce()) -> Vec<u64> {
        self.device.take_log();
        work();
        let log = self.device.take_log().into_iter();
        let reads = log.filter(|operation| operation.kind == OperationKind::Read);
        reads.map(|read| read.len).collect()
    }
}

/// Bytes that tell where they belong.
fn marked(pages: u64) -> Vec<u8> {
    let byte = |at: u64| (at / 512 % 251) as u8;
    (0..pages * PAGE).map(byte).collect()
}

#[test]
fn clean_pages_leave_and_come_back_from_the_device() {
    let setup = setup(VolumeOptions::new().cached_pages(8));
    let bytes = marked(64);
    setup.file.write_at(0, &bytes).unwrap();
    assert_eq!(setup.pages_in_memory(), 64, "dirty pages stay");
    setup.file.sync_all().unwrap();
    assert_eq!(setup.pages_in_memory(), 8);
    for page in (0..64).rev() {
        let start = (page * PAGE) as usize;
        assert_eq!(setup.read(page * PAGE, 4096), bytes[start..start + 4096]);
    }
    assert!(setup.pages_in_memory() <= 9, "{}", setup.pages_in_memory());
    testing::check(&setup.volume).unwrap();
}

#[test]
fn pages_in_use_stay_longer_than_others() {
    let setup = setup(VolumeOptions::new().cached_pages(16));
    setup.file.write_at(0, &marked(1024)).unwrap();
    setup.file.sync_all().unwrap();
    let hot = 1023 * PAGE;
    setup.read(hot, 1);
    let reads = setup.reads(|| {
        for step in 1..500 {
            setup.read(step * 619 % 1021 * PAGE, 1);
            setup.read(hot, 1);
        }
    });
    let once_each = 499;
    assert!(reads.len() <= once_each + 1, "{} reads", reads.len());
}

#[test]
fn a_write_of_a_part_of_a_block_keeps_the_rest_whatever_else_needs_memory() {
    let torn = |probe: Probe| {
        let setup = setup(VolumeOptions::new().cached_pages(1).probe(probe));
        setup.file.write_at(0, &marked(8)).unwrap();
        setup.file.sync_all().unwrap();
        // Two edges in two pages, with room for one page.
        let data = vec![0xaa; 2 * PAGE as usize];
        setup.file.write_at(PAGE + 100, &data).unwrap();
        let mut expected = marked(8);
        expected[PAGE as usize + 100..3 * PAGE as usize + 100].copy_from_slice(&data);
        setup.read(0, 8 * PAGE as usize) != expected
    };
    assert!(!torn(Probe::new()));
    assert!(torn(Probe::new().mutations([Mutation::LetGoOfEdges])));
}

#[test]
fn reading_in_sequence_reads_ahead_and_takes_few_commands() {
    let setup = setup(VolumeOptions::new());
    let bytes = marked(256);
    setup.file.write_at(0, &bytes).unwrap();
    setup.volume.drop_caches().unwrap();
    let reads = setup.reads(|| {
        for page in 0..256 {
            let start = (page * PAGE) as usize;
            assert_eq!(setup.read(page * PAGE, 4096), bytes[start..start + 4096]);
        }
    });
    assert_eq!(
        reads,
        [4, 8, 16, 32, 64, 128, 4].map(|pages| pages * PAGE),
        "windows that double, up to the end of the file"
    );
}

#[test]
fn reading_at_random_reads_nothing_ahead() {
    let setup = setup(VolumeOptions::new());
    setup.file.write_at(0, &marked(256)).unwrap();
    setup.volume.drop_caches().unwrap();
    let reads = setup.reads(|| {
        for step in 1..50 {
            setup.read(step * 37 % 256 * PAGE, 4096);
        }
    });
    assert_eq!(reads, vec![PAGE; 49]);
    assert_eq!(setup.volume.stats().blocks_read_ahead, 0);
}

#[test]
fn a_large_read_is_one_command() {
    let setup = setup(VolumeOptions::new());
    let bytes = marked(256);
    setup.file.write_at(0, &bytes).unwrap();
    setup.volume.drop_caches().unwrap();
    let reads = setup.reads(|| {
        assert_eq!(setup.read(10 * PAGE, 100 << 12), bytes[10 << 12..110 << 12]);
    });
    assert_eq!(reads, [100 * PAGE]);
}

#[test]
fn neither_holes_nor_unwritten_blocks_are_read() {
    let setup = setup(VolumeOptions::new());
    setup.file.write_at(0, &marked(8)).unwrap();
    setup.file.write_at(100 * PAGE, &marked(8)).unwrap();
    let unwritten = (50 * PAGE, 20 * PAGE);
    setup
        .file
        .allocate(AllocateMode::Allocate, unwritten.0, unwritten.1)
        .unwrap();
    setup.volume.drop_caches().unwrap();
    let reads = setup.reads(|| {
        for page in 0..108 {
            setup.read(page * PAGE, 4096);
        }
    });
    assert_eq!(reads.iter().sum::<u64>(), 16 * PAGE);
}

#[test]
fn pages_in_memory_are_not_read_again_by_what_is_read_around_them() {
    let setup = setup(VolumeOptions::new());
    setup.file.write_at(0, &marked(16)).unwrap();
    setup.volume.drop_caches().unwrap();
    let dirty = [0xaa; PAGE as usize];
    setup.file.write_at(5 * PAGE, &dirty).unwrap();
    let mut expected = marked(16);
    expected[5 << 12..6 << 12].copy_from_slice(&dirty);
    let reads = setup.reads(|| assert_eq!(setup.read(0, 16 << 12), expected));
    assert_eq!(reads, [5 * PAGE, 10 * PAGE]);
}

#[test]
fn a_bad_block_fails_the_read_of_it_and_of_no_other() {
    let setup = setup(VolumeOptions::new());
    setup.file.write_at(0, &marked(16)).unwrap();
    setup.volume.drop_caches().unwrap();
    let first = setup.file.extents().unwrap()[0].disk.unwrap().0;
    let bad = (first + 9) * PAGE;
    setup
        .device
        .fail_range(Some(OperationKind::Read), bad..bad + 512);
    assert_eq!(setup.read(0, 16 << 12), marked(16)[..9 << 12]);
    let mut byte = [0];
    assert!(setup.file.read_at(9 * PAGE, &mut byte).is_err());
    setup.device.clear_faults();
    assert_eq!(setup.read(0, 16 << 12), marked(16));
}

/// One step of a random history of a file.
#[derive(Clone, Debug)]
enum Step {
    Write(u64, usize),
    Store(u64, usize),
    Read(u64, usize),
    WriteDirect(u64, u64),
    ReadDirect(u64, u64),
    Resize(u64),
    Punch(u64, u64),
    Sync,
    Drop,
}

const BLOCK: u64 = 1024;
const BYTES: u64 = 48 << 10;

fn step() -> impl Strategy<Value = Step> {
    let (at, len) = (0..BYTES, 1usize..9000);
    let (block, blocks) = (0..BYTES / BLOCK, 1..12u64);
    prop_oneof![
        4 => (at.clone(), len.clone()).prop_map(|(at, len)| Step::Write(at, len)),
        2 => (at.clone(), len.clone()).prop_map(|(at, len)| Step::Store(at, len)),
        3 => (at.clone(), len.clone()).prop_map(|(at, len)| Step::Read(at, len)),
        3 => (block.clone(), blocks.clone()).prop_map(|(at, len)| Step::WriteDirect(at, len)),
        3 => (block, blocks).prop_map(|(at, len)| Step::ReadDirect(at, len)),
        1 => at.clone().prop_map(Step::Resize),
        1 => (at, 1..9000u64).prop_map(|(at, len)| Step::Punch(at, len)),
        1 => Just(Step::Sync),
        1 => Just(Step::Drop),
    ]
}

/// Runs steps on a file and on its bytes; whether they agreed all along.
fn agrees(steps: &[Step], probe: Probe, inline_limit: u64) -> Result<(), String> {
    let options = VolumeOptions::new().block_size(BLOCK).cached_pages(3);
    let setup = setup(options.inline_limit(inline_limit).probe(probe));
    let mut model: Vec<u8> = Vec::new();
    let mut put = 0_u8;
    for step in steps {
        let mut bytes = |len: usize| {
            put = put.wrapping_add(1);
            vec![put; len]
        };
        let end_of = |at: u64, len: usize, model: &[u8]| model.len().min(at as usize + len);
        let grown = |model: &mut Vec<u8>, at: u64, data: &[u8]| {
            let end = at as usize + data.len();
            model.resize(model.len().max(end), 0);
            model[at as usize..end].copy_from_slice(data);
        };
        match *step {
            Step::Write(at, len) => {
                let data = bytes(len);
                setup.file.write_at(at, &data).map_err(|e| e.to_string())?;
                grown(&mut model, at, &data);
            }
            Step::WriteDirect(block, blocks) => {
                let (at, data) = (block * BLOCK, bytes((blocks * BLOCK) as usize));
                let done = setup.file.write_direct_at(at, &data);
                if done != Ok(data.len()) {
                    return Err(format!("{step:?}: {done:?}"));
                }
                grown(&mut model, at, &data);
            }
            Step::Store(at, len) => {
                let data = bytes(len);
                let end = end_of(at, len, &model);
                if (at as usize) < end {
                    let data = &data[..end - at as usize];
                    let stored = setup.file.store_mapped(at, data);
                    if stored != Ok(data.len()) {
                        return Err(format!("{step:?}: {stored:?}"));
                    }
                    model[at as usize..end].copy_from_slice(data);
                }
            }
            Step::Read(at, len) => {
                let from = model.len().min(at as usize);
                if setup.read(at, len) != model[from..end_of(at, len, &model).max(from)] {
                    return Err(format!("{step:?} reads something else"));
                }
            }
            Step::ReadDirect(block, blocks) => {
                let (at, len) = (block * BLOCK, (blocks * BLOCK) as usize);
                let mut got = vec![0xee; len];
                let done = setup.file.read_direct_at(at, &mut got);
                let from = model.len().min(at as usize);
                let expected = &model[from..end_of(at, len, &model).max(from)];
                if done != Ok(expected.len()) || got[..expected.len()] != *expected {
                    return Err(format!("{step:?}: {done:?}, or other bytes"));
                }
            }
            Step::Resize(size) => {
                setup.file.set_len(size).map_err(|e| e.to_string())?;
                model.resize(size as usize, 0);
            }
            Step::Punch(at, len) => {
                let punched = setup.file.allocate(AllocateMode::PunchHole, at, len);
                punched.map_err(|e| e.to_string())?;
                let end = end_of(at, len as usize, &model);
                model[end.min(at as usize)..end].fill(0);
            }
            Step::Sync => setup.file.sync_all().map_err(|e| e.to_string())?,
            Step::Drop => setup.volume.drop_caches().map_err(|e| e.to_string())?,
        }
        testing::check(&setup.volume).map_err(|found| format!("{step:?}: {found:?}"))?;
    }
    let whole = setup.read(0, BYTES as usize * 2);
    match whole == model {
        true => Ok(()),
        false => Err("the file ends with other bytes".into()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn three_pages_of_memory_and_direct_access_change_nothing_that_a_caller_sees(
        steps in prop::collection::vec(step(), 1..40),
        inline in prop::sample::select(vec![0u64, 300]),
    ) {
        let agreed = agrees(&steps, Probe::new(), inline);
        prop_assert!(agreed.is_ok(), "{}", agreed.unwrap_err());
    }
}

/// Whether random histories notice that a protection is missing.
fn is_noticed(mutation: Mutation) -> bool {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let steps = prop::collection::vec(step(), 1..40);
    (0..400).any(|_| {
        let steps = steps.new_tree(&mut runner).unwrap().current();
        let probe = Probe::new().mutations([mutation]);
        let run = std::panic::AssertUnwindSafe(|| agrees(&steps, probe, 0));
        !matches!(std::panic::catch_unwind(run), Ok(Ok(())))
    })
}

#[test]
fn random_histories_notice_what_is_missing() {
    for mutation in [
        Mutation::LetGoOfEdges,
        Mutation::EvictDirtyPages,
        Mutation::KeepPagesUnderDirectWrite,
    ] {
        assert!(is_noticed(mutation), "{mutation:?}");
    }
}
