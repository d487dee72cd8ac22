//! Random operations on a volume and on a dense model of it: every answer and everything a caller can
//! see must be the same, and every invariant must hold, after each of them.
//!
//! `EXTENT_MAP_CASES` is the number of sequences for each configuration.

use std::fmt::Debug;
use std::sync::Arc;

use arbitrary::Unstructured;
use extent_map::device::MemoryDevice;
use extent_map::file::{AllocateMode, ExtentKind, File, Volume};
use extent_map::mapping::MemoryStore;
use extent_map::testing::{self, FileOp, Observation, Op, Oracle, Shape, Violation};
use extent_map::units::FileNumber;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// An operation, and whether to look at all there is to see afterwards, which fills caches.
#[derive(Clone, Debug)]
struct Step {
    op: Op,
    look: bool,
}

fn steps(shape: Shape) -> impl Strategy<Value = Vec<Step>> {
    let step = any::<([u8; Op::ENCODED_LEN], u8)>().prop_map(move |(bytes, look)| Step {
        op: Op::draw(&mut Unstructured::new(&bytes), &shape).expect("enough bytes"),
        look: look % 2 == 0,
    });
    prop::collection::vec(step, 1..50)
}

/// A volume and the model of it.
struct Pair {
    shape: Shape,
    device: Arc<MemoryDevice>,
    store: Arc<MemoryStore>,
    volume: Volume,
    files: Vec<File>,
    oracle: Oracle,
}

impl Pair {
    fn new(shape: Shape) -> Self {
        let device = Arc::new(MemoryDevice::new(shape.device_size()));
        let store = Arc::new(MemoryStore::new());
        let (volume, files) = open(shape, &device, &store);
        Self {
            shape,
            device,
            store,
            volume,
            files,
            oracle: shape.oracle().unwrap(),
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let before = self.changes();
        let expected = self.oracle.apply(&step.op);
        let got = step.op.apply(&self.volume, &self.files);
        same("the answer", got, expected)?;
        let delayed = self.volume.statfs().delayed_blocks;
        same("delayed blocks", delayed, self.oracle.delayed_blocks())?;
        for (number, file) in self.files.iter().enumerate() {
            let expected = self.oracle.observe(number);
            same("the size", file.size(), expected.size)?;
            same("st_blocks", file.blocks(), expected.sectors)?;
            same("reserved", file.reserved_blocks(), expected.reserved_blocks)?;
        }
        same("invariants", checked(testing::check(&self.volume)), None)?;
        for ((number, before), after) in before.iter().enumerate().zip(self.changes()) {
            let noticed = before.0 == after.0 || before.1 < after.1;
            prop_assert!(
                !self.shape.delayed || noticed,
                "file {number} changed unnoticed"
            );
        }
        if step.look {
            self.look()?;
        }
        Ok(())
    }

    /// The extents that each file should have, and how often it says that they changed.
    fn changes(&self) -> Vec<(Vec<impl PartialEq + use<>>, u64)> {
        let changes = self.files.iter().enumerate().map(|(number, file)| {
            let mut extents = self.oracle.observe(number).extents;
            extents.retain(|(_, kind)| *kind != ExtentKind::Inline);
            (extents, testing::change_counter(file))
        });
        changes.collect()
    }

    fn look(&self) -> Result<(), TestCaseError> {
        for (number, file) in self.files.iter().enumerate() {
            let (got, expected) = (Observation::of(file).unwrap(), self.oracle.observe(number));
            same(
                &format!("extents of file {number}"),
                &got.extents,
                &expected.extents,
            )?;
            same(&format!("data of file {number}"), &got.data, &expected.data)?;
            let differs = got
                .content
                .iter()
                .zip(&expected.content)
                .position(|(got, expected)| got != expected);
            same(&format!("bytes of file {number} differ at"), differs, None)?;
            prop_assert!(got == expected, "file {number}");
        }
        same(
            "invariants after a look",
            checked(testing::check(&self.volume)),
            None,
        )
    }

    /// Syncs, and opens the volume again.
    fn finish(mut self) -> Result<(), TestCaseError> {
        same(
            "sync",
            Op::Sync.apply(&self.volume, &self.files),
            self.oracle.apply(&Op::Sync),
        )?;
        same(
            "after sync",
            checked(testing::check_synced(&self.volume)),
            None,
        )?;
        self.look()?;
        self.volume.close().unwrap();
        (self.volume, self.files) = open(self.shape, &self.device, &self.store);
        self.look()
    }
}

fn numbers() -> impl Iterator<Item = FileNumber> {
    (1..=Shape::FILES as u64).map(FileNumber)
}

fn open(shape: Shape, device: &Arc<MemoryDevice>, store: &Arc<MemoryStore>) -> (Volume, Vec<File>) {
    let volume = Volume::with_store(device.clone(), store.clone(), &shape.options()).unwrap();
    let files = numbers()
        .map(|number| volume.file(number).unwrap())
        .collect();
    (volume, files)
}

/// The violations in words.
fn checked(result: Result<(), Vec<Violation>>) -> Option<String> {
    let violations = result.err()?;
    Some(
        violations
            .iter()
            .map(|violation| format!("{violation}\n"))
            .collect(),
    )
}

fn same<T: PartialEq + Debug>(what: &str, got: T, expected: T) -> Result<(), TestCaseError> {
    prop_assert!(
        got == expected,
        "{what}:\n  got {got:?}\n  expected {expected:?}"
    );
    Ok(())
}

fn differ_never(shape: Shape) {
    let cases = std::env::var("EXTENT_MAP_CASES").map_or(32, |cases| cases.parse().unwrap());
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    TestRunner::new(config)
        .run(&steps(shape), |steps| {
            let mut pair = Pair::new(shape);
            steps.iter().try_for_each(|step| pair.step(step))?;
            pair.finish()
        })
        .unwrap_or_else(|failure| panic!("{shape:?}: {failure}"));
}

#[test]
fn a_volume_of_4k_blocks_behaves_as_its_model() {
    differ_never(Shape::new(4096, 1));
}

#[test]
fn a_volume_of_1k_blocks_behaves_as_its_model() {
    differ_never(Shape::new(1024, 1));
}

#[test]
fn a_volume_of_512_byte_blocks_behaves_as_its_model() {
    differ_never(Shape::new(512, 1));
}

#[test]
fn clusters_of_four_4k_blocks_behave_as_their_model() {
    differ_never(Shape::new(4096, 4));
}

#[test]
fn clusters_of_sixteen_4k_blocks_behave_as_their_model() {
    differ_never(Shape::new(4096, 16));
}

#[test]
fn clusters_of_four_1k_blocks_behave_as_their_model() {
    differ_never(Shape::new(1024, 4));
}

#[test]
fn clusters_of_sixteen_1k_blocks_behave_as_their_model() {
    differ_never(Shape::new(1024, 16));
}

#[test]
fn a_volume_without_delayed_allocation_behaves_as_its_model() {
    differ_never(Shape::new(1024, 1).not_delayed());
    differ_never(Shape::new(4096, 4).not_delayed());
}

#[test]
fn files_inside_the_mapping_store_behave_as_their_model() {
    differ_never(Shape::new(4096, 1).inline(3000));
    differ_never(Shape::new(512, 4).inline(1500));
}

/// One file of 1 KiB blocks goes through `ops`, being looked at after each.
fn agree_on(ops: impl IntoIterator<Item = FileOp>) {
    let mut pair = Pair::new(Shape::new(1024, 1));
    for op in ops {
        let op = Op::File(0, op);
        pair.step(&Step { op, look: true }).unwrap();
    }
    pair.finish().unwrap();
}

const fn store(offset: u64, len: u64) -> FileOp {
    FileOp::StoreMapped {
        offset,
        len,
        seed: 1,
    }
}

#[test]
fn a_store_into_a_page_in_which_the_file_has_grown_faults_it_in_again() {
    agree_on([
        FileOp::SetLen(500),
        store(0, 100),
        FileOp::SetLen(4000),
        store(0, 100),
    ]);
}

#[test]
fn a_store_behind_the_end_but_in_its_page_stores_nothing() {
    agree_on([FileOp::SetLen(100), store(3000, 10), store(4096, 10)]);
}

#[test]
fn the_size_outlives_the_dirty_block_that_would_have_brought_it_to_the_store() {
    for mode in [AllocateMode::PunchHole, AllocateMode::ZeroRangeKeepSize] {
        let write = FileOp::Write {
            offset: 0,
            len: 9000,
            seed: 1,
        };
        let (offset, len) = (8192, 4096);
        agree_on([write, FileOp::Allocate { mode, offset, len }]);
    }
}
