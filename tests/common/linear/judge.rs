//! Is there an order of all parts of all operations that explains every answer?

use std::fmt::{self, Debug, Write};
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use porcupine_rs::{
    CheckResult, Model, Operation, check_operations_info, check_operations_timeout,
};

use super::parts::Act;
use super::{Done, Lock, Parts};
use crate::random::Random;

/// A search that takes longer than this begins again, with what began together in another order: most orders are
/// searched in no time, and a few take for ever.
const PATIENCE: Duration = Duration::from_millis(250);
/// After so many searches there is no answer.
const LONG: u64 = 40;
const SHORT: u64 = 4;

/// What is known about a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is such an order.
    Explained,
    /// There is none; the history, for people.
    Violated(String),
    /// The search took too long. Not proven.
    Unknown,
}

/// How far an operation is that has begun.
#[derive(Clone)]
struct Open<S> {
    operation: usize,
    parts: Arc<Parts<S>>,
    taken: u128,
    note: u64,
}

impl<S> Open<S> {
    fn lock(&self) -> Lock {
        self.parts.lock
    }

    /// Its next part, if that only looks and sees what it should.
    fn sees(&self, state: &S) -> Option<usize> {
        let next = self.taken.trailing_ones() as usize;
        match &self.parts.parts.get(next)?.act {
            Act::Looks(look) => look(state).then_some(next),
            Act::Changes(_) => None,
        }
    }

    /// What tells it from others.
    fn key(&self) -> (usize, u128, u64) {
        (self.operation, self.taken, self.note)
    }
}

impl<S> PartialEq for Open<S> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<S> Eq for Open<S> {}

impl<S> Hash for Open<S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl<S> Debug for Open<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key().fmt(f)
    }
}

/// The state after some parts, with the operations that are not over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Progress<S> {
    state: Option<S>,
    open: Vec<Open<S>>,
    /// The only part that need be tried next: it changes nothing, so it does not matter to others that it is now.
    seen: Option<(usize, usize)>,
}

/// What the checker puts in order.
#[derive(Clone)]
enum Event<S> {
    Begin(S),
    Part {
        operation: usize,
        part: usize,
        parts: Arc<Parts<S>>,
    },
}

impl<S> Debug for Event<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(_) => f.write_str("begin"),
            Self::Part {
                operation, part, ..
            } => write!(f, "part {part} of {operation}"),
        }
    }
}

impl<S: Clone> Progress<S> {
    /// Takes one part; whether that is possible now.
    fn take(&mut self, event: &Event<S>) -> bool {
        let (operation, part, parts) = match event {
            Event::Begin(state) => {
                self.state = Some(state.clone());
                return true;
            }
            Event::Part {
                operation,
                part,
                parts,
            } => (*operation, *part, parts),
        };
        if self.seen.is_some_and(|seen| seen != (operation, part)) {
            return false;
        }
        let known = self
            .open
            .iter()
            .position(|open| open.operation == operation);
        let place = known.unwrap_or(self.open.len());
        if known.is_none() {
            let excluded = |open: &Open<S>| match parts.lock {
                Lock::Free => false,
                Lock::Shared => open.lock() == Lock::Exclusive,
                Lock::Exclusive => open.lock() != Lock::Free,
            };
            if self.open.iter().any(excluded) {
                return false;
            }
            self.open.push(Open {
                operation,
                parts: Arc::clone(parts),
                taken: 0,
                note: 0,
            });
        }
        let open = &mut self.open[place];
        let wanted = &parts.parts[part];
        let Some(state) = &mut self.state else {
            return false;
        };
        let is_possible = match &wanted.act {
            Act::Changes(change) => change(state, &mut open.note),
            Act::Looks(look) => look(state),
        };
        if wanted.after & !open.taken != 0 || !is_possible {
            return false;
        }
        open.taken |= 1 << part;
        if open.taken == parts.all() {
            self.open.remove(place);
        }
        // One form for one situation.
        self.open.sort_by_key(|open| open.operation);
        let mut seen = self
            .open
            .iter()
            .map(|open| Some((open.operation, open.sees(state)?)));
        self.seen = seen.find_map(|seen| seen);
        true
    }
}

/// The search of the checker, for states of type `S`.
#[derive(Clone, Debug)]
struct Search<S>(PhantomData<S>);

impl<S: Clone + Debug + Eq + Hash + Send + Sync> Model for Search<S> {
    type State = Progress<S>;
    type Op = Event<S>;
    type Metadata = ();

    fn init() -> Self::State {
        Progress {
            state: None,
            open: Vec::new(),
            seen: None,
        }
    }

    fn step(state: &Self::State, event: &Self::Op) -> (bool, Self::State) {
        let mut next = state.clone();
        (next.take(event), next)
    }
}

/// Whether a short search finds an order that explains what was done to something that was in the state `begin`;
/// `parts` says what each call is made of.
pub(crate) fn is_explained<S, C, A>(
    begin: S,
    history: &[Done<C, A>],
    parts: impl Fn(&Done<C, A>) -> Parts<S>,
) -> bool
where
    S: Clone + Debug + Eq + Hash + Send + Sync,
{
    search(&mut events(begin, history, parts), SHORT) == CheckResult::Ok
}

/// Judges what was done, as [`is_explained`] but patiently.
pub(crate) fn judge<S, C: Debug, A: Debug>(
    begin: S,
    history: &[Done<C, A>],
    parts: impl Fn(&Done<C, A>) -> Parts<S>,
) -> Verdict
where
    S: Clone + Debug + Eq + Hash + Send + Sync,
{
    let mut events = events(begin, history, parts);
    match search(&mut events, LONG) {
        CheckResult::Ok => Verdict::Explained,
        CheckResult::Unknown => Verdict::Unknown,
        CheckResult::Illegal => Verdict::Violated(explain(history, &events)),
    }
}

fn events<S, C, A>(
    begin: S,
    history: &[Done<C, A>],
    parts: impl Fn(&Done<C, A>) -> Parts<S>,
) -> Vec<Operation<Search<S>>>
where
    S: Clone + Debug + Eq + Hash + Send + Sync,
{
    let event = |op, call_time, return_time| Operation::<Search<S>> {
        client_id: None,
        call_time,
        return_time,
        op,
        metadata: None,
    };
    let mut events = vec![event(Event::Begin(begin), -2, -1)];
    for (operation, done) in history.iter().enumerate() {
        let parts = Arc::new(parts(done));
        for part in 0..parts.parts.len() {
            let parts = Arc::clone(&parts);
            let part = Event::Part {
                operation,
                part,
                parts,
            };
            events.push(event(part, done.start, done.end));
        }
    }
    begin_together(&mut events);
    events
}

/// Looks for an order, `searches` times at most.
fn search<M: Model>(events: &mut [Operation<M>], searches: u64) -> CheckResult {
    for search in 0..searches {
        match check_operations_timeout(events, PATIENCE) {
            CheckResult::Unknown => shuffle(events, search),
            known => return known,
        }
    }
    CheckResult::Unknown
}

/// Lets what begins between two ends begin at one moment: only ends tell which was before which. The search takes what
/// begins at one moment in the order of `events`.
fn begin_together<M: Model>(events: &mut [Operation<M>]) {
    let mut ends: Vec<i64> = events.iter().map(|event| event.return_time).collect();
    ends.sort_unstable();
    for event in events {
        let ended = ends.partition_point(|end| *end < event.call_time);
        event.call_time = match ended {
            0 => i64::MIN,
            _ => ends[ended - 1] + 1,
        };
    }
}

/// Puts them in another order.
fn shuffle<T>(events: &mut [T], seed: u64) {
    let mut random = Random(seed);
    for place in (1..events.len()).rev() {
        events.swap(place, random.below(place as u64 + 1) as usize);
    }
}

/// The history, and how far the longest order goes.
fn explain<S, C: Debug, A: Debug>(history: &[Done<C, A>], events: &[Operation<Search<S>>]) -> String
where
    S: Clone + Debug + Eq + Hash + Send + Sync,
{
    let (_, info) = check_operations_info(events);
    let orders = info.partial_linearizations.into_iter().flatten();
    let longest = orders.max_by_key(Vec::len).unwrap_or_default();
    let parts_of = |number: usize, event: &Operation<Search<S>>| matches!(event.op, Event::Part { operation, .. } if operation == number);
    let count = |number| {
        let explained = longest
            .iter()
            .filter(|event| parts_of(number, &events[**event]));
        let all = events.iter().filter(|event| parts_of(number, event));
        (explained.count(), all.count())
    };
    let counted: Vec<_> = (0..history.len()).map(count).collect();
    let stuck = history.iter().zip(&counted);
    let stuck = stuck.filter(|(_, (explained, all))| explained < all);
    let last = stuck.map(|(done, _)| done.end).min().unwrap_or(i64::MAX);
    let mut text = String::from(
        "nothing explains these answers.\nParts that the longest order explains, call and return, thread:",
    );
    for (done, (explained, all)) in history.iter().zip(counted) {
        if done.start > last {
            text.push_str("\n...");
            break;
        }
        let Done {
            thread,
            start,
            end,
            call,
            answer,
        } = done;
        let mark = if explained < all { '*' } else { ' ' };
        let parts = format!("{explained}/{all}");
        write!(
            text,
            "\n{mark}{parts:>6} {start:4}..{end:<4} {thread}: {call:?} -> {answer:?}"
        )
        .expect("strings take everything");
    }
    text
}
