//! Space that was counted wrong, handed out twice, or not found.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use extent_map::Error;
use extent_map::allocator::{AllocRequest, Allocator, FileRequest, FileSpace};
use extent_map::file::{AllocateMode, Volume, VolumeOptions};
use extent_map::mapping::MemoryStore;
use extent_map::probe::{Moment, Mutation, Probe};
use extent_map::units::DiskBlock;

use crate::bug::{Bug, Outcome, Proof, check, check_synced, expect, given, regressions};
use crate::scene::{BLOCK, block, device, steered_volume, volume, with_first_file};
use crate::space::{allocate_all, allocator, geometry, run};
use crate::steered::StoreCall;

regressions! {
    an_allocation_that_is_cancelled_gives_its_promise_back_once: Bug {
        number: 28,
        fixed: "2026-01",
        kernel: "After an error behind the change of the bitmap the claim was subtracted twice: minus one delayed \
                 cluster at unmount.",
        invariants: &[7],
        proof: Proof::Protected(&[&[Mutation::SpendOnCancel]], allocation_that_cannot_be_mapped),
    },
    a_promised_cluster_is_found_however_it_moves: Bug {
        number: 29,
        fixed: "2020-05",
        kernel: "A group looked full while its preallocations were being released: an allocation beside it was told \
                 that no space was left.",
        invariants: &[8],
        proof: Proof::Protected(&[&[Mutation::SearchOnce]], search_for_a_cluster_that_moves),
    },
    windows_of_a_file_do_not_overlap: Bug {
        number: 30,
        fixed: "2023-07",
        kernel: "The search for preallocations skipped a live one behind a deleted one, and the end of a window \
                 overflowed 32 bits: preallocations overlapped.",
        invariants: &[15],
        proof: Proof::Protected(&[&[Mutation::OverlapWindows]], windows_between_windows),
    },
    a_double_free_is_refused_before_anything_is_counted: Bug {
        number: 31,
        fixed: "2024-01",
        kernel: "A double free was reported after the free count had changed and before the fragments had: a division by \
                 zero.",
        invariants: &[16],
        proof: Proof::Protected(&[&[Mutation::FreeBeforeChecking]], double_free),
    },
    a_full_group_is_in_no_list: Bug {
        number: 33,
        fixed: "2025-07",
        kernel: "Groups without free blocks were kept in the lists by order; after an option was toggled index and \
                 lock did not match.",
        invariants: &[17],
        proof: Proof::Protected(&[&[Mutation::StayInList]], fill_and_empty_groups),
    },
    a_block_keeps_its_offset_in_the_cluster: Bug {
        number: 32,
        fixed: "2025-11",
        kernel: "A preallocation was not aligned to clusters: an extent pointed into the middle of one.",
        invariants: &[5],
        proof: Proof::Protected(&[&[Mutation::IgnoreClusterOffset]], write_into_the_middle_of_a_cluster),
    },
    blocks_that_the_store_refused_belong_to_nobody: Bug {
        number: 35,
        fixed: "2026-03",
        kernel: "An extent insert failed, the blocks were freed, and the extent stayed: two owners.",
        invariants: &[14],
        proof: Proof::Protected(&[&[Mutation::KeepRefusedExtent]], insert_without_room),
    },
}

fn allocation_that_cannot_be_mapped(probe: Probe) -> Outcome {
    let (volume, file, store) = steered_volume(VolumeOptions::new(), probe)?;
    store.at_next(StoreCall::Insert, || Err(Error::NoSpace));
    let allocated = file.allocate(AllocateMode::Allocate, 0, BLOCK);
    given(allocated.is_err(), "a store that fails unheard")?;
    check(&volume)
}

/// Two groups of four clusters have one free cluster, which others move to the other group each time before the
/// search looks into one.
fn search_for_a_cluster_that_moves(probe: Probe) -> Outcome {
    const ENDS: [u64; 2] = [0, 7];
    let moved: Arc<OnceLock<Weak<Allocator>>> = Arc::default();
    let looks = AtomicU64::new(0);
    let probe = {
        let moved = Arc::clone(&moved);
        probe.at(Moment::LookingAtGroup, move || {
            let look = looks.fetch_add(1, Ordering::Relaxed) as usize;
            if let Some(allocator) = moved.get().and_then(Weak::upgrade) {
                let (to, from) = (ENDS[look % 2], ENDS[(look + 1) % 2]);
                let space = allocator.free_into_reservation(run(to, 1));
                allocate_all(&allocator, space.expect("in use"), from);
            }
        })
    };
    let allocator = Allocator::new(8, geometry(4096, 1), 4, DiskBlock(0))?.with_probe(probe);
    let allocator = Arc::new(allocator);
    allocator.claim(run(0, 7))?;
    let mut space = allocator.reserve(1)?;
    assert!(moved.set(Arc::downgrade(&allocator)).is_ok());
    match allocator.allocate(AllocRequest::anywhere(1), &mut space) {
        Ok(allocation) => drop(allocation.commit()),
        Err(error) => expect(
            8,
            false,
            &format!("a promised cluster is not found: {error}"),
        )?,
    }
    Ok(allocator.check()?)
}

fn double_free(probe: Probe) -> Outcome {
    let allocator = Allocator::new(8, geometry(4096, 1), 4, DiskBlock(0))?.with_probe(probe);
    // What the volume has is not all free: a free cluster too many shows.
    allocator.claim(run(5, 2))?;
    let run = allocator
        .allocate_direct(AllocRequest::anywhere(1))?
        .commit();
    allocator.free(run)?;
    expect(16, allocator.free(run).is_err(), "freed twice")?;
    let counts = allocator.check();
    expect(16, counts.is_ok(), &format!("{counts:?}"))
}

/// A file has windows before and behind the place at which it writes next, also at the very end of what a file can be.
fn windows_between_windows(probe: Probe) -> Outcome {
    let allocator =
        Allocator::new(1 << 20, geometry(4096, 1), 1 << 15, DiskBlock(0))?.with_probe(probe);
    let file = FileSpace::new(0);
    for at in [1000, 5000, 40, 900, u64::MAX - 50, u64::MAX - 90] {
        // Windows with different ends.
        let request = FileRequest::at(at, 20).file_clusters(1 << 20).room(300);
        let mut space = allocator.reserve(20)?;
        let _run = allocator.allocate_for(&file, request, &mut space)?.commit();
    }
    let mut windows = allocator.windows(&file);
    windows.sort_by_key(|(range, _)| range.start);
    given(windows.len() >= 4, "no windows")?;
    let apart = windows.is_sorted_by(|(one, _), (next, _)| one.end <= next.start);
    expect(15, apart, &format!("{windows:?}"))?;
    Ok(allocator.check()?)
}

/// Each cluster of a full volume is freed and taken again, from the last one on.
fn fill_and_empty_groups(probe: Probe) -> Outcome {
    let allocator = allocator(17, 4).with_probe(probe);
    allocator.claim(run(1, 16))?;
    for block in (1..17).rev() {
        allocator.free(run(block, 1))?;
        let found = allocator
            .allocate_direct(AllocRequest::anywhere(1))?
            .commit();
        given(found == run(block, 1), "another cluster is free")?;
    }
    let lists = allocator.check();
    expect(17, lists.is_ok(), &format!("{lists:?}"))
}

fn write_into_the_middle_of_a_cluster(probe: Probe) -> Outcome {
    let (volume, file) = volume(VolumeOptions::new().cluster_blocks(4), probe)?;
    file.write_at(2 * BLOCK, &block(1))?;
    check_synced(&volume)
}

fn insert_without_room(probe: Probe) -> Outcome {
    let store = MemoryStore::with_max_extents(1).with_probe(probe.clone());
    let options = VolumeOptions::new().probe(probe);
    let volume = Volume::with_store(device(), Arc::new(store), &options)?;
    let (volume, file) = with_first_file(volume)?;
    file.allocate(AllocateMode::AllocateKeepSize, 0, BLOCK)?;
    let refused = file.allocate(AllocateMode::AllocateKeepSize, 4 * BLOCK, BLOCK);
    given(refused.is_err(), "a full store that takes more")?;
    check(&volume)
}
