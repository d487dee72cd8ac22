//! How a bio ends, and the handle that waits for it.

use std::fmt;
use std::time::{Duration, Instant};

use crate::device::{Buffers, Completion, OperationKind};
use crate::error::{Error, IoError, Result};
use crate::sync::{Arc, Condvar, Mutex, Rank, begin_io};

/// `ETIMEDOUT`.
const TIMED_OUT: i32 = 110;

/// Who hears of the end of a bio, or of one of its pieces.
#[derive(Clone)]
pub(super) struct Done {
    pub(super) completion: Arc<dyn Completion>,
    pub(super) tag: u64,
}

impl Done {
    pub(super) fn finish(self, buffers: Buffers, result: Result<()>) {
        self.completion.completed(self.tag, buffers, result);
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Done({})", self.tag)
    }
}

/// Where one thread leaves the end of a bio for another.
#[derive(Debug)]
struct Outcome {
    awaited: Mutex<Awaited>,
    arrived: Condvar,
}

#[derive(Debug)]
struct Awaited {
    /// When the bio was submitted.
    since: Instant,
    end: Option<(Buffers, Result<()>)>,
}

impl Completion for Outcome {
    fn completed(&self, _: u64, buffers: Buffers, result: Result<()>) {
        self.awaited.lock().end = Some((buffers, result));
        self.arrived.notify_all();
    }
}

/// Outcomes that nobody waits for any more, for others to use again: bios under way take no new memory.
#[derive(Debug)]
pub(super) struct Outcomes {
    free: Mutex<Vec<Arc<Outcome>>>,
    /// How long after its bio was submitted anybody waits for one.
    patience: Option<Duration>,
}

impl Outcomes {
    pub(super) fn new(patience: Option<Duration>) -> Arc<Self> {
        let free = Mutex::new(Rank::Pieces, Vec::new());
        Arc::new(Self { free, patience })
    }

    /// Where to wait for the end of a bio, and who must hear of it for that.
    pub(super) fn expect(self: &Arc<Self>, at: u64, since: Instant) -> (UnderWay, Done) {
        let used = self.free.lock().pop();
        if let (Some(used), Some(_)) = (&used, self.patience) {
            used.awaited.lock().since = since;
        }
        let outcome = used.unwrap_or_else(|| {
            Arc::new(Outcome {
                awaited: Mutex::new(Rank::Outcome, Awaited { since, end: None }),
                arrived: Condvar::default(),
            })
        });
        let done = Done {
            completion: Arc::clone(&outcome) as _,
            tag: 0,
        };
        let place = UnderWay {
            outcome,
            outcomes: Arc::clone(self),
            at,
        };
        (place, done)
    }
}

/// A request on its way. Dropping it does not call the request back, but loses its error.
#[derive(Debug)]
#[must_use = "its error is told by `wait` only"]
pub struct SubmittedBio {
    kind: OperationKind,
    state: State,
}

/// A result in one word: results are moved more often than requests fail.
pub(super) type Failure = Option<Box<Error>>;

pub(super) fn outcome(failure: Failure) -> Result<()> {
    failure.map_or(Ok(()), |error| Err(*error))
}

#[derive(Debug)]
enum State {
    Ended(Buffers, Failure),
    UnderWay(UnderWay),
}

/// Where the end of a bio will be found.
#[derive(Debug)]
pub(super) struct UnderWay {
    outcome: Arc<Outcome>,
    outcomes: Arc<Outcomes>,
    /// The first byte of the bio.
    at: u64,
}

impl SubmittedBio {
    #[inline]
    pub(super) fn ended(kind: OperationKind, buffers: Buffers, failure: Failure) -> Self {
        let state = State::Ended(buffers, failure);
        Self { kind, state }
    }

    pub(super) fn under_way(kind: OperationKind, place: UnderWay) -> Self {
        let state = State::UnderWay(place);
        Self { kind, state }
    }

    /// Whether the request has ended.
    pub fn is_ended(&self) -> bool {
        match &self.state {
            State::Ended(..) => true,
            State::UnderWay(place) => place.outcome.awaited.lock().end.is_some(),
        }
    }

    /// Waits until the request has ended. The bytes that a read has read; nothing for other requests.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the request was not made of whole blocks or does not lie inside the device;
    /// [`Error::WouldBlock`] for a full queue that must not be waited for; [`Error::Io`] when the device failed it or
    /// a request it was merged into, or when the [policy](super::Policy) had no more patience.
    pub fn wait(self) -> Result<Vec<u8>> {
        let reads = self.kind == OperationKind::Read;
        let (buffers, result) = self.finish();
        result?;
        Ok(if reads { buffers.to_vec() } else { Vec::new() })
    }

    /// Waits until the request has ended, and gives its memory back too. None comes back where patience ran out: the
    /// device may still use it.
    #[inline]
    pub fn finish(self) -> (Buffers, Result<()>) {
        match self.state {
            State::Ended(buffers, None) => (buffers, Ok(())),
            State::Ended(buffers, Some(error)) => (buffers, Err(*error)),
            State::UnderWay(place) => place.wait(self.kind),
        }
    }
}

/// What there was no more patience for.
pub(super) fn timed_out(kind: OperationKind, at: u64) -> Error {
    Error::Io(IoError {
        operation: kind.name(),
        offset: at,
        errno: TIMED_OUT,
    })
}

impl UnderWay {
    pub(super) fn wait(self, kind: OperationKind) -> (Buffers, Result<()>) {
        let _waiting_for_io = begin_io();
        let mut awaited = self.outcome.awaited.lock();
        loop {
            if let Some(ended) = awaited.end.take() {
                drop(awaited);
                self.outcomes.free.lock().push(self.outcome);
                return ended;
            }
            let Some(patience) = self.outcomes.patience else {
                awaited = self.outcome.arrived.wait(awaited);
                continue;
            };
            let left = patience.saturating_sub(awaited.since.elapsed());
            let (now, ran_out) = self.outcome.arrived.wait_for(awaited, left);
            awaited = now;
            if ran_out && awaited.end.is_none() {
                return (Buffers::default(), Err(timed_out(kind, self.at)));
            }
        }
    }
}
