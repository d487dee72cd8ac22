//! Sizes that were seen before their bytes, or stored too large or too late.

use std::sync::{Arc, Mutex};

use extent_map::file::{AllocateMode, File, VolumeOptions};
use extent_map::probe::{Moment, Mutation, Probe};
use extent_map::units::FileNumber;

use crate::bug::{Bug, Outcome, Proof, check, check_synced, expect, regressions};
use crate::scene::{BLOCK, block, content, volume};
use crate::steered::Others;

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
            &[&[Mutation::StoreSizeUnclamped], &[Mutation::DropUnstoredSize]],
            short_file_synced_and_punched,
        ),
    },
}

fn read_beside_a_growing_write(probe: Probe) -> Outcome {
    let others = Others::new();
    let reading: Arc<Mutex<Option<File>>> = Arc::default();
    let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
    let probe = {
        let (others, reading, seen) = (others.clone(), Arc::clone(&reading), Arc::clone(&seen));
        probe.at(Moment::Copying, move || {
            let Some(file) = reading.lock().unwrap().take() else {
                return;
            };
            let seen = Arc::clone(&seen);
            others.act(move || {
                *seen.lock().unwrap() = content(&file, BLOCK)?;
                Ok(())
            });
        })
    };
    let (volume, file) = volume(VolumeOptions::new(), probe)?;
    *reading.lock().unwrap() = Some(file.clone());
    file.write_at(0, &block(1))?;
    others.join()?;
    let never = seen.lock().unwrap().iter().any(|byte| *byte != 1);
    expect(22, !never, "the file was long before it had its bytes")?;
    check(&volume)
}

fn short_file_synced_and_punched(probe: Probe) -> Outcome {
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
