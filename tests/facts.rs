//! What the unit tests of kernel filesystems say of splits, conversions and reservations is so here, too: their tables
//! of facts (`tests/facts/*.json`), replayed.

use std::sync::Arc;

use extent_map::device::{BlockDevice, MemoryDevice};
use extent_map::file::{AllocateMode, ExtentKind, File, Volume, VolumeOptions};
use extent_map::mapping::{ExtentState, MappedExtent, MappingStore, MemoryStore};
use extent_map::status::{Status, StatusContext, StatusTree};
use extent_map::testing;
use extent_map::units::{ClusterRatio, DiskBlock, FileBlock, FileNumber, FileRange};
use serde_json::Value;

const FILE: FileNumber = FileNumber(1);
const BLOCK: u64 = 4096;

fn table(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn state(kind: &str) -> ExtentState {
    match kind {
        "w" => ExtentState::Written,
        "u" => ExtentState::Unwritten,
        _ => panic!("no such kind: {kind}"),
    }
}

/// A volume with one file whose extents are `start`, on a device that is full of the byte `X`.
fn volume(case: &Value, max_extents: usize) -> (Arc<MemoryDevice>, Volume, File) {
    let device = Arc::new(MemoryDevice::new(1 << 20));
    device.write_at(0, &[b'X'; 1 << 20]).unwrap();
    let store = MemoryStore::with_max_extents(max_extents);
    let disk = number(&case["pblk"]);
    let mut end = 0;
    for extent in case["start"].as_array().unwrap() {
        let range = FileRange::at(FileBlock(number(&extent[0])), number(&extent[1]));
        let state = state(extent[2].as_str().unwrap());
        store
            .insert(
                FILE,
                MappedExtent {
                    range,
                    disk: DiskBlock(disk),
                    state,
                },
            )
            .unwrap();
        end = range.end().0 * BLOCK;
    }
    store.set_size(FILE, end).unwrap();
    let volume =
        Volume::with_store(device.clone(), Arc::new(store), &VolumeOptions::new()).unwrap();
    let file = volume.file(FILE).unwrap();
    (device, volume, file)
}

fn extents(file: &File) -> Vec<(u64, u64, &'static str)> {
    let kind = |kind| match kind {
        ExtentKind::Written => "w",
        ExtentKind::Unwritten => "u",
        _ => "?",
    };
    let extents = file.extents().unwrap();
    extents
        .iter()
        .map(|e| (e.range.start().0, e.range.len(), kind(e.kind)))
        .collect()
}

/// Extents are split by the writeback of some of their blocks (to written) and by zeroing a range (to
/// unwritten). Where the store has no room for the pieces, blocks are zeroed on the device instead.
#[test]
fn splitting_and_converting_extents_with_and_without_room_for_the_pieces() {
    let table = table(include_str!("facts/kunit-extents.json"));
    for case in table["cases"].as_array().unwrap() {
        let no_space = case["enospc_on_insert"].as_bool().unwrap();
        let (device, volume, file) = volume(case, if no_space { 1 } else { usize::MAX });
        let (start, len) = (number(&case["target"][0]), number(&case["target"][1]));
        match state(case["to"].as_str().unwrap()) {
            ExtentState::Written => {
                file.write_at(start * BLOCK, &vec![b'X'; (len * BLOCK) as usize])
                    .unwrap();
                file.sync_all().unwrap();
            }
            ExtentState::Unwritten => {
                file.allocate(AllocateMode::ZeroRange, start * BLOCK, len * BLOCK)
                    .unwrap();
            }
        }
        let expected: Vec<_> = case["expect"].as_array().unwrap().iter().collect();
        let found = extents(&file);
        assert_eq!(found.len(), expected.len(), "{case}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(
                serde_json::json!([found.0, found.1, found.2]),
                *expected,
                "{case}"
            );
        }
        for (index, byte) in case["data"].as_array().into_iter().flatten().enumerate() {
            let expected = if byte == "X" { b'X' } else { 0 };
            let mut block = [1; BLOCK as usize];
            let disk = number(&case["pblk"]) + index as u64;
            device.read_at(disk * BLOCK, &mut block).unwrap();
            assert!(
                block.iter().all(|b| *b == expected),
                "{case}: block {index} on the device"
            );
        }
        assert_eq!(
            volume.stats().zeroed_instead_of_split,
            u64::from(no_space),
            "{case}"
        );
        testing::check(&volume).unwrap_or_else(|violations| panic!("{case}: {violations:?}"));
    }
}

/// btrfs counts how many extents of bounded length delayed data will take; any tree of maximal delayed
/// runs must answer the same, and what it releases must be what was delayed.
#[test]
fn delayed_runs_and_what_they_release() {
    let table = table(include_str!("facts/btrfs-accounting.json"));
    let max_extent = number(&table["max_extent"]) / BLOCK;
    let tree = StatusTree::new(&StatusContext::new(ClusterRatio::ONE));
    let everything = FileRange::starting_at(FileBlock(0));
    let mut reserved = 0;
    for step in table["steps"].as_array().unwrap() {
        let start = FileBlock(number(&step[1]) / BLOCK);
        let range = match step[2].as_u64() {
            Some(len) => FileRange::at(start, len / BLOCK),
            None => FileRange::starting_at(start),
        };
        match step[0].as_str().unwrap() {
            "set" => {
                tree.insert_delayed(range, false, false).unwrap();
                reserved += range.len();
            }
            _ => reserved -= tree.remove(range).unwrap().released,
        }
        let runs = tree.extents(everything);
        assert!(runs.iter().all(|run| run.status == Status::Delayed));
        let count: u64 = runs
            .iter()
            .map(|run| run.range.len().div_ceil(max_extent))
            .sum();
        assert_eq!(count, number(&step[3]), "{step}");
        assert_eq!(
            reserved,
            runs.iter().map(|run| run.range.len()).sum::<u64>(),
            "{step}"
        );
    }
    assert_eq!(reserved, 0);
}
