//! Sizes that were seen before their bytes, or stored too large or too late.

use std::sync::{Arc, Mutex};

use extent_map::file::{AllocateMode, VolumeOptions};
use extent_map::probe::{Moment, Mutation, Probe};
use extent_map::units::FileNumber;

use crate::bug::{Bug, Outcome, Proof, check, check_synced, expect, regressions};
use crate::scene::{BLOCK, block, content, volume};
use crate::steered::{Cue, Others};

regressions! {
    who_sees_the_size_sees_the_bytes: Bug {
        number: 20,
        fixed: "2023-12",
        kernel: "A read beside an extending direct write saw the new size before the data and gave zeros to its caller.",
        invariants: &[22],
        proof: Proof::Protected(&[&[Mutation::SizeBeforeBytes]], read_beside_a_growing_write),
    },
    the_stored_size_is_the_size_once_everything_is_written: Bug {
        number: 21,
        fixed: "2023-03, 2024",
        kernel: "After a short copy or an append the size on disk was larger than the size, or stale.",
        invariants: &[12],
        proof: Proof::Protected(
            &[
                &[Mutation::StoreSizeUnclamped],
                &[Mutation::DropUnstoredSize],
                &[Mutation::ExtendSizeInTwoSteps],
                &[Mutation::StoreSizeBeforeDropping],
            ],
            sizes_stored_late_and_early,
        ),
    },
}

fn read_beside_a_growing_write(probe: Probe) -> Outcome {
    let (others, cue) = (Others::new(), Cue::default());
    let probe = probe.at(Moment::Copying, cue.hook());
    let (volume, file) = volume(VolumeOptions::new(), probe)?;
    let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
    let (reading, read) = (file.clone(), Arc::clone(&seen));
    cue.set(others.action(move || {
        *read.lock().unwrap() = content(&reading, BLOCK)?;
        Ok(())
    }));
    file.write_at(0, &block(1))?;
    others.join()?;
    let seen = seen.lock().unwrap();
    expect(
        22,
        seen.iter().all(|byte| *byte == 1),
        "the file was long before it had its bytes",
    )?;
    check(&volume)
}

fn sizes_stored_late_and_early(probe: Probe) -> Outcome {
    short_files(probe.clone())?;
    resize_beside_a_writeback(probe.clone(), 2 * BLOCK)?;
    resize_beside_a_writeback(probe, 0)
}

fn short_files(probe: Probe) -> Outcome {
    let (volume, file) = volume(VolumeOptions::new(), probe)?;
    file.write_at(0, &[1; 100])?;
    file.sync_all()?;
    check(&volume)?;
    let punched = volume.file(FileNumber(2))?;
    punched.write_at(0, &[1; 100])?;
    punched.allocate(AllocateMode::PunchHole, 0, BLOCK)?;
    check(&volume)?;
    check_synced(&volume)
}

/// Another thread sets the size while writeback, which saw the old one, is about to store it.
fn resize_beside_a_writeback(probe: Probe, size: u64) -> Outcome {
    let (others, cue) = (Others::new(), Cue::default());
    let probe = probe.at(Moment::GrowingStoredSize, cue.hook());
    let (volume, file) = volume(VolumeOptions::new(), probe)?;
    file.write_at(0, &block(1))?;
    let resized = file.clone();
    cue.set(others.action(move || resized.set_len(size)));
    file.sync_all()?;
    others.join()?;
    check(&volume)
}
