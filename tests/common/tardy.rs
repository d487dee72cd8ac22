//! A device that ends requests late, in another order, in several threads, some as failed and some not at all; and that
//! keeps what it has until it is flushed.

use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use extent_map::device::OperationKind::{Flush, Write};
use extent_map::device::{BlockDevice, Limits, MemoryDevice, Request};
use extent_map::{Error, IoError, Result};

use super::io::EIO;
use super::random::Random;

/// How often what happens to a request, of 1000.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Odds {
    pub(crate) fails: u64,
    /// It is given back without a word.
    pub(crate) dropped: u64,
    /// It never ends.
    pub(crate) lost: u64,
}

/// What it says to the first bytes of a block, by the number of the block.
type Stamps = BTreeMap<u64, u64>;

pub(crate) struct Tardy {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    memory: MemoryDevice,
    limits: Limits,
    block: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Of flushes: what they cover.
    under_way: Vec<(Request, Option<Stamps>)>,
    written: Stamps,
    durable: Stamps,
    odds: Odds,
    held: bool,
    lost: u64,
    /// How many requests but flushes each queue has, and the most that it had.
    at_queue: Vec<(u64, u64)>,
    closed: bool,
}

impl Tardy {
    pub(crate) fn new(bytes: u64, block: u64, limits: Limits, odds: Odds, seed: u64) -> Arc<Self> {
        let shared = Arc::new(Shared {
            memory: MemoryDevice::new(bytes),
            limits: Limits {
                asynchronous: true,
                ..limits
            },
            block,
            state: Mutex::new(State {
                odds,
                ..State::default()
            }),
            changed: Condvar::new(),
        });
        let worker = |number| {
            let (shared, random) = (Arc::clone(&shared), Random(seed ^ number << 32));
            thread::spawn(move || shared.work(random))
        };
        let workers = (0..3u64).map(worker).collect();
        Arc::new(Self { shared, workers })
    }

    /// Whether requests wait until they are no longer held.
    pub(crate) fn hold(&self, held: bool) {
        self.shared.lock().held = held;
        self.shared.changed.notify_all();
    }

    pub(crate) fn set_odds(&self, odds: Odds) {
        self.shared.lock().odds = odds;
    }

    /// Requests that will never end.
    pub(crate) fn lost(&self) -> u64 {
        self.shared.lock().lost
    }

    /// Requests that have not ended, and will.
    pub(crate) fn under_way(&self) -> usize {
        self.shared.lock().under_way.len()
    }

    /// The most requests but flushes that each queue of the hardware had at once.
    pub(crate) fn most_under_way(&self) -> Vec<u64> {
        let state = self.shared.lock();
        state.at_queue.iter().map(|(_, most)| *most).collect()
    }

    /// What would be in a block after a power cut.
    pub(crate) fn durable(&self, block: u64) -> u64 {
        self.shared.lock().durable.get(&block).copied().unwrap_or(0)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn work(&self, mut random: Random) {
        loop {
            let mut state = self.lock();
            while state.under_way.is_empty() || state.held {
                if state.closed {
                    return;
                }
                state = self.changed.wait(state).unwrap();
            }
            if random.below(4) == 0 {
                drop(state);
                thread::yield_now();
                continue;
            }
            let one = random.below(state.under_way.len() as u64) as usize;
            let (request, covers) = state.under_way.swap_remove(one);
            let odds = state.odds;
            let fate = random.below(1000);
            if fate < odds.lost {
                state.lost += 1;
                mem::forget(request);
                continue;
            }
            drop(state);
            let fate = fate - odds.lost;
            self.end(request, covers, fate < odds.fails, {
                (odds.fails..odds.fails + odds.dropped).contains(&fate)
            });
        }
    }

    fn end(&self, mut request: Request, covers: Option<Stamps>, fails: bool, dropped: bool) {
        // Of a write that fails, something may have arrived.
        let half = request.offset.is_multiple_of(2 * self.block);
        if !(fails || dropped) || half && request.kind == Write {
            let fua = mem::take(&mut request.fua) && self.limits.native_fua;
            request.carry_out(&self.memory).unwrap();
            let mut state = self.lock();
            if request.kind == Write {
                let mut bytes = Vec::new();
                request
                    .buffers
                    .iter()
                    .for_each(|part| bytes.extend_from_slice(part));
                let first = request.offset / self.block;
                for (number, block) in (first..).zip(bytes.chunks(self.block as usize)) {
                    let stamp = u64::from_le_bytes(block[..8].try_into().unwrap());
                    state.written.insert(number, stamp);
                    if fua && !fails {
                        state.durable.insert(number, stamp);
                    }
                }
            }
            for (number, stamp) in covers.into_iter().flatten() {
                let durable = state.durable.entry(number).or_default();
                *durable = stamp.max(*durable);
            }
        }
        if request.kind != Flush {
            self.lock().at_queue[request.queue].0 -= 1;
        }
        match (fails, dropped) {
            (true, _) => request.complete(Err(Error::Io(IoError {
                operation: "tardy",
                offset: 0,
                errno: EIO,
            }))),
            (_, true) => drop(request),
            _ => request.complete(Ok(())),
        }
    }
}

impl BlockDevice for Tardy {
    fn size(&self) -> u64 {
        self.shared.memory.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.shared.memory.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.shared.memory.write_at(offset, data)
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.shared.memory.discard(offset, len)
    }

    fn start(&self, request: Request) {
        let mut state = self.shared.lock();
        // It covers nothing that ends later.
        let covers = (request.kind == Flush).then(|| state.written.clone());
        if request.kind != Flush {
            let queues = state.at_queue.len().max(request.queue + 1);
            state.at_queue.resize(queues, (0, 0));
            let (now, most) = &mut state.at_queue[request.queue];
            *now += 1;
            *most = (*most).max(*now);
        }
        state.under_way.push((request, covers));
        self.shared.changed.notify_one();
    }

    fn limits(&self) -> Limits {
        self.shared.limits
    }
}

impl Drop for Tardy {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        (state.closed, state.held) = (true, false);
        drop(state);
        self.shared.changed.notify_all();
        for worker in self.workers.drain(..) {
            // The last request may have had the last handle of this device.
            if worker.thread().id() != thread::current().id() {
                worker.join().unwrap();
            }
        }
    }
}

impl fmt::Debug for Tardy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tardy").finish_non_exhaustive()
    }
}
