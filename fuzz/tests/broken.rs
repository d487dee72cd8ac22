//! What breaks a promise must be found by the seeds of the target that is there to find it.
#![cfg(not(feature = "shuttle"))]

use std::mem;
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use extent_map::Result;
use extent_map::device::{BlockDevice, FaultyDevice, MemoryDevice, OperationKind};
use extent_map::map::probe::{Mutation, Probe};
use extent_map::map::{ExtentMap, Reclaimer};
use extent_map::testing::{Script, Shape};
use extent_map::units::{DiskBlock, DiskRun};
use extent_map_fuzz::{
    allocator, block_queue, device_faults, file_ops, forged_store, map_concurrent, open_image,
};

#[path = "common/inputs.rs"]
#[allow(dead_code, reason = "some is for other tests")]
mod inputs;

use inputs::is_found;

#[test]
fn the_seeds_of_the_schedules_find_maps_that_break_promises() {
    for mutation in [
        Mutation::CacheWithoutCheck,
        Mutation::TrustStaleLook,
        Mutation::LeaveUnmerged,
    ] {
        let found = is_found("map_concurrent", |seed| {
            let probe = Probe::new().mutation(mutation);
            map_concurrent::run_on(&ExtentMap::with_probe(&Reclaimer::new(), probe), seed);
        });
        assert!(found, "{mutation:?}");
    }
}

#[test]
fn an_allocator_that_loses_a_promise_or_a_cluster_is_found() {
    assert!(is_found("allocator", |seed| {
        allocator::run_beside(seed, |allocator| mem::forget(allocator.reserve(1)));
    }));
    assert!(is_found("allocator", |seed| {
        allocator::run_beside(seed, |allocator| {
            let _refused_if_it_is_in_use = allocator.claim(DiskRun::new(DiskBlock(400), 4));
        });
    }));
}

#[test]
fn a_volume_with_other_clusters_than_it_should_have_is_found() {
    assert!(is_found("file_ops", |seed| {
        let script = Script::arbitrary(&mut Unstructured::new(seed)).unwrap();
        let cluster_blocks = 2 * script.shape.cluster_blocks;
        let other = Shape {
            cluster_blocks,
            ..script.shape
        };
        file_ops::compare(&script, other.oracle().unwrap());
    }));
}

#[test]
fn a_volume_that_opens_whatever_its_mapping_says_is_found() {
    let probe = || {
        let mutation = extent_map::probe::Mutation::OpenContradictions;
        extent_map::probe::Probe::new().mutations([mutation])
    };
    assert!(is_found("open_image", |seed| open_image::run_with(
        seed,
        probe()
    )));
    assert!(is_found("forged_store", |seed| {
        forged_store::run_with(seed, probe());
    }));
}

/// What is wrong with a device.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    /// Only the first buffer of a write arrives.
    Torn,
    /// Operations of this kind never fail: those that do are said to have succeeded.
    Hush(OperationKind),
    /// Writes to the third cluster of 16 KiB are lost.
    Lost,
}

#[derive(Debug)]
struct WrongDevice(Arc<dyn BlockDevice>, Wrong);

impl WrongDevice {
    fn hush(&self, kind: OperationKind, result: Result<()>) -> Result<()> {
        match self.1 {
            Wrong::Hush(hushed) if hushed == kind => Ok(()),
            _ => result,
        }
    }
}

impl BlockDevice for WrongDevice {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.hush(OperationKind::Read, self.0.read_at(offset, buffer))
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        match self.1 {
            Wrong::Lost if offset / (16 << 10) == 2 => Ok(()),
            _ => self.hush(OperationKind::Write, self.0.write_at(offset, data)),
        }
    }
    fn write_vectored_at(&self, offset: u64, data: &[std::io::IoSlice<'_>]) -> Result<()> {
        match self.1 {
            Wrong::Torn => self
                .0
                .write_at(offset, data.first().map_or(&[], |data| data)),
            _ => self.write_at(
                offset,
                &data
                    .iter()
                    .flat_map(|part| part.to_vec())
                    .collect::<Vec<_>>(),
            ),
        }
    }
    fn flush(&self) -> Result<()> {
        self.hush(OperationKind::Flush, self.0.flush())
    }
    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.0.discard(offset, len)
    }
    fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        self.0.write_zeroes(offset, len)
    }
}

#[test]
fn a_merged_write_that_arrives_in_part_is_found() {
    assert!(is_found("block_queue", |seed| {
        let device = WrongDevice(Arc::new(MemoryDevice::new(1 << 20)), Wrong::Torn);
        block_queue::run_on(Arc::new(device), seed);
    }));
}

#[test]
fn an_error_that_is_hushed_up_and_a_write_that_is_lost_are_found() {
    for wrong in [
        Wrong::Torn,
        Wrong::Hush(OperationKind::Read),
        Wrong::Hush(OperationKind::Write),
        Wrong::Hush(OperationKind::Flush),
        Wrong::Lost,
    ] {
        let found = is_found("device_faults", |seed| {
            let wrap = |device: Arc<FaultyDevice>| -> Arc<dyn BlockDevice> {
                Arc::new(WrongDevice(device, wrong))
            };
            device_faults::run_through(wrap, seed);
        });
        assert!(found, "{wrong:?}");
    }
}
