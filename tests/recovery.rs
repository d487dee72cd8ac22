//! A volume that is opened again after its process was killed or the power was cut: what it goes on from must be durable
//! before anything is built on it, and what a crash has left behind the end of a file stays behind.

use std::sync::{Arc, Mutex};

use extent_map::Error;
use extent_map::device::{
    BlockDevice, FaultyDevice, ImageDevice, MemoryDevice, OperationKind, Recorder, Recording,
    Survivors,
};
use extent_map::file::{File, Volume, VolumeOptions};
use extent_map::mapping::LogStore;
use extent_map::probe::{Mutation, Probe};
use extent_map::units::{FileNumber, Geometry};

#[path = "common/around.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod around;

use around::Around;

const PAGE: usize = 4096;

fn options() -> VolumeOptions {
    VolumeOptions::new()
}

fn file(volume: &Volume, number: u64) -> File {
    volume.file(FileNumber(number)).unwrap()
}

fn content(device: Arc<dyn BlockDevice>, number: u64) -> Vec<u8> {
    let volume = Volume::open(device, &options()).unwrap();
    let file = file(&volume, number);
    let mut content = vec![0; file.size() as usize];
    file.read_at(0, &mut content).unwrap();
    content
}

/// A volume on a new device that records, and that device.
fn formatted() -> (Volume, Arc<Recorder>) {
    let memory = Arc::new(MemoryDevice::new(1 << 20));
    Volume::format_persistent(memory.clone(), &options()).unwrap();
    let device = Arc::new(Recorder::new(memory).unwrap());
    let volume = Volume::open(device.clone(), &options()).unwrap();
    (volume, device)
}

/// Where on the device the first write of `data` went.
fn place_of(recording: &Recording, data: &[u8]) -> u64 {
    let mut operations = recording.operations().iter();
    let write = operations.find(|one| *one.data == *data).unwrap();
    write.operation.offset
}

#[test]
fn blocks_that_a_killed_process_has_freed_are_not_used_before_that_is_durable() {
    let (volume, device) = formatted();
    file(&volume, 1).write_at(0, &[1; PAGE]).unwrap();
    volume.close().unwrap();
    // The process dies between the transaction and the flush behind it.
    let reach = Arc::new(FaultyDevice::new(device.clone()));
    let volume = Volume::open(reach.clone(), &options()).unwrap();
    // Recovery is over with the first commit.
    file(&volume, 3).set_len(1).unwrap();
    file(&volume, 3).sync_all().unwrap();
    file(&volume, 1).set_len(0).unwrap();
    reach.fail_at(Some(OperationKind::Flush), 1);
    assert!(file(&volume, 1).sync_all().is_err());
    drop(volume);
    // The next one fills the volume with another file.
    let volume = Volume::open(device.clone(), &options()).unwrap();
    assert_eq!(file(&volume, 1).size(), 0);
    let other = file(&volume, 2);
    let free = volume.statfs().free_blocks as usize;
    assert_eq!(
        other.write_direct_at(0, &vec![2; free * PAGE]),
        Ok(free * PAGE)
    );
    // The power is cut: whatever arrives, the file has its own bytes or none.
    let recording = device.recording();
    let place = place_of(&recording, &[1; PAGE]) / 512;
    let mut cut = recording.power_cut();
    cut.advance_to(recording.moment());
    let all_but_the_log = cut.image_of(|number, sector| {
        recording.operations()[number].operation.offset >= 56 << 10 || sector == place
    });
    let found = content(Arc::new(all_but_the_log), 1);
    assert!(found.iter().all(|byte| *byte == 1), "{:?}", found.first());
}

#[test]
fn bytes_that_were_cut_off_do_not_come_back_after_two_crashes() {
    let (volume, device) = formatted();
    let cut_off = file(&volume, 1);
    cut_off.write_at(0, &[1; PAGE]).unwrap();
    cut_off.sync_all().unwrap();
    // The size is durable with another file's sync; the zeros behind it are not.
    cut_off.set_len(100).unwrap();
    file(&volume, 2).write_at(0, b"other").unwrap();
    file(&volume, 2).sync_all().unwrap();
    let crash = |device: &Recorder| -> ImageDevice {
        let recording = device.recording();
        recording.crash(recording.moment(), Survivors::Nothing)
    };
    let image = Arc::new(crash(&device));
    assert_eq!(content(image.clone(), 1), [1; 100]);
    // Synced like that, it grows, and again another file makes the size durable.
    let device = Arc::new(Recorder::new(image).unwrap());
    let volume = Volume::open(device.clone(), &options()).unwrap();
    let grows = file(&volume, 1);
    grows.sync_all().unwrap();
    grows.set_len(PAGE as u64).unwrap();
    file(&volume, 2).write_at(5, b" again").unwrap();
    file(&volume, 2).sync_all().unwrap();
    let found = content(Arc::new(crash(&device)), 1);
    assert_eq!(found.len(), PAGE);
    assert_eq!(found[..100], [1; 100]);
    let behind = found[100..].iter().position(|byte| *byte != 0);
    assert_eq!(behind, None, "a byte that was cut off");
}

#[test]
fn a_power_cut_while_a_volume_is_formatted_over_leaves_the_old_one_or_none_or_the_new_one() {
    // The log is in use, behind the first image and behind a later one.
    [3, 19].into_iter().for_each(format_over);
}

/// Formats over a volume that was synced so often.
fn format_over(syncs: u64) {
    let (old, device) = formatted();
    file(&old, 1).write_at(0, &[1; 3 * PAGE]).unwrap();
    for size in 1..=syncs {
        file(&old, 2).set_len(size).unwrap();
        file(&old, 2).sync_all().unwrap();
    }
    old.close().unwrap();
    let device = Arc::new(Recorder::new(device).unwrap());
    let others = options().block_size(1024).cluster_blocks(4);
    let new = Volume::format_persistent(device.clone(), &others).unwrap();
    file(&new, 1).write_at(0, &[3; PAGE]).unwrap();
    new.close().unwrap();
    let recording = device.recording();
    let mut cut = recording.power_cut();
    let mut found = [0; 4];
    loop {
        let random = (0..80).map(|seed| Survivors::Random(seed << 8 ^ cut.moment() as u64));
        for survivors in [Survivors::Nothing, Survivors::Everything]
            .into_iter()
            .chain(random)
        {
            let image = Arc::new(cut.image(survivors));
            let state = match Volume::open(image.clone(), &options()) {
                Err(Error::Corrupt(_)) => 1,
                Err(error) => panic!("{error}"),
                Ok(volume) if volume.statfs().block_size == 4096 => {
                    assert_eq!(file(&volume, 2).size(), syncs);
                    assert!(content(image, 1) == [1; 3 * PAGE], "not the old file");
                    0
                }
                Ok(volume) => match file(&volume, 1).size() {
                    0 => 2,
                    _ => {
                        assert!(content(image, 1) == [3; PAGE], "not the new file");
                        3
                    }
                },
            };
            found[state] += 1;
        }
        if !cut.advance() {
            break;
        }
    }
    assert!(found.iter().all(|count| *count > 10), "{found:?}");
}

#[test]
fn a_file_that_grows_for_the_first_time_writes_its_last_block_and_no_other() {
    let options = options().block_size(1024);
    let device = Arc::new(MemoryDevice::new(1 << 20));
    let volume = Volume::format_persistent(device.clone(), &options).unwrap();
    file(&volume, 1).write_at(2048, &[1; 100]).unwrap();
    volume.close().unwrap();
    let volume = Volume::open(device, &options).unwrap();
    let grows = file(&volume, 1);
    grows.write_at(0, &[2; 100]).unwrap();
    assert_eq!(grows.reserved_blocks(), 1);
    grows.set_len(4096).unwrap();
    assert_eq!(grows.reserved_blocks(), 1, "in the same page");
}

/// Two devices that record, and how far each was whenever one of them had done something.
struct Pair {
    recorders: [Arc<Recorder>; 2],
    moments: Arc<Mutex<Vec<[usize; 2]>>>,
}

impl Pair {
    fn of(behind: [Arc<MemoryDevice>; 2]) -> Self {
        Self {
            recorders: behind.map(|device| Arc::new(Recorder::new(device).unwrap())),
            moments: Arc::default(),
        }
    }

    fn devices(&self) -> [Arc<dyn BlockDevice>; 2] {
        self.recorders.clone().map(|recorder| {
            let (all, moments) = (self.recorders.clone(), Arc::clone(&self.moments));
            let device = Around::new(recorder, move |_, carry_out| {
                let outcome = carry_out();
                let moment = all.each_ref().map(|recorder| recorder.moment());
                moments.lock().unwrap().push(moment);
                outcome
            });
            Arc::new(device) as Arc<dyn BlockDevice>
        })
    }
}

/// Files whose log lies on another device than their data are written and synced, and the power is cut. What is wrong
/// with the first image, if anything is.
fn with_a_log_elsewhere(probe: Probe) -> Result<(), String> {
    let [log, data] = [(); 2].map(|()| Arc::new(MemoryDevice::new(1 << 20)));
    LogStore::format(log.clone(), Geometry::new(PAGE as u64, 1).unwrap()).unwrap();
    data.write_at(0, &vec![b'!'; 1 << 20]).unwrap();
    let pair = Pair::of([log, data]);
    let [log, data] = pair.devices();
    let store = LogStore::open(log).unwrap().with_probe(probe);
    let volume = Volume::with_store(data, Arc::new(store), &options()).unwrap();
    // Enough to fill the log several times.
    let mut synced = Vec::new();
    for round in 1..=20_u8 {
        let file = file(&volume, u64::from(round % 3));
        file.set_len(0).unwrap();
        file.write_at(0, &[round; PAGE]).unwrap();
        file.sync_all().unwrap();
        synced.push((pair.moments.lock().unwrap().len(), round));
    }
    let recordings = pair.recorders.each_ref().map(|device| device.recording());
    let moments = pair.moments.lock().unwrap().clone();
    for (number, [log_moment, data_moment]) in moments.into_iter().enumerate() {
        let some = Survivors::Random(number as u64);
        for survivors in [Survivors::Nothing, Survivors::Everything, some]
            .map(|log| [[log, Survivors::Nothing], [log, Survivors::Everything]])
            .concat()
        {
            let log = recordings[0].crash(log_moment, survivors[0]);
            let data = recordings[1].crash(data_moment, survivors[1]);
            let store = LogStore::open(Arc::new(log)).unwrap();
            let volume = Volume::with_store(Arc::new(data), Arc::new(store), &options()).unwrap();
            for which in 0..3 {
                let file = file(&volume, which);
                let mut content = vec![0; file.size() as usize];
                file.read_at(0, &mut content).unwrap();
                let of_file = |round: &u8| u64::from(round % 3) == which;
                let returned = synced.iter().filter(|(done, _)| *done <= number);
                let last = returned.map(|(_, round)| *round).rfind(of_file);
                let possible = last.unwrap_or(1)..=20;
                let as_written = |round| content == [round; PAGE];
                if !(possible.filter(of_file).any(as_written)
                    || last.is_none() && content.is_empty())
                {
                    let first = content.first();
                    return Err(format!("{number}, {survivors:?}: {last:?}, not {first:?}"));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_log_on_a_device_of_its_own_is_flushed_too_and_never_before_the_data() {
    with_a_log_elsewhere(Probe::default()).unwrap();
    for mutation in [Mutation::CommitWithoutFlush, Mutation::LogBeforeData] {
        let mutated = Probe::new().mutations([mutation]);
        with_a_log_elsewhere(mutated).unwrap_err();
    }
}

#[test]
fn a_volume_made_of_a_store_leaves_the_blocks_of_the_store_alone() {
    let device: Arc<dyn BlockDevice> = Arc::new(MemoryDevice::new(1 << 20));
    let geometry = Geometry::new(PAGE as u64, 1).unwrap();
    let store = Arc::new(LogStore::format(device.clone(), geometry).unwrap());
    // Also against what the options say.
    let other = options().block_size(512).cluster_blocks(4);
    let volume = Volume::with_store(device.clone(), store.clone(), &other).unwrap();
    let free = volume.statfs().free_blocks as usize;
    let all = vec![1; free * PAGE];
    assert_eq!(file(&volume, 1).write_direct_at(0, &all), Ok(all.len()));
    volume.close().unwrap();
    assert_eq!(Volume::check(&*device).unwrap(), []);
    assert_eq!(content(device, 1), all);
    let smaller = Arc::new(MemoryDevice::new((1 << 20) - 1));
    let refused = Volume::with_store(smaller, store, &options()).map(drop);
    assert!(
        matches!(refused, Err(Error::DeviceTooSmall { .. })),
        "{refused:?}"
    );
}
