//! Commits beside everything, and the power cut at any moment: what a sync has promised is there.

use std::sync::Arc;

use extent_map::device::{MemoryDevice, Recorder, Survivors};
use extent_map::file::{File, Volume, VolumeOptions};
use extent_map::probe::Mutation;
use extent_map::testing;
use extent_map::units::FileNumber;

use crate::model::{Case, Model, checked, ensure};
use crate::world::{Act, PAGE};

/// A volume of a few clusters that survives, and its files 1 and 2.
struct Cut<'c> {
    case: &'c Case,
    device: Arc<Recorder>,
    volume: Volume,
    files: [File; 2],
}

impl<'c> Cut<'c> {
    fn new(case: &'c Case, clusters: u64) -> Self {
        let options = VolumeOptions::new()
            .low_space_clusters(0)
            .probe(case.probe.clone());
        let device = Arc::new(MemoryDevice::new((56 << 10) + clusters * PAGE));
        Volume::format_persistent(device.clone(), &options).unwrap();
        let device = Arc::new(Recorder::new(device).unwrap());
        let volume = Volume::open(device.clone(), &options).unwrap();
        let files = [1, 2].map(|number| volume.file(FileNumber(number)).unwrap());
        Self {
            case,
            device,
            volume,
            files,
        }
    }

    fn race<const N: usize>(&self, acts: [Act<'_>; N]) {
        shuttle::thread::scope(|scope| {
            for (name, act) in acts {
                scope.spawn(move || self.case.story.thread(name, act));
            }
        });
        checked(testing::check(&self.volume));
    }

    /// Fills the first page of a file, if there is space.
    fn write(&self, file: usize, byte: u8) {
        let written = self.files[file].write_at(0, &[byte; PAGE as usize]);
        let refused = written == Err(extent_map::Error::NoSpace);
        ensure(21, refused || written == Ok(PAGE as usize), || {
            format!("write: {written:?}")
        });
    }

    fn sync(&self, file: usize) {
        let outcome = self.files[file].sync_all();
        ensure(4, outcome == Ok(()), || format!("sync: {outcome:?}"));
    }

    /// The first byte of each file after a power cut now; 0 for an empty one.
    fn power_cut(&self, survivors: Survivors) -> [u8; 2] {
        let recording = self.device.recording();
        let image = recording.crash(recording.moment(), survivors);
        let volume = Volume::open(Arc::new(image), &VolumeOptions::new());
        let volume = volume.unwrap_or_else(|error| crate::model::violated(14, error));
        [1, 2].map(|number| {
            let mut byte = [0];
            let file = volume.file(FileNumber(number)).unwrap();
            file.read_at(0, &mut byte).unwrap();
            byte[0]
        })
    }
}

#[test]
fn two_syncs_share_a_commit_or_not_and_each_is_durable_when_it_returns() {
    Model {
        name: "sync, sync of another file, power cut",
        asserts: &[4, 10],
        broken: &[
            &[Mutation::JoinCommitUnderWay],
            &[Mutation::CommitWithoutFlush],
        ],
        body: |case| {
            let cut = Cut::new(case, 4);
            let sync = |file| {
                cut.write(file, 7);
                cut.sync(file);
                let found = cut.power_cut(Survivors::Nothing);
                ensure(10, found[file] == 7, || {
                    format!("synced, and lost: {found:?}")
                });
            };
            cut.race([("sync", &|| sync(0)), ("other sync", &|| sync(1))]);
        },
    }
    .verify();
}

#[test]
fn a_truncation_beside_a_sync_of_another_file_has_happened_or_not() {
    Model {
        name: "truncate, sync of another file, power cut",
        asserts: &[12],
        broken: &[&[Mutation::CommitInBetween]],
        body: |case| {
            let cut = Cut::new(case, 4);
            cut.write(0, 1);
            cut.sync(0);
            let truncate = || cut.files[0].set_len(0).unwrap();
            let sync = || {
                cut.sync(1);
                let recording = cut.device.recording();
                let image = recording.crash(recording.moment(), Survivors::Nothing);
                let volume = Volume::open(Arc::new(image), &VolumeOptions::new()).unwrap();
                let file = volume.file(FileNumber(1)).unwrap();
                let (size, blocks) = (file.size(), file.blocks());
                ensure(12, (size > 0) == (blocks > 0), || {
                    format!("size {size}, {blocks} sectors")
                });
            };
            cut.race([("truncate", &truncate), ("sync", &sync)]);
        },
    }
    .verify();
}

#[test]
fn a_block_that_is_freed_is_not_used_again_before_that_is_durable() {
    Model {
        name: "truncate, write and sync of another file, one cluster, power cut",
        asserts: &[11],
        broken: &[&[Mutation::ReuseBeforeDurable]],
        body: |case| {
            let cut = Cut::new(case, 1);
            cut.write(0, 1);
            cut.sync(0);
            let truncate = || cut.files[0].set_len(0).unwrap();
            let write = || {
                cut.write(1, 2);
                cut.sync(1);
            };
            let power_cut = || {
                let found = cut.power_cut(Survivors::Everything);
                ensure(11, found[0] <= 1, || {
                    format!("another file's data: {found:?}")
                });
            };
            cut.race([
                ("truncate", &truncate),
                ("write", &write),
                ("power cut", &power_cut),
            ]);
        },
    }
    .verify();
}
