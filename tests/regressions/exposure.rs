//! Bytes that nobody wrote into the file, and bytes that were written and lost.

use std::sync::Arc;

use extent_map::Error;
use extent_map::device::{FaultyDevice, OperationKind};
use extent_map::file::{AllocateMode, File, Volume, VolumeOptions};
use extent_map::mapping::MemoryStore;
use extent_map::probe::{Moment, Mutation, Probe};
use extent_map::units::FileNumber;

use crate::bug::{Bug, Outcome, Proof, check, check_synced, expect, given, regressions};
use crate::scene::{
    BLOCK, STALE, block, content, delayed_before_space_ran_low, steered_volume, used_device,
    volume, with_first_file,
};
use crate::steered::{Cue, DeviceCall, Others, StoreCall, steered_device};

regressions! {
    the_head_of_an_extent_zeroed_instead_of_split_shows_zeros: Bug {
        number: 14,
        fixed: "2025-11",
        kernel: "For a split in the middle the first half was made written as a whole instead of split: its head showed \
                 what was on the disk before.",
        invariants: &[10],
        proof: Proof::Protected(&[&[Mutation::ZeroOnlyBehind]], middle_conversion_without_room),
    },
    a_page_that_a_punch_dropped_does_not_come_back_with_the_old_block: Bug {
        number: 18,
        fixed: "2021-01",
        kernel: "Between the eviction of the page cache and the freeing of blocks a read brought a page back, which then \
                 mapped a freed block.",
        invariants: &[10, 11],
        proof: Proof::Protected(&[&[Mutation::ReadBesidePunch]], read_beside_a_punch),
    },
    zeroing_the_rest_of_an_extent_meets_no_other_write: Bug {
        number: 19,
        fixed: "2019-05",
        kernel: "The zeroing of an unaligned asynchronous write overlapped an aligned one on the same block, whose data \
                 was lost.",
        invariants: &[10],
        proof: Proof::Protected(&[&[Mutation::WritebackBesideWriteback]], zeroing_beside_a_write),
    },
    a_partial_write_into_an_unwritten_block_shows_zeros_around_it: Bug {
        number: 22,
        fixed: "2023-09",
        kernel: "A buffer over an unwritten extent was not marked new: a partial write exposed what memory or disk held \
                 around it.",
        invariants: &[10],
        proof: Proof::Protected(
            &[&[Mutation::FillUnwrittenFromDevice]],
            partial_write_into_unwritten,
        ),
    },
    a_block_whose_write_failed_stays_unwritten: Bug {
        number: 23,
        fixed: "2025-01",
        kernel: "After an I/O error the extent was made written all the same: what was on the disk before became \
                 readable.",
        invariants: &[10],
        proof: Proof::Protected(&[&[Mutation::ConvertDespiteError]], failed_write),
    },
    what_was_mapped_before_an_error_is_written: Bug {
        number: 25,
        fixed: "2025-07",
        kernel: "When no space was left for the rest of a large folio, the loop ended before the mapped part was \
                 submitted: extents were committed without their data.",
        invariants: &[10],
        proof: Proof::Protected(&[&[Mutation::CountMappedAsWritten]], partly_mapped_run),
    },
    a_conversion_depends_on_the_blocks_and_not_on_the_mode_of_the_volume: Bug {
        number: 26,
        fixed: "2020-02, 2023-05",
        kernel: "The extents flag or the mount mode was changed under writeback: the completion of unwritten blocks found \
                 no handle reserved for it.",
        invariants: &[10],
        proof: Proof::Protected(&[&[Mutation::ConvertByMode]], mode_change_before_completion),
    },
    no_mark_stays_dirty_when_its_block_is_gone: Bug {
        number: 27,
        fixed: "2026-02",
        kernel: "A folio had nothing to submit and kept its dirty and towrite tags; an assertion failed at remount.",
        invariants: &[13],
        proof: Proof::Protected(&[&[Mutation::LeaveDirtyMarks]], punched_half_page),
    },
    a_block_is_not_used_again_while_its_old_write_is_under_way: Bug {
        number: 34,
        fixed: "2025-09",
        kernel: "Without a journal a freed block was used again while its old write was in flight, which then overwrote \
                 the new data.",
        invariants: &[10, 11],
        proof: Proof::Protected(&[&[Mutation::FreeBeforeDropping]], truncation_beside_a_write),
    },
}

/// A file of three unwritten blocks in one extent that cannot be split, on a device full of stale bytes.
fn unsplittable(probe: Probe) -> extent_map::Result<(Volume, File)> {
    let store = Arc::new(MemoryStore::with_max_extents(1));
    let options = VolumeOptions::new().probe(probe);
    let (volume, file) = with_first_file(Volume::with_store(used_device(), store, &options)?)?;
    file.allocate(AllocateMode::Allocate, 0, 3 * BLOCK)?;
    Ok((volume, file))
}

fn middle_conversion_without_room(probe: Probe) -> Outcome {
    let (volume, file) = unsplittable(probe)?;
    file.write_at(BLOCK, &block(1))?;
    volume.drop_caches()?;
    let bytes = content(&file, 3 * BLOCK)?;
    expect(10, !bytes.contains(&STALE), "stale bytes are readable")?;
    check(&volume)
}

fn read_beside_a_punch(probe: Probe) -> Outcome {
    let (others, cue) = (Others::new(), Cue::default());
    let probe = probe.at(Moment::PagesDropped, cue.hook());
    let (volume, file) = volume(VolumeOptions::new(), probe)?;
    file.write_at(0, &[1; 2 * BLOCK as usize])?;
    file.sync_all()?;
    let reading = file.clone();
    cue.set(others.action(move || content(&reading, BLOCK).map(drop)));
    file.allocate(AllocateMode::PunchHole, 0, BLOCK)?;
    others.join()?;
    check(&volume)
}

fn zeroing_beside_a_write(probe: Probe) -> Outcome {
    let (device, steering) = steered_device(16 * BLOCK);
    let store = Arc::new(MemoryStore::with_max_extents(1));
    let options = VolumeOptions::new().probe(probe);
    let (volume, file) = with_first_file(Volume::with_store(device, store, &options)?)?;
    file.allocate(AllocateMode::Allocate, 0, 3 * BLOCK)?;
    file.write_at(0, &block(1))?;
    file.write_at(2 * BLOCK, &block(2))?;
    let (others, writing) = (Others::new(), file.clone());
    let sync = others.action(move || writing.sync_range(0, BLOCK));
    steering.at_next(DeviceCall::Written, sync);
    file.sync_range(2 * BLOCK, BLOCK)?;
    others.join()?;
    check(&volume)?;
    check_synced(&volume)
}

fn partial_write_into_unwritten(probe: Probe) -> Outcome {
    let options = VolumeOptions::new().probe(probe);
    let (volume, file) = with_first_file(Volume::format(used_device(), &options)?)?;
    file.allocate(AllocateMode::Allocate, 0, BLOCK)?;
    file.write_at(100, &[1; 100])?;
    let bytes = content(&file, BLOCK)?;
    expect(10, !bytes.contains(&STALE), "stale bytes are readable")?;
    check_synced(&volume)
}

fn failed_write(probe: Probe) -> Outcome {
    let device = Arc::new(FaultyDevice::new(used_device()));
    let options = VolumeOptions::new().probe(probe);
    let (volume, file) = with_first_file(Volume::format(device.clone(), &options)?)?;
    file.write_at(0, &block(1))?;
    device.fail_at(Some(OperationKind::Write), 0);
    let _told_or_not = file.sync_all();
    volume.drop_caches()?;
    let bytes = content(&file, BLOCK)?;
    expect(10, !bytes.contains(&STALE), "stale bytes are readable")?;
    check(&volume)
}

fn partly_mapped_run(probe: Probe) -> Outcome {
    let (volume, file, store) = steered_volume(VolumeOptions::new(), probe)?;
    file.allocate(AllocateMode::Allocate, 0, BLOCK)?;
    file.write_at(0, &[1; 2 * BLOCK as usize])?;
    store.at_next(StoreCall::Insert, || Err(Error::NoSpace));
    given(file.sync_all().is_err(), "a store that fails unheard")?;
    check(&volume)?;
    check_synced(&volume)
}

fn mode_change_before_completion(probe: Probe) -> Outcome {
    let (volume, file) = delayed_before_space_ran_low(probe)?;
    file.sync_all()?;
    check(&volume)
}

fn punched_half_page(probe: Probe) -> Outcome {
    let (volume, file) = volume(VolumeOptions::new().block_size(1024), probe)?;
    file.write_at(0, &[1; 2048])?;
    file.allocate(AllocateMode::PunchHole, 0, 1024)?;
    check(&volume)?;
    check_synced(&volume)
}

fn truncation_beside_a_write(probe: Probe) -> Outcome {
    // One block for the volume and one for files.
    let (device, steering) = steered_device(2 * BLOCK);
    let options = VolumeOptions::new().probe(probe);
    let (volume, old) = with_first_file(Volume::format(device, &options)?)?;
    let new = volume.file(FileNumber(2))?;
    old.write_at(0, &block(1))?;
    let (others, truncated) = (Others::new(), old.clone());
    let acting = others.clone();
    steering.at_next(DeviceCall::Write, move || {
        acting.act(move || truncated.set_len(0));
        acting.act(move || match new.write_at(0, &block(2)) {
            Ok(_) => new.sync_all(),
            Err(Error::NoSpace) => Ok(()),
            Err(error) => Err(error),
        });
        Ok(())
    });
    old.sync_all()?;
    others.join()?;
    check(&volume)
}
