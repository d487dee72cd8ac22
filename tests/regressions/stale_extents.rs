//! What was known of a mapping and was true no longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use extent_map::file::{AllocateMode, Volume, VolumeOptions};
use extent_map::map::probe as map_probe;
use extent_map::map::{ExtentMap, Reclaimer};
use extent_map::mapping::MemoryStore;
use extent_map::probe::{Moment, Mutation, Probe};
use extent_map::status::{Status, StatusContext, StatusTree};
use extent_map::units::{ClusterRatio, FileBlock, FileRange};

use crate::bug::{Bug, Outcome, Proof, check, check_synced, expect, given, regressions};
use crate::scene::{BLOCK, block, device, steered_volume, with_first_file};
use crate::steered::{Cue, Others, StoreCall};

regressions! {
    a_hole_that_was_read_does_not_replace_what_was_delayed_since: Bug {
        number: 2,
        fixed: "2024-01",
        kernel: "A delayed extent was inserted with the data lock shared; a read cached the hole it had seen over it, \
                 and the data was lost.",
        invariants: &[4],
        proof: Proof::Protected(
            &[&[Mutation::DelayBesideReaders, Mutation::CacheReplaces]],
            fault_beside_a_listing,
        ),
    },
    nothing_is_cached_while_blocks_move: Bug {
        number: 11,
        fixed: "2025-04",
        kernel: "Writeback, fiemap and an ioctl cached extents while a collapse had dropped the lock in the middle: \
                 stale places in the tree, and data written there.",
        invariants: &[3],
        proof: Proof::Protected(
            &[
                &[Mutation::CollapseUnlocked, Mutation::WritebackCachesNeighbours],
                &[Mutation::CollapseUnlocked, Mutation::ListBesideCollapse],
            ],
            caching_beside_a_collapse,
        ),
    },
    a_hole_is_not_cached_over_a_range_in_motion: Bug {
        number: 12,
        fixed: "2025-11",
        kernel: "The split of an extent let a hole be cached for a range in motion: after direct I/O the tree said \
                 hole and the disk written.",
        invariants: &[3],
        proof: Proof::Protected(&[&[Mutation::QueryBesideChanges]], listing_beside_a_conversion),
    },
    an_extent_zeroed_instead_of_split_is_written_in_the_tree_too: Bug {
        number: 13,
        fixed: "2025-11",
        kernel: "A split failed half way and was made good by zeroing; the tree still said unwritten where the disk \
                 said written.",
        invariants: &[3],
        proof: Proof::Protected(&[&[Mutation::NoteOnlyThePart]], conversion_without_room_to_split),
    },
    a_view_asks_whether_the_extent_it_remembers_is_still_there: Bug {
        number: 15,
        fixed: "2023-05",
        kernel: "The pointer to the entry used last was read a second time after it had been checked; under the \
                 shared lock it had changed.",
        invariants: &[22],
        proof: Proof::ProtectedInMap(
            &[map_probe::Mutation::CacheWithoutCheck],
            remembered_extent,
        ),
    },
    no_increment_of_the_change_counter_is_lost: Bug {
        number: 16,
        fixed: "2024-12",
        kernel: "The change counter was read and stored in two steps outside the lock: of two changes at once one \
                 was not counted (found in review).",
        invariants: &[9],
        proof: Proof::Protected(&[&[Mutation::CountChangesInTwoSteps]], changes_at_once),
    },
}

fn fault_beside_a_listing(probe: Probe) -> Outcome {
    let (volume, file, store) = steered_volume(VolumeOptions::new(), probe)?;
    file.set_len(BLOCK)?;
    let (others, faulting) = (Others::new(), file.clone());
    let fault = others.action(move || faulting.page_fault(0));
    store.at_next(StoreCall::Queried, fault);
    file.extents()?;
    others.join()?;
    check(&volume)?;
    check_synced(&volume)
}

fn caching_beside_a_collapse(probe: Probe) -> Outcome {
    let (volume, file, store) = steered_volume(VolumeOptions::new(), probe)?;
    for number in 1..8 {
        file.write_at(number * BLOCK, &block(number as u8))?;
    }
    file.sync_all()?;
    file.shrink_status(|_| true);
    file.write_at(0, &block(9))?;
    let (others, writing, listing) = (Others::new(), file.clone(), file.clone());
    let acting = others.clone();
    store.at_next(StoreCall::Remove, move || {
        acting.act(move || writing.sync_range(0, BLOCK));
        acting.act(move || listing.extents().map(drop));
        Ok(())
    });
    file.allocate(AllocateMode::CollapseRange, 2 * BLOCK, 2 * BLOCK)?;
    others.join()?;
    check(&volume)?;
    check_synced(&volume)
}

fn listing_beside_a_conversion(probe: Probe) -> Outcome {
    let (volume, file, store) = steered_volume(VolumeOptions::new(), probe)?;
    file.set_len(BLOCK)?;
    let (others, writing) = (Others::new(), file.clone());
    let convert = others.action(move || {
        writing.page_fault(0)?;
        writing.sync_all()?;
        writing.shrink_status(|_| true);
        Ok(())
    });
    store.at_next(StoreCall::Queried, convert);
    file.extents()?;
    others.join()?;
    check(&volume)
}

fn conversion_without_room_to_split(probe: Probe) -> Outcome {
    let store = Arc::new(MemoryStore::with_max_extents(1));
    let options = VolumeOptions::new().probe(probe);
    let (volume, file) = with_first_file(Volume::with_store(device(), store, &options)?)?;
    file.allocate(AllocateMode::Allocate, 0, 3 * BLOCK)?;
    file.write_at(BLOCK, &block(1))?;
    file.sync_all()?;
    check(&volume)
}

fn remembered_extent(probe: map_probe::Probe) -> Outcome {
    let map = ExtentMap::with_probe(&Reclaimer::new(), probe);
    map.insert(0..8, 100_u64)?;
    let view = map.pin();
    let value = |block| view.get(block).map(|extent| extent.value());
    // The second lookup beside the first makes the view remember the extent.
    given(
        (value(1), value(2)) == (Some(100), Some(100)),
        "what was put in",
    )?;
    map.insert(0..8, 200)?;
    expect(22, value(3) == Some(200), "an answer from before the call")
}

/// Two threads change a tree; one more change comes in the middle of one of theirs, or at the end if none has a middle.
fn changes_at_once(probe: Probe) -> Outcome {
    const EACH: u64 = 200;
    let made = Arc::new(AtomicU64::new(0));
    let cue = Cue::default();
    let change = {
        let made = Arc::clone(&made);
        move |tree: &StatusTree, block| {
            made.fetch_add(1, Ordering::Relaxed);
            let range = FileRange::at(FileBlock(block), 1);
            tree.insert(range, Status::Hole).map(drop)
        }
    };
    let context =
        StatusContext::with_probe(ClusterRatio::ONE, probe.at(Moment::Counting, cue.hook()));
    let tree = Arc::new(StatusTree::new(&context));
    let (changed, more) = (Arc::clone(&tree), change.clone());
    cue.set(move || more(&changed, 0));
    thread::scope(|scope| {
        let work = |first| {
            let (tree, change) = (&tree, &change);
            scope.spawn(move || (first..first + EACH).try_for_each(|block| change(tree, block)))
        };
        let threads = [work(1), work(1 + EACH)];
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("a thread that does not panic"))
    })?;
    cue.hook()();
    let counted = tree.change_counter();
    let made = made.load(Ordering::Relaxed);
    expect(
        9,
        counted == made,
        &format!("{made} changes, {counted} counted"),
    )
}
