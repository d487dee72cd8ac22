//! Requests in the hands of the kernel.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::thread;

use io_uring::squeue::Entry;
use io_uring::types::Fd;
use io_uring::{IoUring, opcode};
use rustix::io::{Errno, ReadWriteFlags};
use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::sync::{Mutex, Rank};

use super::super::{BlockDevice, DirectDevice, OperationKind, Request, check_range};
use super::part::Part;
use super::slots::{SLOT, Slots};
use super::{UringOptions, end};

/// How many requests the reaper may begin with before it shows them to the kernel. A disk that gets all of them
/// only when the last one is ready has nothing to do meanwhile: with 4, one did a fifth more than with 32.
const FEW: usize = 4;

/// Buffers that the kernel takes at once (`IOV_MAX`).
const MOST_PARTS: usize = 1024;

/// The mark of what ends nothing and only wakes the reaper.
const WAKE_UP: u64 = u64::MAX;

/// A ring, and everything that the kernel was told of by it.
pub(super) struct Ring {
    direct: DirectDevice,
    ring: IoUring,
    options: UringOptions,
    /// A slot for each request under way.
    slots: Slots,
    /// Whoever has it may push submissions. The completions belong to the reaper.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the kernel has, by number; a request stays here until its completion has been seen.
    under_way: Vec<Option<UnderWay>>,
    /// Numbers that nobody has.
    free: Vec<usize>,
    waiting: VecDeque<Request>,
    /// Requests laid out since the kernel was shown any.
    unseen: usize,
    stopping: bool,
}

/// A request in the hands of the kernel, with all memory that it reads or writes.
struct UnderWay {
    request: Request,
    in_slot: bool,
    /// What points to the buffers, where there are several.
    vector: SmallVec<[Part; 1]>,
}

/// What the kernel reads from or writes to.
enum Memory {
    One(*mut u8),
    Several(*const Part, u32),
}

impl Ring {
    /// A ring for what `direct` has open; someone must [`reap`](Self::reap).
    pub(super) fn new(direct: DirectDevice, options: UringOptions) -> Result<Self> {
        let mut builder = IoUring::builder();
        if options.polled {
            builder.setup_iopoll();
        }
        // One more, for waking the reaper.
        let ring = builder.build(options.depth as u32 + 1).map_err(refused)?;
        let slots = Slots::new(options.depth, &ring, options.registered);
        let state = State {
            under_way: (0..options.depth).map(|_| None).collect(),
            free: (0..options.depth).rev().collect(),
            ..State::default()
        };
        let ring = Self {
            direct,
            ring,
            options,
            slots,
            state: Mutex::new(Rank::Device, state),
        };
        if options.polled {
            ring.try_polling()?;
        }
        Ok(ring)
    }

    pub(super) fn direct(&self) -> &DirectDevice {
        &self.direct
    }

    pub(super) fn options(&self) -> UringOptions {
        self.options
    }

    /// Whether small requests go through registered memory.
    pub(super) fn is_registered(&self) -> bool {
        self.slots.registered
    }

    /// Lets the reaper end when nothing is under way any more. A polled one also has to be woken.
    pub(super) fn stop(&self) {
        let mut state = self.state.lock();
        state.stopping = true;
        if !self.options.polled {
            let wake_up = opcode::Nop::new().build().user_data(WAKE_UP);
            // SAFETY: the lock is held (U2), and a no-op points to nothing (U1).
            unsafe { self.push_entry(&wake_up) };
        }
        drop(state);
        if !self.options.polled {
            self.submit(0);
        }
    }

    /// Shows the kernel what has been laid out. The reaper does so by itself when it is done with what has ended.
    pub(super) fn submit_from(&self, reaper: bool) {
        if !reaper || self.state.lock().unseen >= FEW {
            self.submit(0);
        }
    }

    /// Refuses what would come back as an error, or worse, would not.
    fn check(&self, request: &Request) -> Result<()> {
        let Request { offset, len, .. } = *request;
        // Both are public. The kernel, and the copies to and from a slot, believe the length.
        let carries = matches!(request.kind, OperationKind::Read | OperationKind::Write);
        if carries && len != request.buffers.byte_len() {
            return Err(Error::InvalidInput(
                "a length that is not that of the buffers",
            ));
        }
        self.direct.check(offset, len)?;
        check_range(self.direct.size(), offset, len)?;
        match request.kind {
            // A write would make a truncated file grow again.
            OperationKind::Write => self.direct.backing().check("write", offset, len),
            _ => Ok(()),
        }
    }

    /// Whether a request goes through its slot, if the kernel can have it at all.
    fn way(&self, request: &Request) -> Option<bool> {
        match request.kind {
            OperationKind::Read | OperationKind::Write => {
                let fits = request.len <= SLOT as u64;
                let aligned = request.buffers.iter().all(|part| self.direct.takes(part));
                match fits && (self.slots.registered || !aligned) {
                    true => Some(true),
                    false => (aligned && request.buffers.len() <= MOST_PARTS).then_some(false),
                }
            }
            OperationKind::Flush | OperationKind::Discard | OperationKind::WriteZeroes => None,
        }
    }

    /// Lays a request out for the kernel, which has not seen it when this returns. Returns whether it will; else the
    /// request has ended.
    pub(super) fn begin(&self, mut request: Request) -> bool {
        if let Err(error) = self.check(&request) {
            request.complete(Err(error));
            return false;
        }
        if self.way(&request).is_none() {
            let result = request.carry_out(&self.direct);
            request.complete(result);
            return false;
        }
        let mut state = self.state.lock();
        match state.free.pop() {
            Some(number) => self.push(&mut state, number, request),
            None => state.waiting.push_back(request),
        }
        true
    }

    /// Puts a request that has been checked into the queue of submissions, as this number.
    fn push(&self, state: &mut State, number: usize, request: Request) {
        let in_slot = self.way(&request) == Some(true);
        state.unseen += 1;
        let under_way = state.under_way[number].insert(UnderWay {
            request,
            in_slot,
            vector: SmallVec::new(),
        });
        let entry = self.entry(number, under_way).user_data(number as u64);
        // SAFETY: the lock is held (U2). What the entry points to, the request, its slot and its vector, stays
        // where it is until the completion has been seen: `under_way` keeps it (U1). It is as long as the entry
        // says (U4).
        unsafe { self.push_entry(&entry) };
    }

    /// # Safety
    /// The lock of the state is held (U2), and what `entry` points to outlives its completion (U1).
    unsafe fn push_entry(&self, entry: &Entry) {
        // SAFETY: whoever has the lock of the state is the only one with this queue (U2). The memory is the
        // caller's promise (U1).
        let pushed = unsafe { self.ring.submission_shared().push(entry) };
        pushed.expect("the queue has room for all numbers and a wake-up");
    }

    /// What tells the kernel to carry out a read or write.
    fn entry(&self, number: usize, under_way: &mut UnderWay) -> Entry {
        let file = Fd(self.direct.backing().file().as_raw_fd());
        let memory = self.memory(number, under_way);
        let request = &under_way.request;
        let (offset, len) = (request.offset, request.len as u32);
        let durable = match request.fua {
            true => ReadWriteFlags::DSYNC.bits().cast_signed(),
            false => 0,
        };
        let fixed = under_way.in_slot && self.slots.registered;
        match (request.kind == OperationKind::Read, memory) {
            (true, Memory::One(to)) if fixed => opcode::ReadFixed::new(file, to, len, 0)
                .offset(offset)
                .build(),
            (true, Memory::One(to)) => opcode::Read::new(file, to, len).offset(offset).build(),
            (true, Memory::Several(parts, count)) => opcode::Readv::new(file, parts.cast(), count)
                .offset(offset)
                .build(),
            (false, Memory::One(from)) if fixed => opcode::WriteFixed::new(file, from, len, 0)
                .offset(offset)
                .rw_flags(durable)
                .build(),
            (false, Memory::One(from)) => opcode::Write::new(file, from, len)
                .offset(offset)
                .rw_flags(durable)
                .build(),
            (false, Memory::Several(parts, count)) => {
                opcode::Writev::new(file, parts.cast(), count)
                    .offset(offset)
                    .rw_flags(durable)
                    .build()
            }
        }
    }

    /// Where the kernel finds or puts the bytes of a request; what is written in a slot is there then.
    fn memory(&self, number: usize, under_way: &mut UnderWay) -> Memory {
        let request = &mut under_way.request;
        let reads = request.kind == OperationKind::Read;
        if under_way.in_slot {
            if !reads {
                self.slots.fill(number, request);
            }
            return Memory::One(self.slots.at(number));
        }
        let parts = request.buffers.iter_mut().map(|buffer| Part {
            // What is only read may be shared, and stays so.
            start: match reads {
                true => buffer.as_mut_ptr(),
                false => buffer.as_ptr().cast_mut(),
            },
            len: buffer.len(),
        });
        under_way.vector.extend(parts);
        match &under_way.vector[..] {
            [part] => Memory::One(part.start),
            parts => Memory::Several(parts.as_ptr(), parts.len() as u32),
        }
    }

    /// Shows the kernel what has been laid out, and waits until `ended` of what it has have ended.
    fn submit(&self, ended: usize) {
        self.state.lock().unseen = 0;
        // The kernel is interrupted or short of memory; it has taken nothing, or not all.
        while self.ring.submitter().submit_and_wait(ended).is_err() {
            thread::yield_now();
        }
    }

    /// Ends requests until the device does and none is left. Nothing gets out of here before: whoever waits for the reaper
    /// frees what the kernel may read and write until then (U1).
    pub(super) fn reap(&self) {
        if catch_unwind(AssertUnwindSafe(|| self.end_requests())).is_err() {
            process::abort();
        }
    }

    fn end_requests(&self) {
        let (mut ended, mut finished) = (Vec::new(), Vec::new());
        loop {
            if self.options.polled {
                // The kernel polls for as long as anything is under way, and returns at once if nothing is.
                while self.is_idle() {
                    if self.state.lock().stopping {
                        return;
                    }
                    thread::park();
                }
            }
            self.submit(1);
            // SAFETY: only the reaper, and before there is one its maker, looks at completions (U2).
            let completions = unsafe { self.ring.completion_shared() };
            ended.extend(completions.map(|entry| (entry.user_data(), entry.result())));
            self.end_all(&mut ended, &mut finished);
            if self.is_idle() && self.state.lock().stopping {
                return;
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.state.lock().free.len() == self.options.depth
    }

    /// Ends the requests with these numbers and results, and begins with others in their place.
    fn end_all(&self, ended: &mut Vec<(u64, i32)>, finished: &mut Vec<(Request, Result<()>)>) {
        for (number, result) in ended.drain(..) {
            if number == WAKE_UP {
                continue;
            }
            let number = number as usize;
            let taken = self.state.lock().under_way[number].take();
            let mut under_way = taken.expect("a completion for each submission");
            let outcome = self.outcome(number, result, &mut under_way);
            finished.push((under_way.request, outcome));
            let mut state = self.state.lock();
            match state.waiting.pop_front() {
                Some(next) => self.push(&mut state, number, next),
                None => state.free.push(number),
            }
        }
        for (request, outcome) in finished.drain(..) {
            end(request, outcome);
        }
    }

    /// What became of a request that the kernel has ended.
    fn outcome(&self, number: usize, result: i32, under_way: &mut UnderWay) -> Result<()> {
        let request = &mut under_way.request;
        let outcome = match u64::try_from(result) {
            Ok(done) if done == request.len => {
                if under_way.in_slot && request.kind == OperationKind::Read {
                    self.slots.empty(number, request);
                }
                Ok(())
            }
            Err(_) if !is_passing(result) => {
                let error = io::Error::from_raw_os_error(-result);
                Err(Error::io(request.kind.name(), request.offset, &error))
            }
            // Not all of it, or not now: once more from the start, as the operations that block do it.
            _ => request.carry_out(&self.direct),
        };
        match request.kind == OperationKind::Write && request.fua {
            true => self.direct.backing().tell_synced(outcome),
            false => outcome,
        }
    }

    /// Reads the first block by polling, before there is a reaper. Where a file has none, this shows nothing.
    fn try_polling(&self) -> Result<()> {
        let len = self.direct.limits().alignment as u32;
        if self.direct.size() < u64::from(len) {
            return Ok(());
        }
        let file = Fd(self.direct.backing().file().as_raw_fd());
        let entry = opcode::Read::new(file, self.slots.at(0), len).build();
        let state = self.state.lock();
        // SAFETY: the lock is held (U2). Nobody has the first slot yet (U3), a block fits into it (U4), and this
        // waits for the completion (U1).
        unsafe { self.push_entry(&entry) };
        drop(state);
        let done = loop {
            self.submit(1);
            // SAFETY: there is no reaper yet, and nobody else has the ring (U2).
            let mut completions = unsafe { self.ring.completion_shared() };
            // The kernel may come back before there is one: on a signal, say.
            if let Some(entry) = completions.next() {
                break entry.result();
            }
        };
        match done {
            0.. => Ok(()),
            _ => Err(Error::NotSupported("io_uring: polling of this disk")),
        }
    }
}

/// Whether the kernel might do what it refused when it is asked again, without polling.
fn is_passing(result: i32) -> bool {
    let passing = [Errno::AGAIN, Errno::INTR, Errno::OPNOTSUPP];
    passing.iter().any(|errno| errno.raw_os_error() == -result)
}

/// What it means that there is no ring.
fn refused(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported => {
            Error::NotSupported("io_uring: the kernel has none or does not let this process use it")
        }
        _ => Error::io("io_uring_setup", 0, &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_of_the_kernel_is_a_reason_to_do_without() {
        for errno in [Errno::PERM, Errno::ACCESS, Errno::NOSYS] {
            let error = refused(io::Error::from(errno));
            assert!(matches!(error, Error::NotSupported(_)), "{error}");
        }
        let error = refused(io::Error::from(Errno::MFILE));
        assert!(matches!(error, Error::Io(io) if io.errno == 24), "{error}");
    }
}
