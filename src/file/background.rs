//! Writeback that nobody has asked for, in one thread of a volume, and writers who wait for it.
//!
//! The thread starts when there is something to do for it, knows the volume's files only as long as the volume
//! lives, and has ended when the volume is dropped. A writer who is ahead of the device waits, with no lock held, until
//! less is dirty, or until everything that was dirty when he came has been tried once: a device or store that
//! fails holds nobody up for ever. A device that does not answer does, until the wait is cancelled or the volume dropped.
//! Where the system has no thread to give, the writer does its work.

use std::fmt;
use std::sync::Weak;
use std::time::Duration;

use crossbeam_skiplist::SkipMap;

use crate::error::{Error, Result};
use crate::probe::{Mutation, Probe};
use crate::spans::span;
use crate::stats::{Counter, Counters};
use crate::sync::atomic::AtomicU64;
use crate::sync::uncounted::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use crate::sync::{Arc, Condvar, Mutex, Rank, thread};
use crate::units::FileNumber;

use super::inode::Inode;
use super::memory::PageMemory;

/// The files of a volume that were opened.
pub(super) type Files = SkipMap<FileNumber, Arc<Inode>>;

/// The thread looks for old pages no more often, however young those may be.
const SHORTEST_WAIT: Duration = Duration::from_millis(5);
/// Files written back at once.
const FILES_AT_ONCE: usize = 4;

/// When pages are written back in the background.
#[derive(Clone, Copy, Debug)]
pub(super) struct DirtyLimits {
    /// From so many dirty pages on.
    pub(super) background: u64,
    /// From so many on writers wait.
    pub(super) most: u64,
    /// When the oldest dirty page of a file is so old.
    pub(super) age: Option<Duration>,
}

/// The waits of the calls on one open file.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// How often they were cancelled; changes under the lock that writers wait with.
    cancelled: AtomicU64,
}

/// The writeback of one volume.
pub(super) struct Background {
    memory: Arc<PageMemory>,
    /// Nothing is written in the background, and nobody waits, where there are none.
    limits: Option<DirtyLimits>,
    files: Weak<Files>,
    /// The thread knows that everything is wanted: nobody needs to tell it.
    told: AtomicBool,
    /// There is, or was, a thread, and perhaps somebody who waits for it.
    started: AtomicBool,
    state: Mutex<State>,
    /// The thread waits here for something to do.
    work: Condvar,
    /// Writers wait here.
    progress: Condvar,
    counters: Arc<Counters>,
    probe: Probe,
}

#[derive(Debug, Default)]
struct State {
    thread: Option<thread::JoinHandle<()>>,
    /// No thread will do anything any more.
    ended: bool,
    /// A pass over all that is dirty is wanted.
    wanted: bool,
    passes_begun: u64,
    /// The last pass that has ended.
    last_pass: u64,
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Background")
            .field("limits", &self.limits)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Background {
    pub(super) fn new(
        memory: Arc<PageMemory>,
        limits: Option<DirtyLimits>,
        files: Weak<Files>,
        counters: Arc<Counters>,
        probe: Probe,
    ) -> Self {
        Self {
            memory,
            limits,
            files,
            told: AtomicBool::new(false),
            started: AtomicBool::new(false),
            state: Mutex::new(Rank::Background, State::default()),
            work: Condvar::default(),
            progress: Condvar::default(),
            counters,
            probe,
        }
    }

    pub(super) fn memory(&self) -> &Arc<PageMemory> {
        &self.memory
    }

    /// Before somebody makes pages dirty, who holds no lock: has the thread write back if enough is dirty, and waits
    /// if too much is.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when the wait is [cancelled](Self::cancel).
    pub(super) fn before_dirtying(self: &Arc<Self>, waits: &Waits) -> Result<()> {
        let Some(limits) = self.limits else {
            return Ok(());
        };
        let dirty = self.memory.dirty();
        if dirty >= limits.most {
            return self.wait_for_room(limits.most, waits);
        }
        // Where no thread can be started, the next writer tries again.
        if dirty >= limits.background && !self.told.load(Relaxed) {
            self.tell(&mut self.state.lock());
        } else if limits.age.is_some() && !self.started.load(Relaxed) {
            self.start(&mut self.state.lock());
        }
        Ok(())
    }

    /// Has the thread write back everything; whether there is one.
    fn tell(self: &Arc<Self>, state: &mut State) -> bool {
        let is_there = self.start(state);
        self.told.store(is_there, Relaxed);
        state.wanted = true;
        self.work.notify_one();
        is_there
    }

    /// Starts the thread if it is not there yet; whether it is there now, or was.
    fn start(self: &Arc<Self>, state: &mut State) -> bool {
        if !state.ended && !self.started.load(Relaxed) {
            let background = Arc::clone(self);
            state.thread = start_thread(&self.probe, move || background.run());
            self.started.store(state.thread.is_some(), Relaxed);
        }
        state.ended || self.started.load(Relaxed)
    }

    fn wait_for_room(self: &Arc<Self>, most: u64, waits: &Waits) -> Result<()> {
        let mut state = self.state.lock();
        let before = waits.cancelled.load(Relaxed);
        // Counted under the lock: a wait that was seen in the counter can be cancelled.
        self.counters.count(Counter::WritersThrottled);
        if !self.tell(&mut state) {
            drop(state);
            self.pass(true, None);
            return Ok(());
        }
        // The pass under way may have come by what is dirty now; the next one has tried everything.
        let enough = state.passes_begun + 1;
        let room_only = self.probe.is(Mutation::WaitForRoomOnly);
        while self.memory.dirty() >= most && (state.last_pass < enough || room_only) && !state.ended
        {
            if waits.cancelled.load(Relaxed) != before {
                return Err(Error::Interrupted);
            }
            state = self.progress.wait(state);
        }
        Ok(())
    }

    /// Ends the waits of one open file that have begun.
    pub(super) fn cancel(&self, waits: &Waits) {
        // Whoever has looked waits by the time that the lock is free.
        let _state = self
            .probe
            .unless(Mutation::CancelBesideLooks, || self.state.lock());
        waits.cancelled.fetch_add(1, Relaxed);
        self.progress.notify_all();
    }

    /// Less may be dirty than before. No folio lock is held.
    pub(super) fn progressed(&self) {
        if self.started.load(Relaxed) {
            // Whoever has seen too much waits by the time that this lock is free. Who comes just now is told at the
            // end of the pass.
            let _state = self.state.lock();
            self.progress.notify_all();
        }
    }

    /// Ends the thread, and waits for what it is doing.
    fn end(&self) {
        let thread = {
            let mut state = self.state.lock();
            state.ended = true;
            self.work.notify_all();
            self.progress.notify_all();
            state.thread.take()
        };
        if let Some(thread) = thread
            && !self.probe.is(Mutation::LeaveWritebackBehind)
            && !std::thread::panicking()
        {
            // A panic in it was told where it happened.
            let _ended = thread.join();
        }
    }

    /// What the thread does.
    fn run(self: &Arc<Self>) {
        let _gone = Gone(self);
        let age = self.limits.and_then(|limits| limits.age);
        while let Some((pass, everything)) = self.next_pass(age) {
            self.pass(everything, age);
            self.state.lock().last_pass = pass;
            self.progress.notify_all();
        }
    }

    /// Waits for something to do: the number of a pass, and whether it is over everything or only over what is
    /// old. Nothing at the end of the volume.
    fn next_pass(&self, age: Option<Duration>) -> Option<(u64, bool)> {
        let mut state = self.state.lock();
        let mut is_time = false;
        while !state.ended && !state.wanted && !is_time {
            (state, is_time) = match age {
                Some(age) => self.work.wait_for(state, (age / 4).max(SHORTEST_WAIT)),
                None => (self.work.wait(state), false),
            };
        }
        if state.ended {
            return None;
        }
        let everything = std::mem::take(&mut state.wanted);
        // What becomes dirty from here on may need another pass, and somebody who tells.
        self.told.store(false, Relaxed);
        state.passes_begun += 1;
        Some((state.passes_begun, everything))
    }

    /// Writes the dirty pages of all files back, those that are dirty longest first, or those that are older than
    /// `age` only.
    fn pass(&self, everything: bool, age: Option<Duration>) {
        span!(DEBUG, "background_pass", everything);
        let Some(files) = self.files.upgrade() else {
            return;
        };
        self.counters.count(Counter::BackgroundPasses);
        let now = self.memory.now();
        let is_old = |inode: &Inode| {
            let age = age.map_or(u128::MAX, |age| age.as_millis());
            u128::from(now.saturating_sub(inode.pages.dirty_pages.since())) >= age
        };
        let mut chosen: Vec<Arc<Inode>> = files
            .iter()
            .map(|entry| Arc::clone(entry.value()))
            .filter(|inode| inode.pages.dirty_pages.count() > 0 && (everything || is_old(inode)))
            .collect();
        drop(files);
        chosen.sort_by_key(|inode| inode.pages.dirty_pages.since());
        write_back_all(&self.probe, chosen);
    }
}

/// A thread for writeback, if the system has one to give.
fn start_thread(
    probe: &Probe,
    work: impl FnOnce() + Send + 'static,
) -> Option<thread::JoinHandle<()>> {
    let named = thread::Builder::new().name("writeback".into());
    let allowed = probe.unless(Mutation::StartNoThread, || named)?;
    allowed.spawn(work).ok()
}

/// Writes files back, a few at a time. Not in a pool that others share: those whom it waits for may wait for this.
fn write_back_all(probe: &Probe, inodes: Vec<Arc<Inode>>) {
    let helpers = FILES_AT_ONCE.min(inodes.len()).saturating_sub(1);
    let work = Arc::new((inodes, AtomicUsize::new(0)));
    let help = |work: &(Vec<Arc<Inode>>, AtomicUsize)| {
        while let Some(inode) = work.0.get(work.1.fetch_add(1, Relaxed)) {
            inode.write_back(0..u64::MAX);
        }
    };
    let helpers: Vec<_> = (0..helpers)
        .map_while(|_| {
            let work = Arc::clone(&work);
            start_thread(probe, move || help(&work))
        })
        .collect();
    help(&work);
    for helper in helpers {
        let _ended = helper.join();
    }
}

/// Nobody waits for a thread that is gone, also after a panic.
struct Gone<'a>(&'a Background);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.state.lock().ended = true;
        self.0.progress.notify_all();
    }
}

/// The volume's hold on its writeback, which ends with it.
#[derive(Debug)]
pub(super) struct WhileOpen(pub(super) Arc<Background>);

impl Drop for WhileOpen {
    fn drop(&mut self) {
        self.0.end();
    }
}
