//! A map of 64 blocks beside a list of all states it ever had, by which every answer of a reader can be judged.

use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};

use extent_map::map::probe::{Mutation, Probe};
use extent_map::map::{Editor, Extent, ExtentMap, Reclaimer};

pub(crate) const BLOCKS: u64 = 64;

/// First block, last block and value of an extent.
pub(crate) type Plain = (u64, u64, u64);

pub(crate) fn plain(extent: Extent<u64>) -> Plain {
    (extent.start(), extent.last(), extent.value())
}

/// The value of each block: deliberately slow and obvious.
#[derive(Clone, Debug)]
pub(crate) struct State(Vec<Option<u64>>);

impl State {
    /// The maximal extents and the gaps before, between and behind them, in order.
    fn runs(&self) -> Vec<(u64, u64, Option<u64>)> {
        let mut runs = Vec::<(u64, u64, Option<u64>)>::new();
        for (block, value) in (0..).zip(&self.0) {
            let continues = |run: &&mut (u64, u64, Option<u64>)| {
                run.2.map(|start| start + (block - run.0)) == *value
            };
            match runs.last_mut().filter(continues) {
                Some(run) => run.1 = block,
                None => runs.push((block, block, *value)),
            }
        }
        match runs.last_mut() {
            Some(run) if run.2.is_none() => run.1 = u64::MAX,
            _ => runs.push((BLOCKS, u64::MAX, None)),
        }
        runs
    }

    /// The extents that have a block in `range`.
    pub(crate) fn extents(&self, range: &RangeInclusive<u64>) -> Vec<Plain> {
        let runs = self.runs().into_iter();
        let extents = runs.filter_map(|(first, last, value)| Some((first, last, value?)));
        let overlaps = |run: &Plain| run.0 <= *range.end() && run.1 >= *range.start();
        extents.filter(overlaps).collect()
    }

    pub(crate) fn get(&self, block: u64) -> Option<Plain> {
        self.extents(&(block..=block)).pop()
    }

    /// The gap around `block`.
    pub(crate) fn gap(&self, block: u64) -> Option<RangeInclusive<u64>> {
        let mut runs = self.runs().into_iter();
        let run = runs.find(|(first, last, _)| (*first..=*last).contains(&block))?;
        run.2.is_none().then_some(run.0..=run.1)
    }

    /// The parts of the gaps that lie in `range`.
    pub(crate) fn gaps(&self, range: &RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        let gaps = self.runs().into_iter().filter(|run| run.2.is_none());
        let within =
            gaps.map(|(first, last, _)| first.max(*range.start())..=last.min(*range.end()));
        within.filter(|gap| !gap.is_empty()).collect()
    }
}

/// One edit. On a line of its own each block has a value that continues that of the block before.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    /// Maps a range to a line.
    Insert(RangeInclusive<u64>, u64),
    Remove(RangeInclusive<u64>),
    /// Moves what is mapped in a range to a line.
    Move(RangeInclusive<u64>, u64),
}

fn on_line(line: u64, block: u64) -> u64 {
    line * 1000 + block
}

impl Edit {
    fn model(&self, state: &mut State) {
        let (Self::Insert(range, _) | Self::Remove(range) | Self::Move(range, _)) = self;
        for block in range.clone() {
            let value = &mut state.0[block as usize];
            *value = match self {
                Self::Insert(_, line) => Some(on_line(*line, block)),
                Self::Remove(_) => None,
                Self::Move(_, line) => value.map(|_| on_line(*line, block)),
            };
        }
    }

    fn make(&self, editor: &mut Editor<'_, u64>) {
        let range = |range: &RangeInclusive<u64>| range.clone();
        let outcome = match self {
            Self::Insert(at, line) => editor.insert(range(at), on_line(*line, *at.start())),
            Self::Remove(at) => editor.remove(range(at)),
            Self::Move(at, line) => {
                editor.update(range(at), |extent| Some(on_line(*line, extent.start())))
            }
        };
        outcome.unwrap();
    }
}

/// A map and the states it had.
pub(crate) struct WitnessedMap {
    pub(crate) map: ExtentMap<u64>,
    // Not a lock of shuttle: writing the list is no step of its own.
    states: Mutex<States>,
}

struct States {
    /// The last one may be that of an edit that is not done yet.
    list: Vec<State>,
    /// The last one that every reader must see.
    done: usize,
}

impl WitnessedMap {
    /// A map whose 18 extents make a tree of three levels; one promise may be broken.
    pub(crate) fn new(broken: Option<Mutation>) -> Self {
        let sound = Probe::new();
        let probe = match broken {
            None => sound,
            Some(mutation) => sound.mutation(mutation),
        };
        let witnessed = Self {
            map: ExtentMap::with_probe(&Reclaimer::new(), probe),
            states: Mutex::new(States {
                list: vec![State(vec![None; BLOCKS as usize])],
                done: 0,
            }),
        };
        let mut editor = witnessed.map.edit();
        for start in (0..54).step_by(3) {
            witnessed.make(&mut editor, &Edit::Insert(start..=start + 1, 1));
        }
        drop(editor);
        witnessed
    }

    fn with_states<T>(&self, use_them: impl FnOnce(&mut States) -> T) -> T {
        use_them(&mut self.states.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The number of the last state, and that state; nothing but the truth for who holds the writer lock.
    pub(crate) fn now(&self) -> (usize, State) {
        self.with_states(|states| {
            (
                states.list.len() - 1,
                states.list[states.list.len() - 1].clone(),
            )
        })
    }

    /// The number of the last state that every reader must see.
    pub(crate) fn done(&self) -> usize {
        self.with_states(|states| states.done)
    }

    /// Makes `edit` in the map and on the list.
    pub(crate) fn make(&self, editor: &mut Editor<'_, u64>, edit: &Edit) {
        let (_, mut next) = self.now();
        edit.model(&mut next);
        self.with_states(|states| states.list.push(next));
        edit.make(editor);
        self.with_states(|states| states.done = states.list.len() - 1);
    }
}

/// One that reads a map, state by state.
pub(crate) struct Witness<'m> {
    witnessed: &'m WitnessedMap,
    /// The first state that is not too old for the next answer.
    from: usize,
}

impl<'m> Witness<'m> {
    pub(crate) fn of(witnessed: &'m WitnessedMap) -> Self {
        Self { witnessed, from: 0 }
    }

    /// What `read` finds must be `expected` of a state that was there while it ran, and none older than what was
    /// found before.
    pub(crate) fn sees<T: Debug + PartialEq>(
        &mut self,
        what: impl Debug,
        read: impl FnOnce() -> T,
        expected: impl Fn(&State) -> T,
    ) {
        let from = self.from.max(self.witnessed.done());
        let found = read();
        let answers: Vec<_> = self
            .witnessed
            .with_states(|states| states.list[from..].iter().map(expected).collect());
        match answers.iter().position(|answer| *answer == found) {
            Some(at) => self.from = from + at,
            None => panic!("{what:?}: {found:?} is none of {answers:?}"),
        }
    }
}
