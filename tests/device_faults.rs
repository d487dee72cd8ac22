//! Devices that tear, delay, reorder and lose power; and requests that pass through decorators.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use extent_map::Result;
use extent_map::device::OperationKind::{Discard, Flush, Read, Write, WriteZeroes};
use extent_map::device::{
    BlockDevice, Buffer, Buffers, Completion, FaultyDevice, Limits, MemoryDevice, Recorder,
    Request, SECTOR, Survivors,
};

#[path = "common/io.rs"]
mod io;

use io::{is_io, read};

const S: usize = SECTOR as usize;
const SECTORS: usize = 64;

/// The tags of the requests that ended, in that order.
#[derive(Default)]
struct Ended(Mutex<Vec<(u64, Buffers, Result<()>)>>);

impl Completion for Ended {
    fn completed(&self, tag: u64, buffers: Buffers, result: Result<()>) {
        self.0.lock().unwrap().push((tag, buffers, result));
    }
}

impl Ended {
    fn take(&self) -> Vec<(u64, bool)> {
        let ended = std::mem::take(&mut *self.0.lock().unwrap());
        ended
            .into_iter()
            .map(|(tag, _, result)| (tag, result.is_ok()))
            .collect()
    }
}

fn faulty() -> (Arc<FaultyDevice>, Arc<MemoryDevice>) {
    let memory = Arc::new(MemoryDevice::new((SECTORS * S) as u64));
    memory.write_at(0, &[1; SECTORS * S]).unwrap();
    (
        Arc::new(FaultyDevice::new(Arc::clone(&memory) as _)),
        memory,
    )
}

fn write(sector: u64, byte: u8, ended: &Arc<Ended>, tag: u64) -> Request {
    let data = Buffer::copy_of(&[byte; S]);
    Request::write(sector * SECTOR, data.into(), (ended.clone() as _, tag))
}

/// How many sectors hold nothing but `byte`, and how many nothing but 1.
fn count(device: &dyn BlockDevice, byte: u8) -> (usize, usize) {
    let bytes = read(device, 0, SECTORS * S);
    let full = |of: u8| {
        bytes
            .chunks(S)
            .filter(|sector| sector.iter().all(|byte| *byte == of))
            .count()
    };
    (full(byte), full(1))
}

#[test]
fn of_a_torn_operation_some_sectors_arrive_whole_and_it_fails() {
    for seed in 0..20 {
        for kind in [Write, Discard, WriteZeroes] {
            let (device, memory) = faulty();
            device.tear_at(Some(kind), 0, seed);
            let all = (SECTORS * S) as u64;
            let outcome = match kind {
                Write => device.write_at(0, &[0; SECTORS * S]),
                Discard => device.discard(0, all),
                _ => device.write_zeroes(0, all),
            };
            assert!(is_io(outcome));
            let (new, old) = count(&*memory, 0);
            assert_eq!(new + old, SECTORS, "no sector is torn");
            assert!((10..55).contains(&new), "{new} of {SECTORS} by seed {seed}");
            assert_eq!(device.write_at(0, &[1; S]), Ok(()), "it strikes once");
        }
    }
}

#[test]
fn a_write_may_be_torn_wherever_it_begins() {
    let (device, memory) = faulty();
    device.tear_at(None, 0, 1);
    device.fail_at(None, 0);
    assert!(is_io(device.write_at(0, &[2; SECTORS * S])));
    assert_eq!(
        count(&*memory, 1).0,
        SECTORS,
        "what fails altogether does nothing"
    );
    device.tear_at(None, 0, 1);
    let parts = [[2; 100].as_slice(), &[2; 2000]].map(std::io::IoSlice::new);
    assert!(is_io(device.write_vectored_at(700, &parts)));
    let bytes = read(&*memory, 0, 4 * S + 1000);
    let changed: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] == 2).collect();
    let stretches = [700..1024, 1024..1536, 1536..2048, 2048..2560, 2560..2800];
    let whole: Vec<_> = stretches
        .into_iter()
        .filter(|stretch| changed.contains(&stretch.start))
        .flatten()
        .collect();
    assert_eq!(changed, whole);
    assert!(!changed.is_empty() && changed.len() < 2100);
}

#[test]
fn when_the_power_is_cut_one_operation_is_torn_and_nothing_behind_it_happens() {
    let (device, memory) = faulty();
    device.cut_power_at(2, 3);
    assert_eq!(device.write_at(0, &[2; S]), Ok(()));
    assert_eq!(device.flush(), Ok(()));
    assert!(is_io(device.write_at(0, &[3; SECTORS * S])));
    let (new, _) = count(&*memory, 3);
    assert!((10..55).contains(&new));
    let before = read(&*memory, 0, SECTORS * S);
    assert!(is_io(device.write_at(0, &[4; SECTORS * S])));
    assert!(is_io(device.read_at(0, &mut [0; S])));
    assert!(is_io(device.flush()));
    assert!(is_io(device.discard(0, SECTOR)));
    assert!(is_io(device.write_zeroes(0, SECTOR)));
    assert!(read(&*memory, 0, SECTORS * S) == before);
    device.clear_faults();
    assert!(read(&*device, 0, SECTORS * S) == before);
}

#[test]
fn delayed_operations_take_their_time_and_others_do_not() {
    let (device, _) = faulty();
    let delay = Duration::from_millis(30);
    let time = |work: &dyn Fn() -> Result<()>| {
        let start = Instant::now();
        assert_eq!(work(), Ok(()));
        start.elapsed()
    };
    device.delay(Some(Flush), delay);
    assert!(time(&|| device.flush()) >= delay);
    // Slow machines may need several attempts to be quick.
    assert!((0..50).any(|_| time(&|| device.write_at(0, &[2; S])) < delay));
    device.clear_faults();
    assert!((0..50).any(|_| time(&|| device.flush()) < delay));
}

#[test]
fn one_operation_can_be_late_and_those_around_it_not() {
    let delay = Duration::from_millis(30);
    for late in 0..3 {
        // Slow machines may need several attempts to be quick.
        let as_told = (0..50).any(|_| {
            let (device, _) = faulty();
            device.delay_at(Some(Write), late, delay);
            let is_late = |work: &dyn Fn() -> Result<()>| {
                let start = Instant::now();
                assert_eq!(work(), Ok(()));
                start.elapsed() >= delay
            };
            let write = || is_late(&|| device.write_at(0, &[2; S]));
            let flush = || is_late(&|| device.flush());
            let seen = [flush(), write(), flush(), write(), write(), flush()];
            let writes = [seen[1], seen[3], seen[4]];
            assert!(writes[late as usize], "it was not late");
            seen.iter().filter(|late| **late).count() == 1
        });
        assert!(as_told);
    }
}

#[test]
fn one_request_can_be_held_while_those_behind_it_pass() {
    for held in 0..4 {
        let (device, memory) = faulty();
        let ended: Arc<Ended> = Arc::default();
        device.hold_at(Some(Write), held);
        assert!(device.limits().asynchronous);
        device.start(Request::flush((ended.clone() as _, 100)));
        for tag in 0..4 {
            // All at one place: who comes last is seen.
            device.start(write(0, 10 + tag as u8, &ended, tag));
        }
        let pass: Vec<_> = (0..4).filter(|tag| *tag != held).collect();
        let tags = |ended: Vec<(u64, bool)>| ended.into_iter().map(|(tag, ok)| (ok, tag));
        let expected = [100].into_iter().chain(pass.iter().copied());
        assert!(tags(ended.take()).eq(expected.map(|tag| (true, tag))));
        assert_eq!(device.held_requests(), 1);
        assert_eq!(read(&*memory, 0, S), [10 + pass[2] as u8; S]);
        device.release_requests(0);
        assert_eq!(ended.take(), [(held, true)]);
        assert_eq!(read(&*memory, 0, S), [10 + held as u8; S]);
    }
}

#[test]
fn held_requests_end_when_they_are_released_in_any_order() {
    let orders: Vec<_> = (0..20)
        .map(|seed| {
            let (device, memory) = faulty();
            let ended = Arc::default();
            assert!(!device.limits().asynchronous);
            device.hold_requests();
            assert!(device.limits().asynchronous);
            for tag in 0..4 {
                device.start(write(tag, 2, &ended, tag));
            }
            assert_eq!((device.held_requests(), ended.take()), (4, vec![]));
            assert_eq!(count(&*memory, 2).0, 0, "nothing happens before");
            device.release_requests(seed);
            assert_eq!((device.held_requests(), count(&*memory, 2).0), (0, 4));
            let order = ended.take();
            assert!(order.iter().all(|(_, ok)| *ok));
            order
        })
        .collect();
    let mut distinct = orders.clone();
    distinct.sort();
    distinct.dedup();
    assert!(distinct.len() > 8, "{} orders", distinct.len());
}

/// A device that has requests under way, and knows what is durable: it ends what it holds when it is told to.
#[derive(Debug)]
struct Late {
    device: FaultyDevice,
    native_fua: bool,
}

impl Late {
    fn new(native_fua: bool) -> Self {
        let device = FaultyDevice::new(Arc::new(MemoryDevice::new((SECTORS * S) as u64)));
        device.hold_requests();
        Self { device, native_fua }
    }
}

impl BlockDevice for Late {
    fn size(&self) -> u64 {
        self.device.size()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.device.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.device.write_at(offset, data)
    }
    fn flush(&self) -> Result<()> {
        self.device.flush()
    }
    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.device.discard(offset, len)
    }
    fn start(&self, request: Request) {
        self.device.start(request);
    }
    fn limits(&self) -> Limits {
        Limits {
            native_fua: self.native_fua,
            ..self.device.limits()
        }
    }
}

#[test]
fn a_recorder_knows_when_requests_end_that_are_under_way_together() {
    let late = Arc::new(Late::new(true));
    let recorder = Recorder::new(Arc::clone(&late) as _).unwrap();
    let ended = Arc::default();
    recorder.start(write(0, 2, &ended, 0));
    recorder.start(write(1, 3, &ended, 1).with_fua(true));
    recorder.start(Request::flush((ended.clone() as _, 2)));
    let unaligned = Request::discard(5, 5, (ended.clone() as _, 3));
    recorder.start(unaligned);
    assert_eq!(ended.take(), [(3, false)]);
    let under_way = recorder.recording();
    assert_eq!(under_way.moment(), 3);
    assert!(under_way.operations().iter().all(|one| one.ended.is_none()));

    late.device.release_requests(0);
    let order: Vec<_> = ended
        .take()
        .into_iter()
        .map(|(tag, _)| tag as usize)
        .collect();
    assert_eq!(order.len(), 3);
    let log = late.device.take_log();
    let flushes = log.iter().filter(|one| one.kind == Flush).count();
    assert_eq!(flushes, 2, "one for the write that must be durable");
    let recording = recorder.recording();
    for (place, number) in order.iter().enumerate() {
        let end = recording.operations()[*number].ended.unwrap();
        assert_eq!((end.moment, end.ok), (3 + place, true));
    }
    // The flush began before the write ended, so the write is not durable; with FUA it is.
    let least = recording.crash(usize::MAX, Survivors::Nothing);
    assert_eq!(read(&least, 0, 2 * S), [[0; S], [3; S]].concat());

    let memory = Buffer::zeroed(2 * S).into();
    recorder.start(Request::read(0, memory, (ended.clone() as _, 4)));
    late.device.release_requests(0);
    let [(4, memory, Ok(()))] = &ended.0.lock().unwrap()[..] else {
        panic!("the read has not ended");
    };
    assert_eq!(memory.to_vec(), [[2; S], [3; S]].concat());

    recorder.start(Request::flush((Arc::<Ended>::default() as _, 5)));
    late.device.release_requests(0);
    let least = recorder.recording().crash(usize::MAX, Survivors::Nothing);
    assert_eq!(read(&least, 0, S), [2; S]);
}

#[test]
fn faults_strike_requests_on_their_way_to_a_device_that_takes_its_time() {
    let late = Arc::new(Late::new(false));
    let device = FaultyDevice::new(Arc::clone(&late) as _);
    let ended: Arc<Ended> = Arc::default();
    device.fail_at(Some(Read), 0);
    device.tear_at(Some(Write), 1, 2);
    let buffer = Buffer::zeroed(S).into();
    device.start(Request::read(0, buffer, (ended.clone() as _, 0)));
    device.start(write(0, 2, &ended, 1));
    let torn = Buffer::copy_of(&[3; 40 * S]).into();
    device.start(Request::write(20 * SECTOR, torn, (ended.clone() as _, 2)));
    assert_eq!(ended.take(), [(0, false), (2, false)]);
    late.device.release_requests(0);
    assert_eq!(ended.take(), [(1, true)]);
    let arrived = read(&*late, 0, SECTORS * S);
    let full = |byte| {
        arrived
            .chunks(S)
            .filter(|sector| *sector == [byte; S])
            .count()
    };
    assert_eq!(full(2), 1);
    assert!((5..35).contains(&full(3)), "{}", full(3));

    // A device that does not know what FUA is gets a write and a flush.
    device.take_log();
    device.start(write(1, 4, &ended, 3).with_fua(true));
    let kinds: Vec<_> = device.take_log().iter().map(|one| one.kind).collect();
    assert_eq!((kinds, ended.take()), (vec![Write, Flush], vec![(3, true)]));
}

#[test]
fn a_torn_operation_behind_the_last_byte_there_can_be_is_an_error() {
    for seed in 0..8 {
        let (device, memory) = faulty();
        device.tear_at(None, 0, seed);
        assert!(device.discard(u64::MAX - 10, 5).is_err());
        assert_eq!(count(&*memory, 1).0, SECTORS);
    }
}

#[test]
fn who_releases_requests_where_none_are_held_holds_none_from_then_on() {
    let (device, _) = faulty();
    let ended = Arc::default();
    device.release_requests(7);
    assert!(!device.limits().asynchronous);
    device.start(write(0, 2, &ended, 5));
    assert_eq!(ended.take(), [(5, true)]);
}

#[test]
fn what_a_request_carries_counts_and_not_the_length_it_says() {
    for says in [0, SECTOR / 2, 3 * SECTOR] {
        let (inner, _) = faulty();
        let recorder = Recorder::new(inner).unwrap();
        let ended = Arc::default();
        let mut request = write(1, 2, &ended, 5);
        request.len = says;
        recorder.start(request);
        assert_eq!(ended.take(), [(5, true)]);
        let crashed = recorder
            .recording()
            .crash(usize::MAX, Survivors::Everything);
        assert_eq!(count(&crashed, 2), (1, SECTORS - 1));
    }
}
