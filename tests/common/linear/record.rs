//! Threads that use one thing and write down what they did and what it answered.

use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use crate::thread;

/// Something that many threads may use at once.
pub(crate) trait Subject: Sync {
    /// What can be asked of it.
    type Call: Clone + Debug + Send + Sync;
    /// What it says.
    type Answer: Clone + Debug + Send;

    /// Does what `call` says.
    fn call(&self, call: &Self::Call) -> Self::Answer;
}

/// Who does what.
#[derive(Clone, Debug)]
pub(crate) struct Script<C> {
    /// Before the threads begin.
    pub(crate) before: Vec<C>,
    /// By thread.
    pub(crate) threads: Vec<Vec<C>>,
    /// When all threads are done.
    pub(crate) after: Vec<C>,
}

/// A call that is over.
#[derive(Clone, Debug)]
pub(crate) struct Done<C, A> {
    /// The threads of a script begin with 1.
    pub(crate) thread: usize,
    /// Ticks of a clock that all threads share.
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) call: C,
    pub(crate) answer: A,
}

impl<C, A> Done<C, A> {
    /// Whether both may have been under way at one instant.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// What was done to a subject.
type History<S> = Vec<Done<<S as Subject>::Call, <S as Subject>::Answer>>;

/// Follows `script` and returns what was done, in the order of the calls.
pub(crate) fn record<S: Subject>(subject: &S, script: &Script<S::Call>) -> History<S> {
    let clock = AtomicI64::new(0);
    // AcqRel: who sees a tick sees what was done before it, on any machine.
    let tick = || clock.fetch_add(1, Ordering::AcqRel);
    let work = |thread: usize, calls: &[S::Call]| -> History<S> {
        let one = |call: &S::Call| {
            let start = tick();
            let answer = subject.call(call);
            let end = tick();
            let call = call.clone();
            Done {
                thread,
                start,
                end,
                call,
                answer,
            }
        };
        calls.iter().map(one).collect()
    };
    let mut history = work(0, &script.before);
    let waiting = AtomicUsize::new(script.threads.len());
    let (work, waiting) = (&work, &waiting);
    let recorded = thread::scope(|scope| {
        let start = |(thread, calls): (usize, _)| {
            scope.spawn(move || {
                waiting.fetch_sub(1, Ordering::Relaxed);
                // Short scripts would be over before the next thread begins. An explorer of schedules decides itself.
                while cfg!(not(feature = "shuttle")) && waiting.load(Ordering::Relaxed) > 0 {
                    thread::yield_now();
                }
                work(thread, calls)
            })
        };
        let threads: Vec<_> = (1..)
            .zip(script.threads.iter().map(Vec::as_slice))
            .map(start)
            .collect();
        let recorded = threads.into_iter().map(|thread| thread.join().unwrap());
        recorded.collect::<Vec<_>>()
    });
    history.extend(recorded.into_iter().flatten());
    history.extend(work(0, &script.after));
    history.sort_by_key(|done| done.start);
    history
}
