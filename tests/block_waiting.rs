//! What waits in front of a device: its order, merging, bounds, retries and patience.

use std::sync::mpsc::{RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use extent_map::block::{Bio, BlockQueue, Deadline, Policy, Priority, Scheduler, SubmittedBio};
use extent_map::device::OperationKind::{self, Discard, Flush, Read, Write, WriteZeroes};
use extent_map::device::{BlockDevice, Buffer, Buffers, Completion, Limits, MemoryDevice};
use extent_map::stats::Counters;
use extent_map::units::{BlockSize, DiskBlock, DiskRun};
use extent_map::{Error, IoError, Result};

#[path = "common/around.rs"]
mod around;
#[path = "common/commands.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod commands;
#[path = "common/io.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod io;
#[path = "common/random.rs"]
mod random;

use around::Around;
use commands::{Commands, Ends};
use io::is_io;
use random::Random;

const BLOCK: u64 = 512;

/// Longer than anything takes, also on a busy machine.
const LONG: Duration = Duration::from_secs(20);

/// A device for one request at a time, and the way to it.
struct Waiting {
    device: Arc<Commands>,
    queue: BlockQueue,
    counters: Arc<Counters>,
    handles: Vec<SubmittedBio>,
}

fn new(limits: Limits, ends: Ends, set_up: impl FnOnce(BlockQueue) -> BlockQueue) -> Waiting {
    let memory = Arc::new(MemoryDevice::new(4096 * BLOCK));
    let device = Commands::new(memory, limits, ends);
    let counters = Arc::new(Counters::default());
    let block_size = BlockSize::new(BLOCK).unwrap();
    let queue = BlockQueue::new(device.clone(), block_size, counters.clone());
    Waiting {
        device,
        queue: set_up(queue),
        counters,
        handles: Vec::new(),
    }
}

/// The device works by itself, one request after the other, and ends it when told.
fn one_at_a_time(set_up: impl FnOnce(BlockQueue) -> BlockQueue) -> Waiting {
    let limits = Limits {
        asynchronous: true,
        depth: 1,
        max_bytes: 8 * BLOCK,
        ..Limits::default()
    };
    new(limits, Ends::WhenTold, set_up)
}

fn sorted(deadline: Deadline) -> Scheduler {
    Scheduler::Deadline(deadline)
}

fn read(block: u64) -> Bio {
    Bio::read(DiskRun::new(DiskBlock(block), 1))
}

fn write(block: u64) -> Bio {
    let data = [block as u8; BLOCK as usize];
    Bio::write_from(DiskBlock(block), Buffer::copy_of(&data))
}

impl Waiting {
    fn submit(&mut self, bio: Bio) {
        let handle = self.queue.submit(bio);
        self.handles.push(handle);
    }

    fn submit_all(&mut self, bios: impl IntoIterator<Item = Bio>) {
        bios.into_iter().for_each(|bio| self.submit(bio));
    }

    /// Ends everything: what the device got, in blocks, in that order. All bios must have ended well.
    fn end(&mut self) -> Vec<(OperationKind, u64, u64)> {
        while self.device.end_oldest() {}
        for handle in self.handles.drain(..) {
            assert!(handle.is_ended());
            assert_eq!(handle.finish().1, Ok(()));
        }
        let log = self.device.take_log();
        let in_blocks = |c: &commands::Command| (c.kind, c.offset / BLOCK, c.len / BLOCK);
        log.iter().map(in_blocks).collect()
    }

    /// The first blocks of what the device got.
    fn order(&mut self) -> Vec<u64> {
        self.end().into_iter().map(|(_, start, _)| start).collect()
    }
}

#[test]
fn without_a_scheduler_bios_go_as_they_come() {
    let mut waiting = one_at_a_time(|queue| queue);
    waiting.submit_all([0, 50, 10, 30].map(read));
    assert_eq!(waiting.order(), [0, 50, 10, 30]);
}

#[test]
fn a_scheduler_sends_them_by_block_and_comes_back_for_those_in_front() {
    let mut waiting = one_at_a_time(|queue| queue.scheduler(sorted(Deadline::default())));
    waiting.submit_all([20, 50, 10, 30].map(read));
    assert_eq!(waiting.order(), [20, 30, 50, 10]);
}

#[test]
fn a_scheduler_may_come_and_go_while_bios_wait() {
    let mut waiting = one_at_a_time(|queue| queue);
    waiting.submit_all([20, 50, 10, 30].map(read));
    waiting.queue.set_scheduler(sorted(Deadline::default()));
    waiting.submit(read(40));
    assert!(waiting.device.end_oldest());
    waiting.queue.set_scheduler(Scheduler::None);
    waiting.submit(read(60));
    // By block, as long as there was a scheduler, and then as they stood.
    assert_eq!(waiting.order(), [20, 10, 30, 40, 50, 60]);
}

#[test]
fn what_is_overdue_goes_first() {
    let overdue = Deadline {
        read_expiry: Duration::ZERO,
        batch: 1,
        ..Deadline::default()
    };
    let mut waiting = one_at_a_time(|queue| queue.scheduler(sorted(overdue)));
    waiting.submit_all([20, 50, 10, 30].map(read));
    assert_eq!(waiting.order(), [20, 50, 10, 30]);
}

#[test]
fn what_may_wait_for_ever_is_never_overdue() {
    let never = Deadline {
        read_expiry: Duration::MAX,
        write_expiry: Duration::MAX,
        ..Deadline::default()
    };
    let mut waiting = one_at_a_time(|queue| queue.scheduler(sorted(never)));
    waiting.submit_all([5, 30, 10].map(write));
    assert_eq!(waiting.order(), [5, 10, 30]);
}

#[test]
fn a_batch_by_block_ends_where_something_is_overdue() {
    let overdue = Deadline {
        read_expiry: Duration::ZERO,
        batch: 2,
        ..Deadline::default()
    };
    let mut waiting = one_at_a_time(|queue| queue.scheduler(sorted(overdue)));
    waiting.submit_all([20, 50, 10, 30, 60].map(read));
    // Of 50, the first that waits when the batch with 20 has ended, the next one goes on with 60.
    assert_eq!(waiting.order(), [20, 30, 50, 60, 10]);
}

#[test]
fn reads_go_first_but_writes_do_not_starve() {
    let deadline = Deadline {
        batch: 1,
        writes_starved: 2,
        ..Deadline::default()
    };
    let mut waiting = one_at_a_time(|queue| queue.scheduler(sorted(deadline)));
    waiting.submit(read(0));
    waiting.submit_all([2, 4].map(write));
    waiting.submit_all([10, 12, 14, 16, 18].map(read));
    assert_eq!(waiting.order(), [0, 10, 12, 2, 14, 16, 4, 18]);
}

#[test]
fn a_write_that_is_waited_for_is_due_before_others() {
    let deadline = Deadline {
        read_expiry: Duration::ZERO,
        batch: 1,
        ..Deadline::default()
    };
    for waited in [Bio::sync, Bio::meta] {
        let mut waiting = one_at_a_time(|queue| queue.scheduler(sorted(deadline)));
        waiting.submit_all([0, 10, 20].map(write));
        waiting.submit(waited(write(30)));
        assert_eq!(waiting.order(), [0, 30, 10, 20]);
    }
}

#[test]
fn a_write_that_is_waited_for_is_due_before_others_also_as_a_part_of_one_that_is_not() {
    let deadline = Deadline {
        read_expiry: Duration::ZERO,
        batch: 1,
        ..Deadline::default()
    };
    let zeroes = |block| Bio::write_zeroes(DiskRun::new(DiskBlock(block), 1));
    for make in [write, zeroes] {
        let waited = |block| make(block).sync();
        let pairs = [
            [make(30), waited(31)],
            [waited(30), make(31)],
            [make(31), waited(30)],
            [waited(31), make(30)],
        ];
        for pair in pairs {
            for in_a_batch in [false, true] {
                let mut waiting = one_at_a_time(|queue| queue.scheduler(sorted(deadline)));
                waiting.submit_all([0, 10, 20].map(make));
                match in_a_batch {
                    true => {
                        let mut batch = waiting.queue.batch();
                        pair.iter().cloned().for_each(|bio| batch.push(bio));
                        waiting.handles.extend(batch.submit());
                    }
                    false => waiting.submit_all(pair.clone()),
                }
                let got: Vec<_> = waiting
                    .end()
                    .iter()
                    .map(|(_, at, len)| (*at, *len))
                    .collect();
                let expected = [(0, 1), (30, 2), (10, 1), (20, 1)];
                assert_eq!(got, expected, "{pair:?}, in a batch: {in_a_batch}");
            }
        }
    }
}

#[test]
fn of_a_run_in_several_commands_those_are_due_before_others_that_are_waited_for() {
    let deadline = Deadline {
        read_expiry: Duration::ZERO,
        batch: 1,
        ..Deadline::default()
    };
    let mut waiting = one_at_a_time(|queue| queue.scheduler(sorted(deadline)));
    waiting.submit(write(0));
    let mut batch = waiting.queue.batch();
    // Eight blocks are a whole command.
    (10..26).for_each(|block| batch.push(write(block)));
    batch.push(write(26).sync());
    waiting.handles.extend(batch.submit());
    assert_eq!(waiting.order(), [0, 26, 10, 18]);
}

#[test]
fn urgent_bios_go_first_and_idle_ones_last_until_they_are_old() {
    let bios = || {
        let with = |priority| move |block| read(block).with_priority(priority);
        [
            read(0),
            with(Priority::Idle)(10),
            read(20),
            with(Priority::Urgent)(30),
        ]
    };
    let mut waiting = one_at_a_time(|queue| queue.scheduler(sorted(Deadline::default())));
    waiting.submit_all(bios());
    assert_eq!(waiting.order(), [0, 30, 20, 10]);
    let old = Deadline {
        aging: Duration::ZERO,
        ..Deadline::default()
    };
    let mut waiting = one_at_a_time(|queue| queue.scheduler(sorted(old)));
    waiting.submit_all(bios());
    assert_eq!(waiting.order(), [0, 20, 10, 30]);
}

#[test]
fn what_waits_is_merged_in_front_and_behind_within_the_limits() {
    for scheduler in [Scheduler::None, sorted(Deadline::default())] {
        let mut waiting = one_at_a_time(|queue| queue.scheduler(scheduler));
        waiting.submit_all([100, 11, 12, 10, 9, 13, 8, 7, 14].map(write));
        // Eight blocks are a whole command.
        waiting.submit(write(15));
        assert_eq!(
            waiting.end(),
            [(Write, 100, 1), (Write, 7, 8), (Write, 15, 1)]
        );
        assert_eq!(waiting.counters.snapshot().bios_merged, 7);
        for block in 7..16 {
            let mut data = [0xee; BLOCK as usize];
            waiting.device.read_at(block * BLOCK, &mut data).unwrap();
            assert_eq!(data, [block as u8; BLOCK as usize]);
        }
    }
}

#[test]
fn what_waits_is_merged_into_no_more_buffers_than_a_command_takes() {
    for scheduler in [Scheduler::None, sorted(Deadline::default())] {
        let limits = Limits {
            asynchronous: true,
            depth: 1,
            max_segments: 3,
            ..Limits::default()
        };
        let mut waiting = new(limits, Ends::WhenTold, |queue| queue.scheduler(scheduler));
        // Neither behind three nor in front of them is room for one more.
        waiting.submit_all([100, 11, 12, 10, 13, 14, 9].map(write));
        let expected = [
            (Write, 100, 1),
            (Write, 10, 3),
            (Write, 13, 2),
            (Write, 9, 1),
        ];
        assert_eq!(waiting.end(), expected);
        assert_eq!(waiting.counters.snapshot().bios_merged, 3);
    }
}

#[test]
fn what_waits_is_not_merged_with_another_kind_or_priority_nor_with_what_must_be_durable() {
    for scheduler in [Scheduler::None, sorted(Deadline::default())] {
        let mut waiting = one_at_a_time(|queue| queue.scheduler(scheduler));
        waiting.submit(write(100));
        waiting.submit(write(10));
        waiting.submit(write(11).fua());
        waiting.submit(write(12));
        waiting.submit(read(13));
        waiting.submit(write(14).with_priority(Priority::Idle));
        waiting.submit(write(15));
        let got = waiting.end();
        assert!(got.iter().all(|(_, _, len)| *len <= 1), "{got:?}");
        assert_eq!(got.iter().filter(|(kind, ..)| *kind == Flush).count(), 1);
    }
}

#[test]
fn who_does_not_want_to_wait_is_refused_by_a_full_queue() {
    let mut waiting = one_at_a_time(|queue| queue.max_waiting(1));
    waiting.submit_all([0, 10].map(read));
    let (buffers, refused) = waiting.queue.submit(write(20).nowait()).finish();
    assert_eq!(refused, Err(Error::WouldBlock));
    assert_eq!(buffers.to_vec(), [20; BLOCK as usize]);
    assert!(waiting.device.end_oldest());
    waiting.submit(write(20).nowait());
    assert_eq!(waiting.order(), [0, 10, 20]);
}

#[test]
fn who_waits_for_room_gets_it() {
    let mut waiting = one_at_a_time(|queue| queue.max_waiting(1));
    waiting.submit_all([0, 10].map(read));
    thread::scope(|scope| {
        let third = scope.spawn(|| waiting.queue.submit(read(20)));
        while !third.is_finished() {
            waiting.device.end_oldest();
            thread::yield_now();
        }
        waiting.handles.push(third.join().unwrap());
    });
    assert_eq!(waiting.order(), [0, 10, 20]);
}

/// What a writer in a device waits for, twice.
struct Gate {
    inside: Barrier,
    leave: Barrier,
}

/// A device for one thread, in which writers wait.
fn gated() -> (Arc<dyn BlockDevice>, Arc<Gate>) {
    let [inside, leave] = [2, 2].map(Barrier::new);
    let gate = Arc::new(Gate { inside, leave });
    let passed = Arc::clone(&gate);
    let memory = Arc::new(MemoryDevice::new(64 * BLOCK));
    let device = Around::new(memory, move |operation, carry_out| {
        if operation.kind == Write {
            passed.inside.wait();
            passed.leave.wait();
        }
        carry_out()
    });
    let one = Limits {
        depth: 1,
        ..Limits::default()
    };
    (Arc::new(device.with_limits(one)), gate)
}

#[test]
fn who_does_not_want_to_wait_is_refused_by_a_device_that_is_busy() {
    let (device, gate) = gated();
    let block_size = BlockSize::new(BLOCK).unwrap();
    let queue = BlockQueue::new(device, block_size, Arc::default());
    for scheduler in [Scheduler::None, sorted(Deadline::default())] {
        queue.set_scheduler(scheduler);
        let refused = thread::scope(|scope| {
            let writer = scope.spawn(|| queue.submit(write(0)).finish().1);
            gate.inside.wait();
            assert_eq!(queue.depth().in_flight, 1);
            let (sender, ended) = channel();
            let queue = &queue;
            scope.spawn(move || sender.send(queue.submit(read(10).nowait()).finish().1));
            // One that waits would wait for the writer.
            let refused = ended.recv_timeout(LONG);
            gate.leave.wait();
            assert_eq!(writer.join().unwrap(), Ok(()));
            refused
        });
        assert_eq!(refused, Ok(Err(Error::WouldBlock)), "{scheduler:?}");
        assert_eq!(queue.submit(read(10).nowait()).finish().1, Ok(()));
    }
}

#[test]
fn who_waits_for_a_device_that_is_busy_does_so_beside_who_does_not_in_one_batch() {
    let (device, gate) = gated();
    let block_size = BlockSize::new(BLOCK).unwrap();
    let queue = BlockQueue::new(device, block_size, Arc::default());
    let queue = queue.scheduler(sorted(Deadline::default()));
    thread::scope(|scope| {
        scope.spawn(|| queue.submit(write(0)).finish().1);
        gate.inside.wait();
        let batch = scope.spawn(|| {
            let mut batch = queue.batch();
            batch.push(read(10).nowait());
            batch.push(read(11));
            let ends: Vec<_> = batch.finish().map(|(_, result)| result).collect();
            ends
        });
        while queue.depth().waiting == 0 && !batch.is_finished() {
            thread::yield_now();
        }
        gate.leave.wait();
        assert_eq!(batch.join().unwrap(), [Err(Error::WouldBlock), Ok(())]);
    });
    let stats = queue.depth();
    assert_eq!((stats.waiting, stats.in_flight), (0, 0));
}

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
fn a_bio_in_more_buffers_than_a_command_takes_is_cut_between_blocks() {
    for asynchronous in [false, true] {
        for (most, each) in [(3, 200), (4, 1000), (2, 100), (1, 700)] {
            let limits = Limits {
                asynchronous,
                max_segments: most,
                ..Limits::default()
            };
            let waiting = new(limits, Ends::AtOnce, |queue| queue);
            let whole: Vec<u8> = (0..16 * BLOCK).map(|at| (at / 7) as u8).collect();
            let buffers: Vec<_> = whole.chunks(each).map(Buffer::copy_of).collect();
            let written = waiting.queue.submit(Bio::write_from(DiskBlock(1), buffers));
            assert_eq!(written.finish().1, Ok(()));
            let memory: Vec<_> = whole
                .chunks(each)
                .map(|part| Buffer::zeroed(part.len()))
                .collect();
            let read = waiting.queue.submit(Bio::read_into(DiskBlock(1), memory));
            assert!(read.wait() == Ok(whole), "{most} of {each}");
            for command in waiting.device.take_log() {
                let bytes = command.offset | command.len;
                assert!(bytes.is_multiple_of(BLOCK), "{command:?}");
                // As many as a single block may come in, which cannot be cut.
                let of_a_block = BLOCK.div_ceil(each as u64) as usize + 1;
                assert!(command.segments <= most.max(of_a_block), "{command:?}");
            }
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

#[test]
fn a_file_written_in_shuffled_blocks_goes_in_the_fewest_commands() {
    let mut random = Random(1);
    for asynchronous in [false, true] {
        let limits = Limits {
            asynchronous,
            ..Limits::default()
        };
        let waiting = new(limits, Ends::AtOnce, |queue| {
            queue.max_request_bytes(256 * BLOCK)
        });
        let mut blocks: Vec<u64> = (100..1200).collect();
        for place in (1..blocks.len()).rev() {
            blocks.swap(place, random.below(place as u64 + 1) as usize);
        }
        let mut batch = waiting.queue.batch();
        blocks
            .into_iter()
            .for_each(|block| batch.push(write(block)));
        batch.submit_and_wait().unwrap();
        let log = waiting.device.take_log();
        let lens: Vec<_> = log.iter().map(|command| command.len / BLOCK).collect();
        assert_eq!(lens, [256, 256, 256, 256, 76]);
    }
}
