//! Plain data as text and back: what is written is what is read, and what no value can be is refused.
#![cfg(feature = "serde")]

use std::fmt::Debug;

use extent_map::allocator::{Goal, Tier};
use extent_map::block::{Deadline, Policy, Priority, Scheduler};
use extent_map::device::{Limits, Operation, OperationKind};
use extent_map::file::{AllocateMode, ExtentKind};
use extent_map::map::ExtentMap;
use extent_map::mapping::{ExtentState, MappedExtent, Mapping, Shift};
use extent_map::stats::Stats;
use extent_map::status::{ShrinkOutcome, Status, StatusExtent};
use extent_map::units::{
    BlockSize, ClusterRatio, DiskBlock, DiskRun, FileBlock, FileNumber, FileRange, Geometry,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{from_str, to_string};

#[track_caller]
fn is_written_as<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T, text: &str) {
    assert_eq!(to_string(&value).unwrap(), text);
    assert_eq!(from_str::<T>(text).unwrap(), value);
}

#[track_caller]
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
    let text = to_string(&value).unwrap();
    assert_eq!(from_str::<T>(&text).unwrap(), value, "{text}");
}

#[test]
fn units_are_the_numbers_that_people_write() {
    is_written_as(FileBlock(7), "7");
    is_written_as(DiskBlock(7), "7");
    is_written_as(FileNumber(7), "7");
    is_written_as(FileRange::at(FileBlock(2), 3), r#"{"start":2,"end":5}"#);
    is_written_as(DiskRun::new(DiskBlock(2), 3), r#"{"start":2,"len":3}"#);
    let geometry = Geometry::new(1024, 16).unwrap();
    is_written_as(geometry, r#"{"block_size":1024,"cluster":16}"#);
}

#[test]
fn what_no_value_can_be_is_refused() {
    for bytes in ["0", "1000", "8192", "-1", "\"1024\""] {
        assert!(from_str::<BlockSize>(bytes).is_err(), "{bytes}");
    }
    for blocks in ["0", "3", "131072"] {
        assert!(from_str::<ClusterRatio>(blocks).is_err(), "{blocks}");
    }
    let reversed = from_str::<FileRange>(r#"{"start":5,"end":2}"#).unwrap();
    assert_eq!(reversed, FileRange::at(FileBlock(5), 0));
}

#[test]
fn extents_and_requests_come_back_as_they_were() {
    let range = FileRange::at(FileBlock(1), 2);
    let mapped = MappedExtent {
        range,
        disk: DiskBlock(9),
        state: ExtentState::Unwritten,
    };
    comes_back(Mapping::Mapped(mapped));
    comes_back(Mapping::Hole(range));
    comes_back([Shift::Left(1), Shift::Right(2)]);
    for status in [
        Status::Written(DiskBlock(3)),
        Status::Unwritten(DiskBlock(3)),
        Status::Delayed,
        Status::Hole,
    ] {
        comes_back(StatusExtent { range, status });
    }
    comes_back([
        ExtentKind::Written,
        ExtentKind::Unwritten,
        ExtentKind::Delayed,
    ]);
    comes_back([AllocateMode::Allocate, AllocateMode::CollapseRange]);
    comes_back(Goal::Near(DiskBlock(4)));
    comes_back([Tier::Normal, Tier::Root, Tier::Metadata]);
    comes_back([Priority::Urgent, Priority::Normal, Priority::Idle]);
    comes_back(Scheduler::Deadline(Deadline::default()));
    comes_back(Policy::new().attempts(3));
    comes_back(Limits::default());
    comes_back(ShrinkOutcome::default());
    comes_back(Operation {
        kind: OperationKind::Write,
        offset: 4096,
        len: 512,
    });
}

#[test]
fn statistics_of_another_version_are_read_as_far_as_they_go() {
    let known: Stats = from_str(r#"{"bios":3}"#).unwrap();
    assert_eq!(known.bios, 3);
    assert_eq!(known.device_requests, 0);
    comes_back(known);
}

#[test]
fn what_a_map_holds_can_be_written_out() {
    let map = ExtentMap::<u64>::new();
    let _replaced = map.edit().insert(3..5, 100).unwrap();
    let extents: Vec<_> = map.pin().iter().collect();
    let text = to_string(&extents).unwrap();
    assert_eq!(text, r#"[{"start":3,"last":4,"value":100}]"#);
}
