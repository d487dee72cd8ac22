//! What waits in front of a device: its order, merging and bounds.

use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use extent_map::Error;
use extent_map::block::{Bio, BlockQueue, Deadline, Priority, Scheduler};
use extent_map::device::OperationKind::{Flush, Write};
use extent_map::device::{BlockDevice, Buffer, Limits, MemoryDevice};
use extent_map::units::{BlockSize, DiskBlock, DiskRun};

#[path = "common/around.rs"]
mod around;
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

use around::Around;
use commands::Ends;
use random::Random;
use waiting::{BLOCK, LONG, new, one_at_a_time, read, sorted, write};

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
