//! The time that requests may take: a thread looks at it for those who do not wait in their own.

use std::sync::Weak;
use std::time::{Duration, Instant};

use crate::sync::uncounted::{AtomicBool, Ordering};
use crate::sync::{Arc, Condvar, Mutex, Rank, thread};

use super::command::Command;
use super::core::Core;
use super::flush::Waiter;

/// Starts the thread that tells who waits for what is late. There is one while anything of the queue has not ended, from
/// the first completion on: who waits for a handle looks at the time himself.
#[derive(Debug)]
pub(super) struct Timer {
    patience: Duration,
    /// Whether there was a completion.
    wanted: AtomicBool,
    state: Mutex<State>,
    /// The queue is gone.
    closed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    runs: bool,
    closed: bool,
}

/// What is late, and taken away from those who would tell of its end later.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) commands: Vec<Command>,
    pub(super) flushes: Vec<Waiter>,
    /// How long it is until more is late; nothing, if there is no more.
    left: Option<Duration>,
}

/// Tells what is late at one moment.
#[derive(Debug)]
pub(super) struct Clock {
    now: Instant,
    patience: Duration,
    left: Option<Duration>,
}

impl Clock {
    /// Whether what was submitted then should have ended.
    pub(super) fn is_late(&mut self, since: Instant) -> bool {
        let waited = self.now.saturating_duration_since(since);
        let left = self.patience.saturating_sub(waited);
        if left.is_zero() {
            return true;
        }
        self.left = Some(self.left.map_or(left, |least| least.min(left)));
        false
    }

    pub(super) fn found(self, commands: Vec<Command>, flushes: Vec<Waiter>) -> Late {
        Late {
            commands,
            flushes,
            left: self.left,
        }
    }
}

impl Timer {
    pub(super) fn new(patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            patience,
            wanted: AtomicBool::new(false),
            state: Mutex::new(Rank::Timer, State::default()),
            closed: Condvar::default(),
        })
    }

    /// There is a completion.
    pub(super) fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// Sees to what the caller lets wait, unless the thread is there: it looks again, under the lock, before it ends.
    pub(super) fn start(self: &Arc<Self>, core: &Weak<Core>) {
        if !self.wanted.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.state.lock();
        if state.runs {
            return;
        }
        let (timer, core) = (Arc::clone(self), Weak::clone(core));
        let named = thread::Builder::new().name("block timer".into());
        // Where no thread is to be had, whoever comes next tries again.
        state.runs = named.spawn(move || timer.run(&core)).is_ok();
    }

    fn run(&self, core: &Weak<Core>) {
        while let Some(core) = core.upgrade() {
            let mut state = self.state.lock();
            let late = core.late(self.clock());
            if late.is_nothing() {
                state.runs = false;
                return;
            }
            drop(state);
            let left = late.left.filter(|_| !late.is_any());
            core.tell_late(late);
            drop(core);
            let Some(left) = left else {
                // Telling may have taken a while.
                continue;
            };
            let state = self.state.lock();
            if state.closed {
                return;
            }
            drop(self.closed.wait_for(state, left));
        }
    }

    fn clock(&self) -> Clock {
        Clock {
            now: Instant::now(),
            patience: self.patience,
            left: None,
        }
    }

    /// Ends the thread.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.closed.notify_all();
    }
}

impl Late {
    fn is_any(&self) -> bool {
        !(self.commands.is_empty() && self.flushes.is_empty())
    }

    /// Nothing is late, and nothing will be.
    fn is_nothing(&self) -> bool {
        !self.is_any() && self.left.is_none()
    }
}
