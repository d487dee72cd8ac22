//! Schedule models of the extent map: random edits on a tree of three levels beside readers of every kind. Each answer
//! must be that of a state the map had while the answer was made; no node may be read after its memory was returned.
//! A map that breaks one of its promises must be found.
//!
//! `cargo test --release --features shuttle --test shuttle_map`; `SCHEDULES` sets how many schedules of each kind a
//! model runs. A failure prints a schedule that [`shuttle::replay`] repeats.
#![cfg(feature = "shuttle")]

use std::ops::RangeInclusive;

use extent_map::map::Editor;
use extent_map::map::probe::Mutation;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

#[path = "common/schedules.rs"]
mod schedules;
#[path = "common/witnessed_map.rs"]
mod witnessed_map;

use schedules::{first_violation, holds};
use witnessed_map::{BLOCKS, Edit, State, Witness, WitnessedMap, plain};

/// Schedules of each kind for one model, if nobody asks for another number.
const SCHEDULES: usize = 10_000;

fn block() -> u64 {
    thread_rng().gen_range(0..BLOCKS)
}

/// Blocks in the longest range of most reads and edits.
const WIDE: u64 = 24;
/// As many as an edit of one leaf mostly has.
const NARROW: u64 = 2;

fn range(longest: u64) -> RangeInclusive<u64> {
    let start = block();
    start..=(start + thread_rng().gen_range(0..longest)).min(BLOCKS - 1)
}

fn edit(longest: u64) -> Edit {
    let line = thread_rng().gen_range(1..=3);
    match thread_rng().gen_range(0..4) {
        0 => Edit::Remove(range(longest)),
        1 => Edit::Move(range(longest), line),
        _ => Edit::Insert(range(longest), line),
    }
}

/// Makes some edits, each under the writer lock for itself, and sees each.
fn write(witnessed: &WitnessedMap, edits: u32, longest: u64) {
    for _ in 0..edits {
        let mut editor = witnessed.map.edit();
        witnessed.make(&mut editor, &edit(longest));
        sees_the_state(witnessed, &editor);
    }
}

/// Under the writer lock there is one state only.
fn sees_the_state(witnessed: &WitnessedMap, editor: &Editor<'_, u64>) {
    let (_, state) = witnessed.now();
    let all: Vec<_> = editor.iter().map(plain).collect();
    assert_eq!(all, state.extents(&(0..=BLOCKS)));
}

/// Some reads of every kind, all through one view.
fn read(witnessed: &WitnessedMap, reads: u32) {
    let view = witnessed.map.pin();
    let mut witness = Witness::of(witnessed);
    for _ in 0..reads {
        match thread_rng().gen_range(0..7) {
            0 => {
                // The second answer may come from the first one, and the third from the second.
                let first = block();
                for block in first..(first + 3).min(BLOCKS) {
                    witness.sees(
                        block,
                        || view.get(block).map(plain),
                        |state| state.get(block),
                    );
                }
            }
            1 => {
                let block = block();
                let look = || {
                    let look = view.lookup(block);
                    (look.extent().map(plain), look.gap())
                };
                witness.sees(block, look, |state| (state.get(block), state.gap(block)));
            }
            2 => {
                let range = range(WIDE);
                let walk = || view.overlapping(range.clone()).map(plain).collect();
                witness.sees(&range, walk, |state| state.extents(&range));
            }
            3 => {
                let range = range(WIDE);
                let gaps = || view.gaps(range.clone()).collect();
                witness.sees(&range, gaps, |state| state.gaps(&range));
            }
            4 => {
                let from = block();
                let next = |extents: Vec<_>| extents.first().copied();
                let expected = |state: &State| next(state.extents(&(from..=BLOCKS)));
                witness.sees(from, || view.next_from(from).map(plain), expected);
            }
            5 => {
                let expected = |state: &State| state.extents(&(0..=BLOCKS)).pop();
                witness.sees("last", || view.last().map(plain), expected);
            }
            _ => {
                let block = block();
                let get = || witnessed.map.get(block).map(plain);
                witness.sees(block, get, |state| state.get(block));
            }
        }
    }
}

/// Looks, locks and asks whether the look still stands: if so, it must, and if nothing was edited, it must.
fn look_again(witnessed: &WitnessedMap, looks: u32) {
    for _ in 0..looks {
        let block = block();
        let before = witnessed.done();
        let look = witnessed.map.lookup(block);
        let editor = witnessed.map.edit();
        let (after, state) = witnessed.now();
        if editor.revalidate(&look) {
            let found = (look.extent().map(plain), look.gap());
            assert_eq!(
                found,
                (state.get(block), state.gap(block)),
                "{before}, {after}"
            );
        } else {
            assert_ne!(before, after, "nothing was edited");
        }
    }
}

/// Walks over the whole map.
fn walk(witnessed: &WitnessedMap, walks: u32) {
    let view = witnessed.map.pin();
    let mut witness = Witness::of(witnessed);
    let all = 0..=BLOCKS;
    for _ in 0..walks {
        let walk = || view.iter().map(plain).collect();
        witness.sees("all", walk, |state| state.extents(&all));
    }
}

fn one_writer_beside_two_readers(broken: Option<Mutation>) {
    let witnessed = WitnessedMap::new(broken);
    thread::scope(|scope| {
        scope.spawn(|| write(&witnessed, thread_rng().gen_range(4..=8), WIDE));
        scope.spawn(|| read(&witnessed, 4));
        scope.spawn(|| read(&witnessed, 4));
    });
    sees_the_state(&witnessed, &witnessed.map.edit());
}

fn narrow_edits_beside_walks(broken: Option<Mutation>) {
    let witnessed = WitnessedMap::new(broken);
    thread::scope(|scope| {
        scope.spawn(|| write(&witnessed, 8, NARROW));
        scope.spawn(|| walk(&witnessed, 2));
        scope.spawn(|| walk(&witnessed, 2));
    });
}

fn two_writers_beside_a_reader(broken: Option<Mutation>) {
    let witnessed = WitnessedMap::new(broken);
    thread::scope(|scope| {
        scope.spawn(|| write(&witnessed, 3, WIDE));
        scope.spawn(|| write(&witnessed, 3, WIDE));
        scope.spawn(|| read(&witnessed, 4));
    });
    sees_the_state(&witnessed, &witnessed.map.edit());
}

fn looks_and_locks_beside_a_writer(broken: Option<Mutation>) {
    let witnessed = WitnessedMap::new(broken);
    thread::scope(|scope| {
        scope.spawn(|| write(&witnessed, 4, WIDE));
        scope.spawn(|| look_again(&witnessed, 3));
        scope.spawn(|| look_again(&witnessed, 3));
    });
}

/// `model` holds, and is violated with each of `mutations`.
fn proves(name: &str, mutations: &[Mutation], model: fn(Option<Mutation>)) {
    for mutation in mutations {
        let found = {
            let mutation = Some(*mutation);
            first_violation(move || model(mutation))
        };
        let schedule = found.expect("the model must find the broken promise");
        println!("{name}, {mutation:?}: violated in schedule {schedule}");
    }
    holds(name, move || model(None));
}

#[test]
fn two_readers_see_the_states_that_one_writer_makes() {
    use Mutation::{CacheWithoutCheck, EarlyFree, LeaveUnmerged, PublishInPieces};
    let mutations = [CacheWithoutCheck, EarlyFree, LeaveUnmerged, PublishInPieces];
    proves(
        "writer, reader, reader",
        &mutations,
        one_writer_beside_two_readers,
    );
}

#[test]
fn walks_see_the_states_between_narrow_edits() {
    let mutations = [Mutation::WalkWithoutCheck];
    proves(
        "narrow writer, walk, walk",
        &mutations,
        narrow_edits_beside_walks,
    );
}

#[test]
fn a_reader_sees_the_states_that_two_writers_make() {
    let mutations = [Mutation::PublishInPieces];
    proves(
        "writer, writer, reader",
        &mutations,
        two_writers_beside_a_reader,
    );
}

#[test]
fn a_look_that_stands_is_the_truth_and_stands_where_nothing_was_edited() {
    let mutations = [Mutation::TrustStaleLook];
    proves(
        "writer, look and lock, look and lock",
        &mutations,
        looks_and_locks_beside_a_writer,
    );
}
