//! One schedule of a writer and two readers of an [`ExtentMap`], on one thread and a call at a time.
//!
//! What is kept from call to call meets every edit there is: views with what they saw last, walks half
//! way, lookups not yet revalidated.

use extent_map::map::{ExtentMap, Lookup, Overlapping, Pinned};

use super::bytes::Bytes;
use super::common::dense::{Dense, Plain, around, plain};
use super::common::random::Random;

const SLOTS: usize = 256;
/// A walk of so many extents is of one state.
const ONE_STATE: usize = 64;

/// The writer, and every state that there was: the extents after so many edits.
struct Writer<'m> {
    map: &'m ExtentMap<u64>,
    dense: Dense<u64>,
    states: Vec<Vec<Plain<u64>>>,
}

/// Values of one line go on with each other.
fn value(line: u8, block: u64) -> u64 {
    (u64::from(line % 4) << 32).wrapping_add(block)
}

impl Writer<'_> {
    fn now(&self) -> &[Plain<u64>] {
        self.states.last().expect("the first state stays")
    }

    fn insert(&mut self, first: usize, last: usize, line: u8) {
        let range = self.dense.blocks(first, last);
        let value = value(line, *range.start());
        self.dense.insert(first, last, value);
        self.map.insert(range, value).expect("not empty");
        self.states.push(self.dense.extents());
    }

    fn step(&mut self, op: u8, bytes: &mut Bytes<'_>) -> Option<()> {
        let (first, last) = bytes.slots(SLOTS)?;
        let range = self.dense.blocks(first, last);
        match op % 4 {
            0 | 1 => self.insert(first, last, op / 4),
            2 => {
                self.dense.remove(first, last);
                self.map.remove(range).expect("not empty");
                self.states.push(self.dense.extents());
            }
            _ => {
                let kept = |start: u64, _| (!start.is_multiple_of(8)).then(|| value(op / 4, start));
                self.dense.update(first, last, kept);
                let update = |old: extent_map::map::Extent<u64>| kept(old.start(), old.value());
                self.map.edit().update(range, update).expect("not empty");
                self.states.push(self.dense.extents());
            }
        }
        Some(())
    }
}

/// What a reader keeps from call to call.
struct Reader<'p> {
    view: &'p Pinned<'p, u64>,
    /// Where it reads block by block.
    slot: usize,
    walk: Option<Walk<'p>>,
    look: Option<Look>,
}

struct Walk<'p> {
    extents: Overlapping<'p, u64>,
    first: u64,
    last: u64,
    /// The state at the first step.
    from: usize,
    seen: Vec<Plain<u64>>,
}

struct Look {
    block: u64,
    lookup: Lookup<u64>,
    /// The state that it is of.
    from: usize,
}

impl Reader<'_> {
    fn step(&mut self, op: u8, bytes: &mut Bytes<'_>, writer: &Writer<'_>) -> Option<()> {
        let (slot, end) = bytes.slots(SLOTS)?;
        let range = writer.dense.blocks(slot, end);
        let block = *range.start();
        let expected = around(writer.now(), block);
        match op % 8 {
            0 | 1 => {
                self.slot = (self.slot + 1) % SLOTS;
                let block = *writer.dense.blocks(self.slot, self.slot).start();
                let found = self.view.get(block).map(plain);
                assert_eq!(found, around(writer.now(), block).ok(), "get of {block}");
            }
            2 => {
                self.slot = slot;
                assert_eq!(self.view.get(block).map(plain), expected.ok());
            }
            3 => {
                let lookup = self.view.lookup(block);
                assert_eq!(answer(&lookup), expected, "lookup of {block}");
                let from = writer.states.len() - 1;
                self.look = Some(Look {
                    block,
                    lookup,
                    from,
                });
            }
            4 => {
                let found = self.view.next_from(block).map(plain);
                let after = writer.now().iter().find(|(_, last, _)| *last >= block);
                assert_eq!(found, after.copied(), "next from {block}");
            }
            5 => {
                self.walk = Some(Walk {
                    extents: self.view.overlapping(range.clone()),
                    first: block,
                    last: *range.end(),
                    from: writer.states.len() - 1,
                    seen: Vec::new(),
                });
            }
            _ => {
                for _ in 0..1 + op / 8 {
                    self.walk = self.walk.take().and_then(|walk| walk.step(&writer.states));
                }
            }
        }
        self.check_look(writer);
        Some(())
    }

    /// A look that the map still holds valid was right in every state since.
    fn check_look(&self, writer: &Writer<'_>) {
        let Some(Look {
            block,
            lookup,
            from,
        }) = &self.look
        else {
            return;
        };
        if writer.map.edit().revalidate(lookup) {
            for state in &writer.states[*from..] {
                assert_eq!(
                    answer(lookup),
                    around(state, *block),
                    "a stale look was trusted"
                );
            }
        }
    }
}

fn answer(lookup: &Lookup<u64>) -> Result<Plain<u64>, std::ops::RangeInclusive<u64>> {
    lookup
        .extent()
        .map(plain)
        .ok_or_else(|| lookup.gap().expect("extent or gap"))
}

impl Walk<'_> {
    /// Takes the next extent; `None` when there is none.
    fn step(mut self, states: &[Vec<Plain<u64>>]) -> Option<Self> {
        if self.seen.is_empty() {
            self.from = states.len() - 1;
        }
        let next = self.extents.next().map(plain);
        let visited = self.seen.last().map(|(_, last, _)| *last);
        let since = &states[self.from..];
        if self.seen.len() < ONE_STATE {
            self.seen.extend(next);
            let explains = |state: &Vec<Plain<u64>>| {
                let mut listed = state
                    .iter()
                    .filter(|(start, last, _)| *last >= self.first && *start <= self.last);
                let prefix = self.seen.iter().all(|seen| listed.next() == Some(seen));
                prefix && (next.is_some() || listed.next().is_none())
            };
            assert!(since.iter().any(explains), "no state has {:?}", self.seen);
        } else if let Some((start, last, value)) = next {
            let behind = visited.map_or(0, |visited| visited + 1);
            assert!(
                start >= behind && last >= start && start <= self.last,
                "walks rewind"
            );
            // Whole, or cut where the walk has been.
            let is_it = |(from, to, of): &Plain<u64>| {
                let cut = (*from).max(behind);
                cut == start && *to == last && of.wrapping_add(cut - from) == value
            };
            let known = since.iter().any(|state| state.iter().any(is_it));
            assert!(known, "no state has {next:?}");
            self.seen.extend(next);
        }
        next.map(|_| self)
    }
}

/// Runs `data` on a new map.
pub fn run(data: &[u8]) {
    run_on(&ExtentMap::new(), data);
}

/// Runs `data` on `map`, which is empty: a seed for the schedule, then what the writer and each reader do.
pub fn run_on(map: &ExtentMap<u64>, data: &[u8]) {
    let Some((head, ops)) = data.split_first_chunk::<4>() else {
        return;
    };
    let mut schedule = Random(u32::from_le_bytes(*head).into());
    let base = match head[0] % 2 {
        1 => u64::MAX - (SLOTS as u64 - 1),
        _ => 0,
    };
    let mut writer = Writer {
        map,
        dense: Dense::new(base, SLOTS),
        states: vec![Vec::new()],
    };
    // Enough extents for some leaves, unless the bytes say to begin with an empty map.
    if head[1] % 4 > 0 {
        (0..SLOTS)
            .step_by(2)
            .for_each(|slot| writer.insert(slot, slot, slot as u8));
    }
    let views = [map.pin(), map.pin()];
    let mut readers = views.each_ref().map(|view| Reader {
        view,
        slot: 0,
        walk: None,
        look: None,
    });
    let mut threads: Vec<Bytes<'_>> = ops
        .chunks(ops.len().div_ceil(3).max(1))
        .map(Bytes::new)
        .collect();
    let mut steps = || {
        loop {
            let thread = schedule.below(3) as usize;
            let bytes = threads.get_mut(thread)?;
            let op = bytes.byte()?;
            match thread.checked_sub(1) {
                None => writer.step(op, bytes)?,
                Some(reader) => readers[reader].step(op, bytes, &writer)?,
            }
        }
    };
    // Whoever has nothing left to do ends the schedule.
    let _: Option<()> = steps();
}
