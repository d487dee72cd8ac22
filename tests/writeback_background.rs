//! Writeback that nobody has asked for: when it comes, whom it holds up, and that it ends.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use extent_map::device::{BlockDevice, FaultyDevice, MemoryDevice, OperationKind};
use extent_map::file::{File, Volume, VolumeOptions};
use extent_map::mapping::MemoryStore;
use extent_map::probe::{Mutation, Probe};
use extent_map::units::FileNumber;
use extent_map::{Error, Result};

#[path = "common/around.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod around;

use around::Around;

const PAGE: u64 = 4096;

/// Longer than anything takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn faulty() -> Arc<FaultyDevice> {
    Arc::new(FaultyDevice::new(Arc::new(MemoryDevice::new(64 << 20))))
}

fn write(file: &File, page: u64) {
    let bytes = [page as u8; PAGE as usize];
    assert_eq!(file.write_at(page * PAGE, &bytes), Ok(bytes.len()));
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn writes(device: &FaultyDevice) -> usize {
    let log = device.take_log();
    log.iter()
        .filter(|o| o.kind == OperationKind::Write)
        .count()
}

/// How the writes of a slow device come and go.
struct Pace {
    delay: Duration,
    /// Writes wait until so many are under way, for the first time.
    company: u64,
    under_way: Mutex<u64>,
    came: Condvar,
    done: AtomicU64,
}

impl Pace {
    /// A write comes, and waits until it may go on.
    fn begin(&self) {
        let mut under_way = self.under_way.lock().unwrap();
        *under_way += 1;
        self.came.notify_all();
        let alone = |under_way: &mut u64| *under_way < self.company;
        let waited = self.came.wait_timeout_while(under_way, PATIENCE, alone);
        let timed_out = waited.unwrap().1.timed_out();
        assert!(!timed_out, "one file after the other");
        thread::sleep(self.delay);
    }
}

/// A device in memory that takes its time for a write, and knows how many it was asked for at once.
fn slow(delay: Duration, company: u64) -> (Arc<dyn BlockDevice>, Arc<Pace>) {
    let pace = Arc::new(Pace {
        delay,
        company,
        under_way: Mutex::new(0),
        came: Condvar::new(),
        done: AtomicU64::new(0),
    });
    let writes = Arc::clone(&pace);
    let memory = Arc::new(MemoryDevice::new(64 << 20));
    let device = Around::new(memory, move |operation, carry_out| {
        if operation.kind == OperationKind::Write {
            writes.begin();
            writes.done.fetch_add(1, SeqCst);
        }
        carry_out()
    });
    (Arc::new(device), pace)
}

/// Where the writes of a device wait, until it is open.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    came: AtomicU64,
}

impl Gate {
    fn pass(&self) {
        self.came.fetch_add(1, SeqCst);
        let closed = |open: &mut bool| !*open;
        let waited = self
            .opened
            .wait_timeout_while(self.open.lock().unwrap(), PATIENCE, closed);
        assert!(!waited.unwrap().1.timed_out(), "nobody opens the gate");
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

/// A volume in which `most` pages may be dirty, two open files of one file whose pages 0 and 1 are, and the gate
/// at which they are being written.
fn held_up(most: u64) -> (Volume, [File; 2], Arc<Gate>) {
    let gate: Arc<Gate> = Arc::default();
    let writes = Arc::clone(&gate);
    let memory = Arc::new(MemoryDevice::new(64 << 20));
    let device = Around::new(memory, move |operation, carry_out| {
        if operation.kind == OperationKind::Write {
            writes.pass();
        }
        carry_out()
    });
    let options = VolumeOptions::new().dirty_pages(1, most);
    let volume = Volume::format(Arc::new(device), &options).unwrap();
    let files = [(); 2].map(|()| volume.file(FileNumber(1)).unwrap());
    (0..2).for_each(|page| write(&files[0], page));
    wait_until("it writes", || gate.came.load(SeqCst) > 0);
    (volume, files, gate)
}

/// What a write of page `page` answers, in a thread of its own.
fn writer(file: &File, page: u64) -> thread::JoinHandle<Result<usize>> {
    let file = file.clone();
    thread::spawn(move || file.write_at(page * PAGE, &[page as u8; PAGE as usize]))
}

fn wait_for_throttled(volume: &Volume, writers: u64) {
    wait_until("writers wait", || {
        volume.stats().writers_throttled == writers
    });
}

#[test]
fn who_is_cancelled_has_done_nothing_and_writers_of_other_open_files_wait_on() {
    let (volume, [file, other], gate) = held_up(2);
    let cancelled = [2, 3].map(|page| writer(&file, page));
    let patient = writer(&other, 4);
    wait_for_throttled(&volume, 3);
    file.cancel_waits();
    let told = cancelled.map(|writer| writer.join().unwrap());
    assert_eq!(told, [(); 2].map(|()| Err(Error::Interrupted)));
    // An edge: who comes later waits.
    let later = writer(&file, 5);
    wait_for_throttled(&volume, 4);
    assert!(!patient.is_finished() && !later.is_finished());
    assert_eq!(file.size(), 2 * PAGE);
    gate.open();
    for writer in [patient, later] {
        assert_eq!(writer.join().unwrap(), Ok(PAGE as usize));
    }
    file.sync_all().unwrap();
    volume.drop_caches().unwrap();
    let bytes = [0, 1, 2, 3, 4, 5].map(|page| {
        let mut byte = [0xee];
        file.read_at(page * PAGE, &mut byte).unwrap();
        byte[0]
    });
    assert_eq!(bytes, [0, 1, 0, 0, 4, 5]);
}

#[test]
fn a_cancelled_store_through_a_mapping_tells_what_it_has_stored() {
    let (volume, [file, _], gate) = held_up(3);
    file.set_len(100 * PAGE).unwrap();
    assert_eq!(file.store_mapped(50 * PAGE, &[1]), Ok(1));
    let storing = file.clone();
    let store = move || storing.store_mapped(50 * PAGE, &[7; 2 * PAGE as usize]);
    let told = thread::spawn(store);
    let faulting = file.clone();
    let fault = thread::spawn(move || faulting.page_fault(60 * PAGE));
    wait_for_throttled(&volume, 2);
    file.cancel_waits();
    assert_eq!(told.join().unwrap(), Ok(PAGE as usize));
    assert_eq!(fault.join().unwrap(), Err(Error::Interrupted));
    gate.open();
    assert_eq!(
        file.store_mapped(50 * PAGE, &[8; 2 * PAGE as usize]),
        Ok(2 * PAGE as usize)
    );
}

#[test]
fn the_end_of_a_volume_lets_its_writers_go_before_the_device_answers() {
    let (volume, [file, _], gate) = held_up(2);
    let waiting = writer(&file, 2);
    wait_for_throttled(&volume, 1);
    let end = thread::spawn(move || drop(volume));
    assert_eq!(waiting.join().unwrap(), Ok(PAGE as usize));
    gate.open();
    end.join().unwrap();
}

#[test]
fn where_no_thread_can_be_started_writers_do_its_work() {
    let options = VolumeOptions::new()
        .dirty_pages(2, 8)
        .dirty_age(Duration::from_secs(3600))
        .probe(Probe::new().mutations([Mutation::StartNoThread]));
    let volume = Volume::format(faulty(), &options).unwrap();
    let files = [1, 2, 3].map(|number| volume.file(FileNumber(number)).unwrap());
    thread::scope(|scope| {
        for file in &files {
            let volume = &volume;
            scope.spawn(move || {
                for page in 0..100 {
                    write(file, page);
                    // Each writer may come by the limit at once.
                    assert!(volume.statfs().delayed_blocks <= 8 + 3);
                }
            });
        }
    });
    assert!(volume.stats().writers_throttled > 0);
    volume.close().unwrap();
}

#[test]
fn nothing_is_written_before_the_threshold_and_everything_behind_it() {
    let device = faulty();
    let options = VolumeOptions::new().dirty_pages(16, 1000);
    let volume = Volume::format(device.clone(), &options).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    (0..16).for_each(|page| write(&file, page));
    thread::sleep(Duration::from_millis(30));
    assert_eq!((writes(&device), file.reserved_blocks()), (0, 16));
    write(&file, 16);
    wait_until("the pass is over", || file.reserved_blocks() <= 1);
    wait_until("it is on the device", || writes(&device) > 0);
    assert!(volume.stats().background_passes > 0);
}

#[test]
fn nothing_is_written_where_it_is_not_wanted() {
    let device = faulty();
    let options = VolumeOptions::new()
        .dirty_pages(1, 2)
        .background_writeback(false);
    let volume = Volume::format(device.clone(), &options).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    (0..64).for_each(|page| write(&file, page));
    thread::sleep(Duration::from_millis(30));
    assert_eq!((writes(&device), file.reserved_blocks()), (0, 64));
    assert_eq!(volume.stats().writers_throttled, 0);
}

#[test]
fn the_threshold_holds_also_where_pages_may_be_dirty_for_long() {
    let options = VolumeOptions::new()
        .dirty_pages(16, 1000)
        .dirty_age(Duration::from_secs(3600));
    let volume = Volume::format(faulty(), &options).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    (0..17).for_each(|page| write(&file, page));
    wait_until("the pass is over", || file.reserved_blocks() <= 1);
}

#[test]
fn what_is_dirty_for_long_is_written() {
    let device = faulty();
    let options = VolumeOptions::new().dirty_age(Duration::from_millis(40));
    let volume = Volume::format(device, &options).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    for page in 0..3 {
        write(&file, page);
        wait_until("the page is old enough", || file.reserved_blocks() == 0);
    }
    assert_eq!(volume.stats().writers_throttled, 0);
}

#[test]
fn an_age_of_nothing_keeps_no_thread_busy() {
    let options = VolumeOptions::new().dirty_age(Duration::ZERO);
    let volume = Volume::format(faulty(), &options).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    let begin = Instant::now();
    write(&file, 0);
    wait_until("the page is old enough", || file.reserved_blocks() == 0);
    thread::sleep(Duration::from_millis(30));
    let passes = volume.stats().background_passes;
    assert!(
        u128::from(passes) <= 2 + begin.elapsed().as_millis() / 5,
        "{passes}"
    );
}

#[test]
fn what_is_dirty_for_long_is_written_also_beside_syncs_of_other_pages() {
    let options = VolumeOptions::new().dirty_age(Duration::from_millis(40));
    let volume = Volume::format(faulty(), &options).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    write(&file, 100);
    wait_until("the page is old enough", || {
        write(&file, 0);
        assert_eq!(file.sync_range(0, PAGE), Ok(()));
        file.reserved_blocks() == 0
    });
}

#[test]
fn writers_ahead_of_the_device_wait_for_it() {
    let (device, _) = slow(Duration::from_millis(1), 1);
    let options = VolumeOptions::new().dirty_pages(4, 16);
    let volume = Volume::format(device.clone(), &options).unwrap();
    let files = [1, 2].map(|number| volume.file(FileNumber(number)).unwrap());
    let most = thread::scope(|scope| {
        let writers = files.each_ref().map(|file| {
            let volume = &volume;
            scope.spawn(move || {
                let pages = (0..300).map(|page| {
                    write(file, page * 2);
                    volume.statfs().delayed_blocks
                });
                pages.max().unwrap()
            })
        });
        writers.map(|writer| writer.join().unwrap())
    });
    // Each of two writers may come by the limit at once.
    assert!(most.iter().all(|most| *most <= 17), "{most:?}");
    assert!(volume.stats().writers_throttled > 0);
    volume.close().unwrap();
}

#[test]
fn a_device_that_fails_stops_no_writer_and_each_open_file_hears_of_it_once() {
    let device = faulty();
    let options = VolumeOptions::new().dirty_pages(2, 4);
    let volume = Volume::format(device.clone(), &options).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    let other = volume.file(FileNumber(1)).unwrap();
    device.fail_range(Some(OperationKind::Write), 0..u64::MAX);
    (0..100).for_each(|page| write(&file, page));
    wait_until("writeback has failed", || {
        volume.stats().writeback_errors > 0
    });
    device.clear_faults();
    assert!(file.sync_all().is_err());
    assert_eq!(file.sync_all(), Ok(()));
    assert!(other.sync_all().is_err());
    assert_eq!(other.sync_all(), Ok(()));
    // Nothing was ever written to what has failed: it is unwritten, and reads as zeros from the device.
    volume.drop_caches().unwrap();
    let mut byte = [0xee];
    file.read_at(50 * PAGE, &mut byte).unwrap();
    assert!(matches!(byte, [0 | 50]), "{byte:?}");
}

#[test]
fn a_store_that_maps_nothing_stops_no_writer() {
    let store = Arc::new(MemoryStore::with_max_extents(1));
    let options = VolumeOptions::new().dirty_pages(2, 4);
    let volume = Volume::with_store(faulty(), store, &options).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    // Each page is an extent of its own, and the store takes one.
    (0..40).for_each(|page| write(&file, page * 2));
    assert!(volume.stats().writers_throttled > 0);
    assert!(file.sync_all().is_err());
    for page in 0..40 {
        let mut byte = [0xee];
        file.read_at(page * 2 * PAGE, &mut byte).unwrap();
        assert_eq!(byte, [(page * 2) as u8], "nothing is lost");
    }
    file.set_len(0).unwrap();
}

#[test]
fn several_files_are_written_at_once() {
    // No write ends before a second one has begun.
    let (device, pace) = slow(Duration::ZERO, 2);
    let options = VolumeOptions::new().dirty_pages(2, 1000);
    let volume = Volume::format(device.clone(), &options).unwrap();
    let files = [1, 2].map(|number| volume.file(FileNumber(number)).unwrap());
    files.iter().for_each(|file| write(file, 0));
    write(&files[0], 1);
    wait_until("both are written", || pace.done.load(SeqCst) >= 2);
}

#[test]
fn the_volume_takes_its_writeback_with_it() {
    let (device, pace) = slow(Duration::from_millis(20), 1);
    let options = VolumeOptions::new().dirty_pages(1, 1000);
    let volume = Volume::format(device.clone(), &options).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    (0..4).for_each(|page| write(&file, page * 2));
    wait_until("it writes", || *pace.under_way.lock().unwrap() > 0);
    drop(volume);
    let (begun, done) = (*pace.under_way.lock().unwrap(), pace.done.load(SeqCst));
    assert_eq!(begun, done, "a write is left behind");
    // A file outlives its volume, without anybody to wait for.
    (0..64).for_each(|page| write(&file, page));
    file.sync_all().unwrap();
    drop(file);
    assert_eq!(Arc::strong_count(&device), 1, "somebody keeps the volume");
}
