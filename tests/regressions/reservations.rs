//! Promises of space that were lost, kept or given back twice.

use extent_map::Error;
use extent_map::file::{AllocateMode, VolumeOptions};
use extent_map::probe::{Mutation, Probe};

use crate::bug::{Bug, Outcome, Proof, check, check_synced, given, regressions};
use crate::scene::{BLOCK, block, delayed_before_space_ran_low, steered_volume, volume};
use crate::steered::{Cue, Others, StoreCall};

regressions! {
    a_page_fault_looks_again_before_it_delays: Bug {
        number: 1,
        fixed: "2024-05",
        kernel: "A page fault found a hole and delayed it without looking again under the lock; `fallocate` had \
                 allocated it meanwhile, and the reservation leaked.",
        invariants: &[1, 4],
        proof: Proof::Protected(&[&[Mutation::SkipSecondLook]], fault_beside_an_allocation),
    },
    a_delayed_insert_ends_where_the_hole_ends: Bug {
        number: 3,
        fixed: "2024-05",
        kernel: "The length was not trimmed to the entry that was found: a delayed insert of several blocks would \
                 replace the extent behind the hole.",
        invariants: &[2, 4],
        proof: Proof::Protected(
            &[&[Mutation::DelayUntrimmed, Mutation::DelayedInsertReplaces]],
            write_across_a_written_block,
        ),
    },
    a_refused_delayed_insert_gives_its_promise_back: Bug {
        number: 4,
        fixed: "2021-08",
        kernel: "When the delayed insert ran out of memory its reservation was not given back; the space was missing \
                 until unmount.",
        invariants: &[1],
        proof: Proof::Protected(&[&[Mutation::AccountBeforeInsert]], refused_delayed_insert),
    },
    a_mapping_that_failed_and_was_tried_again_uses_its_promise_once: Bug {
        number: 5,
        fixed: "2023-04",
        kernel: "The blocks were mapped on disk, the status insert ran out of memory, and the retry subtracted the \
                 reservation a second time.",
        invariants: &[1, 6],
        proof: Proof::Protected(
            &[&[Mutation::LoseTakenPromise], &[Mutation::ReleaseUsedToo]],
            mapping_tried_again,
        ),
    },
    what_writeback_cannot_map_stays_delayed_with_its_promise: Bug {
        number: 7,
        fixed: "2022-06",
        kernel: "The error path of writeback dropped status entries without the lock while a new delayed write came \
                 to the same cluster.",
        invariants: &[1, 5],
        proof: Proof::Protected(&[&[Mutation::ForgetUnmappable]], writeback_that_cannot_map),
    },
    a_punched_prefix_gives_back_all_its_clusters: Bug {
        number: 8,
        fixed: "2022-12",
        kernel: "The removal of an entry's prefix was counted with the bounds that the entry already had afterwards: \
                 one cluster too few was released.",
        invariants: &[1],
        proof: Proof::Protected(&[&[Mutation::CountTrimmedEntry]], punched_prefix),
    },
    promises_end_with_their_blocks_also_when_the_volume_no_longer_delays: Bug {
        number: 37,
        fixed: "2024-10",
        kernel: "After a remount without delayed allocation, removing blocks that were still delayed did not count \
                 their reservations any more.",
        invariants: &[1],
        proof: Proof::Protected(
            &[&[Mutation::ReleaseOnlyWhileDelaying]],
            truncation_after_the_mode_changed,
        ),
    },
}

fn fault_beside_an_allocation(probe: Probe) -> Outcome {
    let (others, cue) = (Others::new(), Cue::default());
    let hook = cue.hook();
    let probe = probe.between_looks(move |_, _| hook());
    let (volume, file) = volume(VolumeOptions::new(), probe)?;
    file.set_len(BLOCK)?;
    let allocating = file.clone();
    cue.set(others.action(move || allocating.allocate(AllocateMode::Allocate, 0, BLOCK)));
    file.page_fault(0)?;
    others.join()?;
    check(&volume)?;
    check_synced(&volume)
}

fn write_across_a_written_block(probe: Probe) -> Outcome {
    let (volume, file) = volume(VolumeOptions::new(), probe)?;
    file.write_at(2 * BLOCK, &block(1))?;
    file.sync_all()?;
    file.write_at(0, &[2; 4 * BLOCK as usize])?;
    check(&volume)?;
    check_synced(&volume)
}

/// The tree refuses no delayed extent that was trimmed to a hole; so here it is not.
fn refused_delayed_insert(probe: Probe) -> Outcome {
    let probe = probe.mutations([Mutation::DelayUntrimmed]);
    let (volume, file) = volume(VolumeOptions::new(), probe)?;
    file.write_at(2 * BLOCK, &block(1))?;
    file.sync_all()?;
    let refused = file.write_at(0, &[2; 4 * BLOCK as usize]);
    given(refused.is_err(), "delayed over a written block")?;
    check(&volume)
}

fn mapping_tried_again(probe: Probe) -> Outcome {
    let (volume, file, store) = steered_volume(VolumeOptions::new(), probe)?;
    file.write_at(0, &block(1))?;
    file.write_at(2 * BLOCK, &block(2))?;
    store.at_next(StoreCall::Insert, || Err(Error::NoSpace));
    given(file.sync_all().is_err(), "a store that fails unheard")?;
    check(&volume)?;
    check_synced(&volume)
}

fn writeback_that_cannot_map(probe: Probe) -> Outcome {
    let options = VolumeOptions::new().cluster_blocks(4);
    let (volume, file, store) = steered_volume(options, probe)?;
    file.write_at(0, &block(1))?;
    store.at_next(StoreCall::Insert, || Err(Error::NoSpace));
    given(file.sync_all().is_err(), "a store that fails unheard")?;
    check(&volume)?;
    file.write_at(BLOCK, &block(2))?;
    check(&volume)?;
    check_synced(&volume)
}

fn punched_prefix(probe: Probe) -> Outcome {
    let (volume, file) = volume(VolumeOptions::new().cluster_blocks(4), probe)?;
    file.write_at(0, &[1; 12 * BLOCK as usize])?;
    file.allocate(AllocateMode::PunchHole, 0, 4 * BLOCK)?;
    check(&volume)
}

fn truncation_after_the_mode_changed(probe: Probe) -> Outcome {
    let (volume, file) = delayed_before_space_ran_low(probe)?;
    file.set_len(0)?;
    check(&volume)
}
