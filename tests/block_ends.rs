//! How bios end: with which errors, after how many attempts, when patience runs out, and after how long.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use extent_map::block::{Bio, BlockQueue, Deadline, Policy, Scheduler};
use extent_map::device::OperationKind::{Discard, Flush, Read, Write, WriteZeroes};
use extent_map::device::{Buffer, Buffers, Completion, Limits};
use extent_map::units::{DiskBlock, DiskRun};
use extent_map::{Error, IoError, Result};

#[path = "common/commands.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod commands;
#[path = "common/io.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod io;
#[path = "common/random.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod random;
#[path = "common/waiting.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod waiting;

use commands::Ends;
use io::is_io;
use waiting::{BLOCK, LONG, Waiting, new, one_at_a_time, read, sorted, write};

/// The ways to a device that leave the ends of requests to it, or do not.
fn ways() -> Vec<Waiting> {
    let mut ways = Vec::new();
    for asynchronous in [false, true] {
        for scheduler in [Scheduler::None, sorted(Deadline::default())] {
            let limits = Limits {
                asynchronous,
                ..Limits::default()
            };
            let set_up = |queue: BlockQueue| {
                let policy = Policy::new().attempts(3);
                queue.scheduler(scheduler).policy(policy)
            };
            ways.push(new(limits, Ends::AtOnce, set_up));
        }
    }
    ways
}

#[test]
fn what_the_device_fails_is_tried_again_as_often_as_the_policy_says() {
    for waiting in ways() {
        for bio in [write(3), Bio::flush()] {
            waiting.device.fail_at(0);
            assert_eq!(waiting.queue.submit(bio).wait(), Ok(vec![]));
        }
        assert_eq!(waiting.counters.snapshot().device_retries, 2);
        assert_eq!(waiting.device.take_log().len(), 4);
        assert_eq!(
            waiting.queue.submit(read(3)).wait(),
            Ok(vec![3; BLOCK as usize])
        );
        waiting.device.take_log();
        waiting.device.fail_range(None, 3 * BLOCK..4 * BLOCK);
        assert!(is_io(waiting.queue.submit(read(3)).wait()));
        assert!(is_io(waiting.queue.read(DiskBlock(3), &mut [0; 512])));
        assert_eq!(waiting.device.take_log().len(), 6);
        let outside = waiting.queue.submit(read(4096)).wait();
        assert!(matches!(outside, Err(Error::InvalidInput(_))));
        assert_eq!(waiting.device.take_log(), []);
    }
}

#[test]
fn an_error_at_any_command_fails_the_bio_it_belongs_to_and_no_other() {
    // Which bio fails with the command at this place: a durable write is two, one with a flush before it as well.
    let owners = [0, 1, 1, 2, 3, 3];
    for asynchronous in [false, true] {
        for (nth, owner) in (0..).zip(owners) {
            let limits = Limits {
                asynchronous,
                ..Limits::default()
            };
            let waiting = new(limits, Ends::AtOnce, |queue| queue);
            waiting.device.fail_at(nth);
            let mut batch = waiting.queue.batch();
            batch.push(write(0));
            batch.push(write(5).fua());
            batch.push(Bio::flush());
            batch.push(write(8).preflush());
            let outcomes = batch.submit().into_iter().map(|bio| bio.finish().1);
            let failed: Vec<_> = outcomes.map(is_io).collect();
            let expected: Vec<_> = (0..4).map(|bio| bio == owner).collect();
            assert_eq!(failed, expected, "command {nth}");
            // What must not begin before its flush has not.
            let sent = owners.len() - usize::from(nth == 1 || nth == 4);
            assert_eq!(waiting.device.take_log().len(), sent, "command {nth}");
        }
    }
}

#[test]
fn patience_runs_out_and_a_late_end_does_no_harm() {
    let policy = Policy::new().patience(Duration::from_millis(5));
    let mut waiting = one_at_a_time(|queue| queue.policy(policy));
    let handle = waiting.queue.submit(read(0));
    let (buffers, result) = handle.finish();
    assert_eq!(buffers, Buffers::default());
    let Err(Error::Io(IoError { errno: 110, .. })) = result else {
        panic!("{result:?}");
    };
    waiting.submit(read(10));
    assert_eq!(waiting.order(), [0, 10]);
}

#[test]
fn patience_runs_out_for_room_too_where_the_device_ends_nothing() {
    let policy = Policy::new().patience(Duration::from_millis(5));
    let mut waiting = one_at_a_time(|queue| queue.policy(policy).max_waiting(1));
    // One is with the device, one waits, and far off from them are those for which there is no room.
    waiting.submit_all([write(0), write(10)]);
    let without_room = [20, 30].map(|block| waiting.queue.submit(write(block)));
    for handle in without_room {
        assert!(handle.is_ended());
        let (buffers, result) = handle.finish();
        assert_eq!(buffers.byte_len(), BLOCK, "its memory was never given away");
        let Err(Error::Io(IoError { errno: 110, .. })) = result else {
            panic!("{result:?}");
        };
    }
    assert_eq!(waiting.order(), [0, 10]);
}

/// Tells a test of the ends of bios: the tag, how many bytes came back, and the result.
struct Tells(Sender<(u64, u64, Result<()>)>);

impl Completion for Tells {
    fn completed(&self, tag: u64, buffers: Buffers, result: Result<()>) {
        self.0.send((tag, buffers.byte_len(), result)).unwrap();
    }
}

#[test]
fn patience_runs_out_for_completions_too_which_hear_once() {
    for scheduler in [Scheduler::None, sorted(Deadline::default())] {
        let limits = Limits {
            asynchronous: true,
            depth: 2,
            max_bytes: 8 * BLOCK,
            ..Limits::default()
        };
        let policy = Policy::new().patience(Duration::from_millis(5)).attempts(3);
        let set_up = |queue: BlockQueue| queue.policy(policy).scheduler(scheduler);
        let waiting = new(limits, Ends::WhenTold, set_up);
        let (sender, heard) = channel();
        let tells = Arc::new(Tells(sender));
        let zeroes = Bio::write_zeroes(DiskRun::new(DiskBlock(50), 1));
        let large = Bio::write_from(DiskBlock(30), Buffer::zeroed(12 * BLOCK as usize));
        // Two are with the device, as is the flush. Others wait: two of them merged, and one in two pieces.
        let bios = [
            write(0),
            zeroes,
            write(10),
            write(11),
            write(20).fua(),
            large,
            Bio::flush(),
        ];
        for (tag, bio) in (0..).zip(bios) {
            waiting.queue.submit_with(bio, tells.clone(), tag);
        }
        let mut ends: Vec<_> = (0..7)
            .map(|_| heard.recv_timeout(LONG).expect("nobody is told"))
            .collect();
        ends.sort_by_key(|(tag, ..)| *tag);
        let came_back = [0, 0, 1, 1, 1, 12, 0];
        for ((tag, end), blocks) in (0..).zip(ends).zip(came_back) {
            assert_eq!((end.0, end.1), (tag, blocks * BLOCK));
            assert!(
                matches!(end.2, Err(Error::Io(IoError { errno: 110, .. }))),
                "{end:?}"
            );
        }
        let depth = waiting.queue.depth();
        assert_eq!((depth.in_flight, depth.waiting), (2, 0));
        // What nobody waits for is not tried again.
        for _ in 0..3 {
            waiting.device.fail_at(0);
            assert!(waiting.device.end_oldest());
        }
        assert!(!waiting.device.end_oldest());
        assert_eq!(waiting.queue.depth().in_flight, 0);
        let log = waiting.device.take_log();
        let kinds: Vec<_> = log
            .iter()
            .map(|command| (command.kind, command.ok))
            .collect();
        assert_eq!(
            kinds,
            [(Write, false), (WriteZeroes, false), (Flush, false)]
        );
        drop((waiting, tells));
        assert_eq!(
            heard.recv_timeout(LONG),
            Err(RecvTimeoutError::Disconnected)
        );
    }
}

#[test]
fn a_completion_hears_of_the_end_of_patience_at_each_step_of_a_bio_that_goes_alone() {
    let large = || Bio::write_from(DiskBlock(0), Buffer::zeroed(12 * BLOCK as usize));
    // How many of its requests the device ends: the last one of a write with FUA is a flush.
    let stuck = [
        (read(0), 0),
        (large(), 0),
        (large(), 1),
        (write(0).fua(), 0),
        (write(0).fua(), 1),
        (large().fua(), 2),
        (Bio::flush(), 0),
    ];
    for (bio, ends) in stuck {
        let policy = Policy::new().patience(Duration::from_millis(5));
        let waiting = one_at_a_time(|queue| queue.policy(policy));
        let (sender, heard) = channel();
        waiting
            .queue
            .submit_with(bio.clone(), Arc::new(Tells(sender)), 3);
        for _ in 0..ends {
            waiting.device.end_oldest();
        }
        let end = heard.recv_timeout(LONG);
        let Ok((3, _, Err(Error::Io(IoError { errno: 110, .. })))) = end else {
            panic!("{end:?} of {bio:?}, {ends} ended");
        };
    }
}

#[test]
fn a_flush_that_ends_too_late_is_not_taken_for_the_next_one() {
    let policy = Policy::new().patience(Duration::from_millis(5));
    let waiting = one_at_a_time(|queue| queue.policy(policy));
    let (sender, heard) = channel();
    waiting
        .queue
        .submit_with(Bio::flush(), Arc::new(Tells(sender)), 0);
    let (0, 0, Err(_)) = heard.recv_timeout(LONG).unwrap() else {
        panic!("it cannot have ended");
    };
    // The one in the device may have begun before this one was asked for.
    let later = waiting.queue.submit(Bio::flush());
    assert!(waiting.device.end_oldest());
    let by_the_first = later.is_ended();
    while waiting.device.end_oldest() {}
    let result = later.finish().1;
    let flushes = waiting.device.take_log().len();
    // On a slow machine patience runs out for it as well.
    assert!(result.is_err() || !by_the_first && flushes == 2);
}

#[test]
fn a_queue_that_is_dropped_while_it_has_patience_lets_go_of_its_device() {
    let policy = Policy::new().patience(Duration::MAX);
    let Waiting { device, queue, .. } = one_at_a_time(|queue| queue.policy(policy));
    let (sender, heard) = channel();
    queue.submit_with(write(0), Arc::new(Tells(sender)), 0);
    // So that somebody looks at the time already, mostly.
    thread::sleep(Duration::from_millis(10));
    assert!(device.end_oldest());
    assert_eq!(heard.recv(), Ok((0, BLOCK, Ok(()))));
    drop(queue);
    let begin = Instant::now();
    while Arc::strong_count(&device) > 1 && begin.elapsed() < LONG {
        thread::yield_now();
    }
    assert_eq!(Arc::strong_count(&device), 1);
}

#[test]
fn a_split_bio_ends_once_with_the_error_of_the_piece_that_failed_first() {
    for asynchronous in [false, true] {
        for scheduler in [Scheduler::None, sorted(Deadline::default())] {
            let limits = Limits {
                asynchronous,
                depth: 1,
                max_bytes: 8 * BLOCK,
                ..Limits::default()
            };
            let waiting = new(limits, Ends::WhenTold, |queue| queue.scheduler(scheduler));
            let (sender, heard) = channel();
            // The last two of three pieces, each with an error of its own.
            waiting.device.fail_range(None, 8 * BLOCK..20 * BLOCK);
            let bio = Bio::write_from(DiskBlock(0), Buffer::zeroed(20 * BLOCK as usize));
            waiting.queue.submit_with(bio, Arc::new(Tells(sender)), 7);
            if asynchronous {
                for _ in 0..3 {
                    assert_eq!(heard.try_recv(), Err(TryRecvError::Empty));
                    assert!(waiting.device.end_oldest());
                }
            }
            let (7, bytes, Err(Error::Io(error))) = heard.try_recv().unwrap() else {
                panic!("it ended well");
            };
            assert_eq!((bytes, error.offset), (20 * BLOCK, 8 * BLOCK));
            assert_eq!(heard.try_recv(), Err(TryRecvError::Disconnected));
            assert_eq!(waiting.device.take_log().len(), 3, "all are tried");
            assert_eq!(waiting.counters.snapshot().bios_split, 2);
        }
    }
}

#[test]
fn depth_and_latency_are_seen() {
    let mut waiting = one_at_a_time(|queue| queue);
    waiting.submit_all([0, 10, 20].map(read));
    let depth = waiting.queue.depth();
    assert_eq!((depth.in_flight, depth.waiting), (1, 2));
    thread::sleep(Duration::from_millis(2));
    waiting.end();
    let depth = waiting.queue.depth();
    assert_eq!(
        (depth.in_flight, depth.waiting, depth.most_in_flight),
        (0, 0, 1)
    );
    let latency = waiting.queue.latency(Read);
    assert_eq!(latency.count(), 3);
    assert!(latency.quantile(0.0).unwrap() >= Duration::from_millis(2));
    assert_eq!(waiting.queue.latency(Write).count(), 0);
}

#[test]
fn each_kind_of_request_is_timed_on_each_way() {
    let run = DiskRun::new(DiskBlock(3), 1);
    let kinds = [Read, Write, Flush, Discard, WriteZeroes];
    let bios = [
        read(3),
        write(3),
        Bio::flush(),
        Bio::discard(run),
        Bio::write_zeroes(run),
    ];
    for (kind, bio) in kinds.into_iter().zip(bios) {
        for waiting in ways() {
            waiting.queue.submit(bio.clone()).wait().unwrap();
            for other in kinds {
                let count = waiting.queue.latency(other).count();
                assert_eq!(count, u64::from(other == kind), "{other:?} after {kind:?}");
            }
        }
    }
}

#[test]
fn a_flush_that_is_shared_is_timed_once_from_when_the_first_asked() {
    let mut waiting = one_at_a_time(|queue| queue);
    // One is in the device, the others share the next one.
    waiting.submit(Bio::flush());
    waiting.submit_all([Bio::flush(), Bio::flush()]);
    thread::sleep(Duration::from_millis(2));
    assert_eq!(waiting.queue.latency(Flush).count(), 0);
    assert_eq!(waiting.end(), [(Flush, 0, 0), (Flush, 0, 0)]);
    let latency = waiting.queue.latency(Flush);
    assert_eq!(latency.count(), 2);
    assert!(latency.quantile(0.0).unwrap() >= Duration::from_millis(2));
}
