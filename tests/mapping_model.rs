//! Both mapping stores against a dense oracle, block by block, on files of many extents: a store cuts a file's list of
//! extents into chunks, and nobody may notice where.

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::ops::Range;
use std::sync::Arc;

use extent_map::block::BlockQueue;
use extent_map::device::{BlockDevice, MemoryDevice};
use extent_map::mapping::{
    ExtentState, LogStore, MappedExtent, Mapping, MappingStore, MemoryStore, Shift,
};
use extent_map::stats::Counters;
use extent_map::units::{
    BlockSize, ClusterRatio, DiskBlock, FileBlock, FileNumber, FileRange, Geometry, MAX_FILE_BLOCKS,
};
use extent_map::{Error, Result};
use proptest::prelude::*;

const FILE: FileNumber = FileNumber(1);

fn geometry() -> Geometry {
    Geometry {
        block_size: BlockSize::new(512).unwrap(),
        cluster: ClusterRatio::ONE,
    }
}

/// Every block of a file that is mapped: where it lives, and whether it was written.
#[derive(Default)]
struct Dense(BTreeMap<u64, (u64, ExtentState)>);

impl Dense {
    fn insert(&mut self, extent: MappedExtent) -> Result<()> {
        let blocks = || extent.range.blocks();
        if blocks().any(|block| self.0.contains_key(&block.0)) {
            return Err(Error::Corrupt("mapped"));
        }
        let place = |block| (block, (extent.disk_of(FileBlock(block)).0, extent.state));
        self.0.extend(blocks().map(|block| place(block.0)));
        Ok(())
    }

    fn convert(&mut self, range: FileRange, to: ExtentState) {
        for (_, (_, state)) in self.0.range_mut(Range::from(range)) {
            *state = to;
        }
    }

    fn remove(&mut self, range: FileRange) -> Vec<MappedExtent> {
        let blocks = Range::from(range);
        let mut removed = self.0.split_off(&blocks.start);
        self.0.extend(removed.split_off(&blocks.end));
        Self(removed).extents()
    }

    fn shift(&mut self, from: u64, shift: Shift) -> Result<()> {
        let last_kept = self.0.range(..from).next_back().map(|(block, _)| *block);
        let (Some((&first, _)), Some((&last, _))) =
            (self.0.range(from..).next(), self.0.last_key_value())
        else {
            return Ok(());
        };
        let moved = |block: u64| match shift {
            Shift::Left(by) => block.wrapping_sub(by),
            Shift::Right(by) => block + by,
        };
        match shift {
            Shift::Left(by) if by > first || last_kept.is_some_and(|kept| first - by <= kept) => {
                return Err(Error::Corrupt("in the way"));
            }
            Shift::Right(_) if moved(last) >= MAX_FILE_BLOCKS => return Err(Error::FileTooBig),
            _ => {}
        }
        let tail = self.0.split_off(&from).into_iter();
        self.0
            .extend(tail.map(|(block, what)| (moved(block), what)));
        Ok(())
    }

    fn query(&self, block: u64) -> Mapping {
        let mapped = self.extents().into_iter();
        let mut mapped = mapped.filter(|extent| extent.range.contains(FileBlock(block)));
        let before = self.0.range(..block).next_back();
        let behind = self.0.range(block..).next();
        mapped.next().map_or_else(
            || {
                let start = before.map_or(0, |(block, _)| block + 1);
                let end = behind.map_or(MAX_FILE_BLOCKS, |(block, _)| *block);
                Mapping::Hole(FileRange::new(FileBlock(start), FileBlock(end)))
            },
            Mapping::Mapped,
        )
    }

    /// Runs that are as long as they can be.
    fn extents(&self) -> Vec<MappedExtent> {
        let mut extents: Vec<MappedExtent> = Vec::new();
        for (&block, &(disk, state)) in &self.0 {
            let grows = |last: &&mut MappedExtent| {
                (last.range.end().0, last.run().end().0, last.state) == (block, disk, state)
            };
            match extents.last_mut().filter(grows) {
                Some(last) => {
                    last.range = FileRange::new(last.range.start(), FileBlock(block + 1));
                }
                None => extents.push(MappedExtent {
                    range: FileRange::at(FileBlock(block), 1),
                    disk: DiskBlock(disk),
                    state,
                }),
            }
        }
        extents
    }

    /// A place on the disk, if it is free, for the `len` blocks from `block` on, so that they continue what is mapped in
    /// front of them or go on behind them.
    fn beside(&self, block: u64, len: u64, side: Side) -> Option<u64> {
        let in_front = self.0.range(..block).next_back();
        let behind = self.0.range(block..).next();
        let start = match side {
            Side::InFront => in_front.map(|(_, (disk, _))| disk + 1),
            Side::Behind => behind.map(|(_, (disk, _))| disk - len),
        }?;
        let wanted = start..start + len;
        let is_free = !self.0.values().any(|(disk, _)| wanted.contains(disk));
        is_free.then_some(start)
    }
}

/// What new blocks should be one run with.
#[derive(Clone, Copy, Debug)]
enum Side {
    InFront,
    Behind,
}

/// A call on a store. Everything starts and ends within a few times the blocks that a file has to begin with.
#[derive(Clone, Debug)]
enum Call {
    Insert(u64, u64, ExtentState, Option<Side>),
    Convert(u64, u64, ExtentState),
    Remove(u64, u64),
    Shift(u64, Shift),
}

/// Extents that a file has to begin with, each of one block with two free ones behind it.
const EXTENTS: u64 = 400;

fn call() -> impl Strategy<Value = Call> {
    let block = || 0..3 * EXTENTS + 50;
    let len = || prop_oneof![4 => 1..5u64, 1 => 1..3 * EXTENTS];
    let state = || prop_oneof![Just(ExtentState::Written), Just(ExtentState::Unwritten)];
    let by = prop_oneof![9 => 1..5u64, 3 => 1..500u64, 1 => Just(MAX_FILE_BLOCKS - 3 * EXTENTS)];
    let side = prop_oneof![
        Just(None),
        Just(Some(Side::InFront)),
        Just(Some(Side::Behind))
    ];
    let shift = (by, any::<bool>()).prop_map(|(by, left)| match left {
        true => Shift::Left(by),
        false => Shift::Right(by),
    });
    prop_oneof![
        8 => (block(), 1..3u64, state(), side)
            .prop_map(|(at, len, state, side)| Call::Insert(at, len, state, side)),
        4 => (block(), len(), state()).prop_map(|(at, len, state)| Call::Convert(at, len, state)),
        3 => (block(), len()).prop_map(|(at, len)| Call::Remove(at, len)),
        3 => (block(), shift).prop_map(|(from, shift)| Call::Shift(from, shift)),
    ]
}

/// Makes the same change to both, which must answer alike.
fn apply(store: &dyn MappingStore, dense: &mut Dense, call: &Call, unused: u64) {
    let range = |at: u64, len: u64| FileRange::at(FileBlock(at), len);
    let (answer, wanted) = match *call {
        Call::Insert(at, len, state, side) => {
            let beside = side.and_then(|side| dense.beside(at, len, side));
            let extent = MappedExtent {
                range: range(at, len),
                disk: DiskBlock(beside.unwrap_or(unused)),
                state,
            };
            (store.insert(FILE, extent), dense.insert(extent))
        }
        Call::Convert(at, len, to) => {
            dense.convert(range(at, len), to);
            (store.convert(FILE, range(at, len), to), Ok(()))
        }
        Call::Remove(at, len) => {
            let removed = store.remove(FILE, range(at, len));
            assert_eq!(removed, Ok(dense.remove(range(at, len))));
            (Ok(()), Ok(()))
        }
        Call::Shift(from, shift) => (
            store.shift(FILE, FileBlock(from), shift),
            dense.shift(from, shift),
        ),
    };
    let kind = |result: Result<()>| result.map_err(|error| discriminant(&error));
    assert_eq!(kind(answer), kind(wanted));
}

fn assert_same(store: &dyn MappingStore, dense: &Dense, block: u64, len: u64) {
    let extents = dense.extents();
    let everything = FileRange::starting_at(FileBlock(0));
    assert_eq!(store.extents(FILE, everything).as_ref(), Ok(&extents));
    assert_eq!(store.query(FILE, FileBlock(block)), Ok(dense.query(block)));
    let starts_before = |extent: &&MappedExtent| extent.range.start().0 < block;
    let last_before = extents.iter().rfind(starts_before).copied();
    assert_eq!(store.last_before(FILE, FileBlock(block)), Ok(last_before));
    let range = FileRange::at(FileBlock(block), len);
    let meets = |extent: &MappedExtent| !extent.range.intersect(range).is_empty();
    let met = extents.into_iter().filter(meets).collect();
    assert_eq!(store.extents(FILE, range), Ok(met));
}

fn filled(store: &dyn MappingStore) -> Dense {
    let mut dense = Dense::default();
    for at in 0..EXTENTS {
        // In scattered order, far enough apart on the disk for what joins them.
        let at = at * 171 % EXTENTS;
        let call = Call::Insert(3 * at, 1, ExtentState::Written, None);
        apply(store, &mut dense, &call, 10_000 + 10 * at);
    }
    dense
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_file_of_many_extents_is_mapped_as_its_blocks_are_one_by_one(
        calls in prop::collection::vec((call(), 0..3 * EXTENTS + 50, 1..1000u64), 1..100)
    ) {
        let device: Arc<dyn BlockDevice> = Arc::new(MemoryDevice::new(1 << 25));
        let log = LogStore::format(Arc::clone(&device), geometry()).unwrap();
        let memory = MemoryStore::new();
        for store in [&log as &dyn MappingStore, &memory] {
            let mut dense = filled(store);
            for (number, (call, block, len)) in calls.iter().enumerate() {
                apply(store, &mut dense, call, 20_000 + 10 * number as u64);
                assert_same(store, &dense, *block, *len);
            }
        }
        let everything = FileRange::starting_at(FileBlock(0));
        let queue = BlockQueue::new(Arc::clone(&device), geometry().block_size, Arc::new(Counters::default()));
        log.commit(&queue).unwrap();
        let opened = LogStore::open(Arc::clone(&device)).unwrap();
        prop_assert_eq!(opened.extents(FILE, everything), memory.extents(FILE, everything));
        prop_assert_eq!(LogStore::check(&*device), Ok(vec![]));
    }
}
