//! Flushes that are started. The kernel would carry each out in a thread of its own, beside all others, and then not
//! everybody hears of one that fails; here one thread does so for all.

use std::mem;
use std::thread::{self, JoinHandle};

use crate::error::{Error, Result};
use crate::sync::{Arc, Condvar, Mutex, Rank};

use super::super::{BlockDevice, Request};
use super::end;
use super::ring::Ring;

/// The thread that flushes.
pub(super) struct Flusher {
    orders: Arc<Orders>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is asked for.
struct Orders {
    state: Mutex<State>,
    /// There is something to do.
    came: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<Request>,
    stopping: bool,
}

impl Flusher {
    /// Flushes what `ring` writes to.
    pub(super) fn of(ring: Arc<Ring>) -> Result<Self> {
        let orders = Arc::new(Orders {
            state: Mutex::new(Rank::Device, State::default()),
            came: Condvar::default(),
        });
        let taken = Arc::clone(&orders);
        let named = thread::Builder::new().name("io_uring flusher".into());
        let spawned = named.spawn(move || taken.carry_out(&ring));
        let thread = spawned.map_err(|error| Error::io("start thread", 0, &error))?;
        Ok(Self {
            orders,
            thread: Some(thread),
        })
    }

    /// Begins with a flush.
    pub(super) fn start(&self, request: Request) {
        self.orders.state.lock().waiting.push(request);
        self.orders.came.notify_one();
    }
}

impl Orders {
    /// Flushes for all who came before it begins, until it is to stop and nobody waits.
    fn carry_out(&self, ring: &Ring) {
        loop {
            let mut state = self.state.lock();
            while state.waiting.is_empty() && !state.stopping {
                state = self.came.wait(state);
            }
            let requests = mem::take(&mut state.waiting);
            drop(state);
            if requests.is_empty() {
                return;
            }
            let outcome = ring.direct().flush();
            for request in requests {
                end(request, outcome.clone());
            }
        }
    }
}

impl Drop for Flusher {
    /// Waits until every flush that was started has ended.
    fn drop(&mut self) {
        self.orders.state.lock().stopping = true;
        self.orders.came.notify_one();
        if let Some(thread) = self.thread.take() {
            // It may itself end the last flush of somebody who has the device, and ends by itself.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}
