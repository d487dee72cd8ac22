//! Stores and devices that act, or fail, when a chosen call comes, and threads to act in.

use std::cell::Cell;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use extent_map::Result;
use extent_map::device::{BlockDevice, MemoryDevice, OperationKind};
use extent_map::mapping::{ExtentState, MappedExtent, Mapping, MappingStore, MemoryStore, Shift};
use extent_map::units::{FileBlock, FileNumber, FileRange};

use crate::around::Around;
use crate::passed_on::passed_on;

thread_local! {
    /// How long the scenario of this thread waits for a thread that one of its own locks may hold up.
    static PATIENCE: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Plays a scenario that waits so long for the threads it starts.
pub(crate) fn with_patience<T>(patience: Duration, scenario: impl FnOnce() -> T) -> T {
    PATIENCE.set(patience);
    scenario()
}

/// Threads that act inside a call of the thread that started them.
#[derive(Clone, Debug)]
pub(crate) struct Others {
    patience: Duration,
    threads: Arc<Mutex<Vec<JoinHandle<Result<()>>>>>,
}

impl Others {
    /// No threads yet.
    pub(crate) fn new() -> Self {
        Self {
            patience: PATIENCE.get(),
            threads: Arc::default(),
        }
    }

    /// Does `work` in another thread, and waits until it is done or, it seems, held up.
    pub(crate) fn act(&self, work: impl FnOnce() -> Result<()> + Send + 'static) {
        let (done, is_done) = mpsc::channel();
        let thread = thread::spawn(move || {
            let outcome = work();
            let _nobody_waits_any_more = done.send(());
            outcome
        });
        let _in_either_case = is_done.recv_timeout(self.patience);
        self.threads.lock().unwrap().push(thread);
    }

    /// An action that does `work` so.
    pub(crate) fn action(
        &self,
        work: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> impl FnOnce() -> Result<()> + Send + 'static {
        let others = self.clone();
        move || {
            others.act(work);
            Ok(())
        }
    }

    /// Waits for all of them, at least one; the first error of one.
    pub(crate) fn join(&self) -> Result<()> {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap());
        assert!(!threads.is_empty(), "nobody acted");
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("a thread that does not panic"))
    }
}

/// Something to do once.
type Action = Box<dyn FnOnce() -> Result<()> + Send>;

/// An action for the next call of one kind.
pub(crate) struct Steering<C>(Mutex<Option<(C, Action)>>);

impl<C> Default for Steering<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C> std::fmt::Debug for Steering<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steering").finish_non_exhaustive()
    }
}

impl<C: PartialEq> Steering<C> {
    /// Acts at the next `call`.
    pub(crate) fn at_next(&self, call: C, action: impl FnOnce() -> Result<()> + Send + 'static) {
        *self.0.lock().unwrap() = Some((call, Box::new(action)));
    }

    /// Acts if this is the call.
    fn reached(&self, call: C) -> Result<()> {
        let action = self.0.lock().unwrap().take_if(|(at, _)| *at == call);
        action.map_or(Ok(()), |(_, action)| action())
    }
}

/// An action for the first moment of a probe that comes after the action was chosen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cue(Arc<Steering<()>>);

impl Cue {
    /// Chooses the action.
    pub(crate) fn set(&self, action: impl FnOnce() -> Result<()> + Send + 'static) {
        self.0.at_next((), action);
    }

    /// What the probe is to do.
    pub(crate) fn hook(&self) -> impl Fn() + Send + Sync + 'static {
        let cue = self.clone();
        move || cue.0.reached(()).expect("an action that succeeds")
    }
}

/// A call of a store at which it can be steered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreCall {
    /// A query has its answer and has not given it yet.
    Queried,
    /// The inline bytes are read and not given yet.
    InlineRead,
    /// An extent is about to be inserted.
    Insert,
    /// Extents are about to be removed.
    Remove,
}

/// A store in memory that can be steered.
#[derive(Debug, Default)]
pub(crate) struct SteeredStore {
    truth: MemoryStore,
    steering: Steering<StoreCall>,
}

impl SteeredStore {
    /// Acts at the next `call`; an error is what the call answers, with nothing done.
    pub(crate) fn at_next(
        &self,
        call: StoreCall,
        action: impl FnOnce() -> Result<()> + Send + 'static,
    ) {
        self.steering.at_next(call, action);
    }
}

impl MappingStore for SteeredStore {
    passed_on!(last_before extents convert shift size set_size extend_size set_inline_data files commit);

    fn query(&self, file: FileNumber, block: FileBlock) -> Result<Mapping> {
        let answer = self.truth.query(file, block);
        self.steering.reached(StoreCall::Queried)?;
        answer
    }

    fn insert(&self, file: FileNumber, extent: MappedExtent) -> Result<()> {
        self.steering.reached(StoreCall::Insert)?;
        self.truth.insert(file, extent)
    }

    fn remove(&self, file: FileNumber, range: FileRange) -> Result<Vec<MappedExtent>> {
        self.steering.reached(StoreCall::Remove)?;
        self.truth.remove(file, range)
    }

    fn inline_data(&self, file: FileNumber) -> Result<Option<Arc<[u8]>>> {
        let answer = self.truth.inline_data(file);
        self.steering.reached(StoreCall::InlineRead)?;
        answer
    }
}

/// A moment of a write at which a device can be steered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceCall {
    /// The device has been asked and has written nothing yet.
    Write,
    /// Everything is written, which the caller does not know yet.
    Written,
}

/// A device of `size` bytes in memory, and what steers it. An error of an action is what the write answers.
pub(crate) fn steered_device(size: u64) -> (Arc<dyn BlockDevice>, Arc<Steering<DeviceCall>>) {
    let steering = Arc::new(Steering::default());
    let steered = Arc::clone(&steering);
    let memory = Arc::new(MemoryDevice::new(size));
    let device = Around::new(memory, move |operation, carry_out| {
        if operation.kind != OperationKind::Write {
            return carry_out();
        }
        steered.reached(DeviceCall::Write)?;
        carry_out()?;
        steered.reached(DeviceCall::Written)
    });
    (Arc::new(device), steering)
}
