//! A device whose requests the kernel works on while nobody waits: `io_uring`.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr;
use std::slice;
use std::thread::{self, JoinHandle};

use io_uring::squeue::Entry;
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, opcode};
use rustix::io::{Errno, ReadWriteFlags};
use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::sync::{Arc, Mutex, Rank};

use super::{BlockDevice, Buffer, DirectDevice, Limits, OperationKind, Request, check_range};

/// Bytes that a request may have to go through registered memory.
const SLOT: usize = 16 << 10;

/// The mark of what ends nothing and only wakes the reaper.
const WAKE_UP: u64 = u64::MAX;

/// How a [`UringDevice`] works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UringOptions {
    /// Requests that the kernel has at the same time, at least 1; further ones wait.
    pub depth: usize,
    /// Whether requests of up to 16 KiB are copied to and from memory that the kernel knows beforehand, which spares it
    /// finding the pages of each. Where it refuses to know memory (it counts as locked), it is not used.
    pub registered: bool,
    /// Whether the kernel asks the disk instead of waiting to be told. Takes a processor while anything is under way, and
    /// a disk and driver made for it.
    pub polled: bool,
}

impl Default for UringOptions {
    /// 128 requests, registered memory, no polling.
    fn default() -> Self {
        Self {
            depth: 128,
            registered: true,
            polled: false,
        }
    }
}

/// A device in a regular file or on a block device, like [`DirectDevice`] and with the same rules, that carries out
/// requests by `io_uring`. They end in a thread of the device.
///
/// Reads, writes (durable ones too) and flushes that are [started](BlockDevice::start) go to the kernel at once, all of
/// one [`start_all`](BlockDevice::start_all) by one call. The operations that block are those of a direct device, and
/// so are the rare requests that the kernel would not take as they are: larger than 16 KiB in memory that is not
/// aligned, discards, zeros, and flushes of a polled device.
pub struct UringDevice {
    shared: Arc<Shared>,
    reaper: Option<JoinHandle<()>>,
}

struct Shared {
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
    stopping: bool,
}

/// A request in the hands of the kernel, with all memory that it reads or writes.
struct UnderWay {
    request: Request,
    in_slot: bool,
    /// What points to the buffers, where there are several.
    vector: SmallVec<[Part; 1]>,
}

/// Where a buffer is, laid out as the system's `iovec`.
#[repr(C)]
struct Part {
    start: *mut u8,
    len: usize,
}

// SAFETY: it only says where memory is that belongs to the request beside it.
unsafe impl Send for Part {}

/// What the kernel reads from or writes to.
enum Memory {
    One(*mut u8),
    Several(*const Part, u32),
}

/// Memory for small requests, each with a slot of its own.
struct Slots {
    start: *mut u8,
    /// Whether the kernel knows it, as one buffer.
    registered: bool,
    /// Keeps it alive.
    _memory: Buffer,
}

// SAFETY: the memory behind `start` belongs to this value and moves with it; who touches which slot is decided by
// who has the slot's number, which one request has at a time.
unsafe impl Send for Slots {}
// SAFETY: as above; `&Slots` gives no access without such a number.
unsafe impl Sync for Slots {}

impl Slots {
    /// Memory for so many slots, which `ring` is told of beforehand if it should `register` it.
    fn new(slots: usize, ring: &IoUring, register: bool) -> Self {
        let mut memory = Buffer::zeroed(slots * SLOT);
        let start = memory.as_mut_ptr();
        let part = Part {
            start,
            len: memory.len(),
        };
        // SAFETY: `Part` has the layout that is asked for. The memory stays where it is while the ring exists: `Shared` has
        // both, and drops the ring first.
        let registered = register
            && unsafe {
                let parts = slice::from_raw_parts((&raw const part).cast(), 1);
                ring.submitter().register_buffers(parts).is_ok()
            };
        Self {
            start,
            registered,
            _memory: memory,
        }
    }

    fn at(&self, number: usize) -> *mut u8 {
        // SAFETY: there are more slots than numbers.
        unsafe { self.start.add(number * SLOT) }
    }

    /// Copies what `request` writes into the slot of its number.
    fn fill(&self, number: usize, request: &Request) {
        let mut to = self.at(number);
        for buffer in &*request.buffers {
            // SAFETY: all buffers together fit into a slot, which nobody else uses while the request has its number.
            unsafe {
                ptr::copy_nonoverlapping(buffer.as_ptr(), to, buffer.len());
                to = to.add(buffer.len());
            }
        }
    }

    /// Copies what was read from the slot of its number into the buffers of `request`.
    fn empty(&self, number: usize, request: &mut Request) {
        let mut from = self.at(number).cast_const();
        for buffer in &mut *request.buffers {
            // SAFETY: as in `fill`; the kernel is done with the slot.
            unsafe {
                ptr::copy_nonoverlapping(from, buffer.as_mut_ptr(), buffer.len());
                from = from.add(buffer.len());
            }
        }
    }
}

impl UringDevice {
    /// Opens the file or block device at `path`.
    ///
    /// # Errors
    /// Those of [`DirectDevice::open`]; [`Error::NotSupported`] where the kernel does not let this process use
    /// `io_uring` (containers often forbid it) or cannot poll this disk: a [`DirectDevice`] does the same there.
    /// [`Error::InvalidInput`] for a depth of 0 or above 4096.
    pub fn open(path: impl AsRef<Path>, options: UringOptions) -> Result<Self> {
        Self::new(DirectDevice::open(path)?, options)
    }

    /// Works on what `direct` has open.
    ///
    /// # Errors
    /// As with [`open`](Self::open).
    pub fn new(direct: DirectDevice, options: UringOptions) -> Result<Self> {
        if !(1..=4096).contains(&options.depth) {
            return Err(Error::InvalidInput("depth of an io_uring"));
        }
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
        let shared = Arc::new(Shared {
            direct,
            ring,
            options,
            slots,
            state: Mutex::new(Rank::Device, state),
        });
        if options.polled {
            shared.try_polling()?;
        }
        let reaper = {
            let shared = Arc::clone(&shared);
            let named = thread::Builder::new().name("io_uring reaper".into());
            let spawned = named.spawn(move || shared.reap());
            spawned.map_err(|error| Error::io("start thread", 0, &error))?
        };
        Ok(Self {
            shared,
            reaper: Some(reaper),
        })
    }

    /// Whether small requests go through registered memory.
    pub fn is_registered(&self) -> bool {
        self.shared.slots.registered
    }
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

impl Shared {
    /// Refuses what would come back as an error, or worse, would not.
    fn check(&self, request: &Request) -> Result<()> {
        let Request { offset, len, .. } = *request;
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
                    false => aligned.then_some(false),
                }
            }
            OperationKind::Flush => (!self.options.polled).then_some(false),
            OperationKind::Discard | OperationKind::WriteZeroes => None,
        }
    }

    /// Lays a request out for the kernel, which has not seen it when this returns. Returns whether it will; else the
    /// request has ended.
    fn prepare(&self, mut request: Request) -> bool {
        if let Err(error) = self.check(&request) {
            request.complete(Err(error));
            return false;
        }
        let nothing = request.len == 0 && request.kind != OperationKind::Flush;
        if nothing || self.way(&request).is_none() {
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
        let under_way = state.under_way[number].insert(UnderWay {
            request,
            in_slot,
            vector: SmallVec::new(),
        });
        let entry = self.entry(number, under_way).user_data(number as u64);
        // SAFETY: what the entry points to, the request, its slot and its vector, stays where it is until the completion
        // has been seen: `under_way` keeps it.
        unsafe { self.push_entry(&entry) };
    }

    /// # Safety
    /// The lock of the state is held, and what `entry` points to outlives its completion.
    unsafe fn push_entry(&self, entry: &Entry) {
        // SAFETY: whoever has the lock of the state is the only one with this queue. The memory is the caller's promise.
        let pushed = unsafe { self.ring.submission_shared().push(entry) };
        pushed.expect("the queue has room for all numbers and a wake-up");
    }

    /// What tells the kernel to carry out a request.
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
        match (request.kind, memory) {
            (OperationKind::Read, Memory::One(to)) if fixed => {
                opcode::ReadFixed::new(file, to, len, 0)
                    .offset(offset)
                    .build()
            }
            (OperationKind::Read, Memory::One(to)) => {
                opcode::Read::new(file, to, len).offset(offset).build()
            }
            (OperationKind::Read, Memory::Several(parts, count)) => {
                opcode::Readv::new(file, parts.cast(), count)
                    .offset(offset)
                    .build()
            }
            (OperationKind::Write, Memory::One(from)) if fixed => {
                opcode::WriteFixed::new(file, from, len, 0)
                    .offset(offset)
                    .rw_flags(durable)
                    .build()
            }
            (OperationKind::Write, Memory::One(from)) => opcode::Write::new(file, from, len)
                .offset(offset)
                .rw_flags(durable)
                .build(),
            (OperationKind::Write, Memory::Several(parts, count)) => {
                opcode::Writev::new(file, parts.cast(), count)
                    .offset(offset)
                    .rw_flags(durable)
                    .build()
            }
            _ => opcode::Fsync::new(file).flags(FsyncFlags::DATASYNC).build(),
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
        // The kernel is interrupted or short of memory; it has taken nothing, or not all.
        while self.ring.submitter().submit_and_wait(ended).is_err() {
            thread::yield_now();
        }
    }

    /// Ends requests until the device does and none is left.
    fn reap(&self) {
        let mut ended = Vec::new();
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
            // SAFETY: only the reaper, and before there is one its maker, looks at completions.
            let completions = unsafe { self.ring.completion_shared() };
            ended.extend(completions.map(|entry| (entry.user_data(), entry.result())));
            self.end_all(&mut ended);
            if self.is_idle() && self.state.lock().stopping {
                return;
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.state.lock().free.len() == self.options.depth
    }

    /// Ends the requests with these numbers and results, and begins with others in their place.
    fn end_all(&self, ended: &mut Vec<(u64, i32)>) {
        let mut finished = Vec::with_capacity(ended.len());
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
        for (request, outcome) in finished {
            // Whoever hears of it must not take the reaper along: others wait for it.
            let _ = catch_unwind(AssertUnwindSafe(|| request.complete(outcome)));
        }
    }

    /// What became of a request that the kernel has ended.
    fn outcome(&self, number: usize, result: i32, under_way: &mut UnderWay) -> Result<()> {
        let request = &mut under_way.request;
        match u64::try_from(result) {
            Ok(done) if request.kind == OperationKind::Flush || done == request.len => {
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
        // SAFETY: the first slot is free, and this waits for the completion.
        unsafe { self.push_entry(&entry) };
        drop(state);
        self.submit(1);
        // SAFETY: there is no reaper yet.
        let mut completions = unsafe { self.ring.completion_shared() };
        match completions.next().map(|entry| entry.result()) {
            Some(done) if done >= 0 => Ok(()),
            _ => Err(Error::NotSupported("io_uring: polling of this disk")),
        }
    }
}

/// Whether the kernel might do what it refused when it is asked again, without polling.
fn is_passing(result: i32) -> bool {
    let passing = [Errno::AGAIN, Errno::INTR, Errno::OPNOTSUPP];
    passing.iter().any(|errno| errno.raw_os_error() == -result)
}

impl Drop for UringDevice {
    /// Waits until everything under way has ended.
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.stopping = true;
        if !self.shared.options.polled {
            let wake_up = opcode::Nop::new().build().user_data(WAKE_UP);
            // SAFETY: the lock is held, and a no-op points to nothing.
            unsafe { self.shared.push_entry(&wake_up) };
        }
        drop(state);
        if let Some(reaper) = self.reaper.take() {
            reaper.thread().unpark();
            if !self.shared.options.polled {
                self.shared.submit(0);
            }
            // The reaper itself may end the last one that has the device, and ends by itself.
            if reaper.thread().id() != thread::current().id() {
                let _ = reaper.join();
            }
        }
    }
}

impl BlockDevice for UringDevice {
    fn size(&self) -> u64 {
        self.shared.direct.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.shared.direct.read_at(offset, buffer)
    }

    fn read_vectored_at(&self, offset: u64, buffers: &mut [IoSliceMut<'_>]) -> Result<()> {
        self.shared.direct.read_vectored_at(offset, buffers)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.shared.direct.write_at(offset, data)
    }

    fn write_vectored_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<()> {
        self.shared.direct.write_vectored_at(offset, data)
    }

    fn flush(&self) -> Result<()> {
        self.shared.direct.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.shared.direct.discard(offset, len)
    }

    fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        self.shared.direct.write_zeroes(offset, len)
    }

    fn start(&self, request: Request) {
        self.start_all(&mut std::iter::once(request));
    }

    fn start_all(&self, requests: &mut dyn Iterator<Item = Request>) {
        let mut any = false;
        for request in requests {
            any |= self.shared.prepare(request);
        }
        let Some(reaper) = self.reaper.as_ref().filter(|_| any) else {
            return;
        };
        // The reaper submits when it is done with what has ended, all at once.
        if reaper.thread().id() != thread::current().id() {
            self.shared.submit(0);
            if self.shared.options.polled {
                reaper.thread().unpark();
            }
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            depth: self.shared.options.depth,
            asynchronous: true,
            native_fua: true,
            ..self.shared.direct.limits()
        }
    }
}

impl fmt::Debug for UringDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UringDevice")
            .field("direct", &self.shared.direct)
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}
