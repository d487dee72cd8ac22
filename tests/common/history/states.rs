//! All states that a sequence of edits leads through, indexed by what a reader can see of them.

use std::collections::BTreeMap;
use std::fmt;

use extent_map::map::Extent;

/// Blocks `first..=last` of one state: a whole extent with the value of its first block, or a
/// whole gap.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tile {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) value: Option<u64>,
}

impl fmt::Debug for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={} ", self.first, self.last)?;
        match self.value {
            Some(value) => write!(f, "=> {value:#x}"),
            None => write!(f, "gap"),
        }
    }
}

impl From<Extent<u64>> for Tile {
    fn from(extent: Extent<u64>) -> Self {
        Self {
            first: extent.start(),
            last: extent.last(),
            value: Some(extent.value()),
        }
    }
}

impl Tile {
    fn within(self, first: u64, last: u64) -> Option<Self> {
        let (first, last) = (self.first.max(first), self.last.min(last));
        let by = first.saturating_sub(self.first);
        let value = self.value.map(|value| value + by);
        (first <= last).then_some(Self { first, last, value })
    }

    fn merges(self, next: Self) -> bool {
        self.value.map(|value| value + (next.first - self.first)) == next.value
    }
}

/// Something a read says about one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    /// This extent or gap is there, with exactly these bounds.
    Tile(Tile),
    /// Nothing is mapped in these blocks, the last one included.
    Hole(u64, u64),
}

/// What an edit does to its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Maps it, with this value at its first block.
    Insert(u64),
    /// Unmaps it.
    Remove,
    /// Adds this to the values in it.
    Shift(u64),
}

/// A tile and the states that have it: `born..died`.
#[derive(Debug)]
struct Life {
    tile: Tile,
    born: usize,
    died: usize,
}

/// The states of a map that is empty in state 0 and edited once between a state and the next.
///
/// Only blocks below a given bound are ever mapped.
#[derive(Debug)]
pub(crate) struct States {
    /// For each block, the tiles that ever started there, oldest first.
    lives: Vec<Vec<Life>>,
    /// For each block, the states in which it became mapped and unmapped, by turns.
    flips: Vec<Vec<usize>>,
    /// The tiles of the last state by their first block.
    tiles: BTreeMap<u64, Tile>,
    /// The number of the last state.
    last: usize,
}

impl States {
    /// State 0 alone. Blocks from `space` on stay unmapped.
    pub(crate) fn new(space: u64) -> Self {
        let places = space as usize + 1;
        let mut states = Self {
            lives: (0..places).map(|_| Vec::new()).collect(),
            flips: vec![Vec::new(); places],
            tiles: BTreeMap::new(),
            last: 0,
        };
        states.add(Tile {
            first: 0,
            last: u64::MAX,
            value: None,
        });
        states
    }

    /// Adds a state: what `change` to `first..=last` makes of the last one. Returns the extents
    /// that were there, cut to the range.
    pub(crate) fn edit(&mut self, first: u64, last: u64, change: Change) -> Vec<Tile> {
        self.last += 1;
        let touched = self.touching(first.saturating_sub(1), last + 1);
        let cut = |from, to| touched.iter().filter_map(move |tile| tile.within(from, to));
        let old: Vec<Tile> = cut(first, last).collect();
        let new = match change {
            Change::Insert(_) | Change::Remove => vec![Tile {
                first,
                last,
                value: match change {
                    Change::Insert(value) => Some(value),
                    _ => None,
                },
            }],
            Change::Shift(by) => {
                let shifted = old.iter().map(|tile| Tile {
                    value: tile.value.map(|value| value + by),
                    ..*tile
                });
                shifted.collect()
            }
        };
        for (block, mapped) in blocks(&old).zip(blocks(&new)) {
            if mapped.1 != block.1 {
                self.flips[block.0 as usize].push(self.last);
            }
        }

        let before = first.checked_sub(1).map(|end| cut(0, end));
        let pieces = before.into_iter().flatten();
        let pieces = pieces.chain(new).chain(cut(last + 1, u64::MAX));
        let mut merged: Vec<Tile> = Vec::new();
        for piece in pieces {
            match merged.last_mut() {
                Some(tile) if tile.merges(piece) => tile.last = piece.last,
                _ => merged.push(piece),
            }
        }
        for tile in &touched {
            if !contains(&merged, tile) {
                self.tiles.remove(&tile.first);
                let ended = self.lives[tile.first as usize].last_mut();
                ended.expect("it was added").died = self.last;
            }
        }
        for tile in merged {
            if !contains(&touched, &tile) {
                self.add(tile);
            }
        }
        old.into_iter()
            .filter(|tile| tile.value.is_some())
            .collect()
    }

    /// The first state in `from..=to` of which all of `facts` are true.
    pub(crate) fn first(&self, facts: &[Fact], from: usize, to: usize) -> Option<usize> {
        let mut state = from;
        loop {
            let before = state;
            for fact in facts {
                state = self.next(fact, state).filter(|state| *state <= to)?;
            }
            if state == before {
                return Some(state);
            }
        }
    }

    /// The first state from `state` on of which `fact` is true.
    fn next(&self, fact: &Fact, state: usize) -> Option<usize> {
        match *fact {
            Fact::Tile(tile) => {
                let lives = self.lives.get(tile.first as usize)?;
                let ended = lives.partition_point(|life| life.died <= state);
                let same = lives[ended..].iter().find(|life| life.tile == tile)?;
                Some(same.born.max(state))
            }
            Fact::Hole(first, last) => {
                // What lies behind the space is never mapped.
                let last = last.min(self.flips.len() as u64 - 1);
                let mut latest = state;
                for flips in &self.flips[first as usize..=last as usize] {
                    let done = flips.partition_point(|flip| *flip <= latest);
                    if done % 2 == 1 {
                        latest = *flips.get(done)?;
                    }
                }
                Some(latest)
            }
        }
    }

    fn add(&mut self, tile: Tile) {
        self.tiles.insert(tile.first, tile);
        self.lives[tile.first as usize].push(Life {
            tile,
            born: self.last,
            died: usize::MAX,
        });
    }

    /// The tiles of the last state that have a block in `first..=last`.
    fn touching(&self, first: u64, last: u64) -> Vec<Tile> {
        let start = self.tiles.range(..=first).next_back();
        let start = *start.expect("tiles cover everything").0;
        self.tiles
            .range(start..=last)
            .map(|(_, tile)| *tile)
            .collect()
    }
}

/// Each block of `tiles`, and whether it is mapped.
fn blocks(tiles: &[Tile]) -> impl Iterator<Item = (u64, bool)> + '_ {
    let blocks =
        |tile: &Tile| (tile.first..=tile.last).zip(std::iter::repeat(tile.value.is_some()));
    tiles.iter().flat_map(blocks)
}

/// Whether `tile` is one of `tiles`, which are sorted.
fn contains(tiles: &[Tile], tile: &Tile) -> bool {
    let place = tiles.binary_search_by_key(&tile.first, |tile| tile.first);
    place.is_ok_and(|place| tiles[place] == *tile)
}
