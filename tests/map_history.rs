//! What threads see of a map that others edit is linearizable; and the checker that says so says no where
//! it must.

use std::env;

use extent_map::map::probe::{Mutation, Probe};
use extent_map::map::{ExtentMap, Reclaimer};
use proptest::prelude::*;

#[path = "common/history/mod.rs"]
mod history;
#[path = "common/random.rs"]
mod random;

use history::{Change, Edit, Fact, History, MIXES, Mix, Reads, Span, States, Tile};
use history::{Violation, check, record};

/// How many operations to record in each mix: what EXTENT_MAP_HISTORY_OPS says.
fn wanted() -> usize {
    let wanted = env::var("EXTENT_MAP_HISTORY_OPS").map(|number| number.parse().expect("a number"));
    wanted.unwrap_or(if cfg!(debug_assertions) {
        40_000
    } else {
        1_000_000
    })
}

#[test]
fn every_history_is_linearizable() {
    const READS_A_ROUND: usize = 10_000;
    for mix in MIXES {
        let (mut operations, mut round) = (0, 0);
        while operations < wanted() {
            round += 1;
            let threads = 2 + round as usize % 3;
            let history = record(&ExtentMap::new(), mix, threads, READS_A_ROUND, round);
            if let Err(violation) = check(&history) {
                panic!("{}, round {round}: {violation}", mix.name);
            }
            operations += history.operations();
        }
        println!("{}: {operations} operations", mix.name);
    }
}

/// Records histories of a map that breaks a promise until one shows it.
fn found(mutation: Mutation, mix: Mix) -> Box<Violation> {
    const ROUNDS: u64 = 200;
    let broken = |seed| {
        let probe = Probe::new().mutation(mutation);
        let map = ExtentMap::with_probe(&Reclaimer::new(), probe);
        let history = record(&map, mix, 4, 10_000, seed);
        check(&history)
            .err()
            .inspect(|_| println!("{mutation:?} found in round {seed}"))
    };
    let found = (0..ROUNDS).find_map(broken);
    found.unwrap_or_else(|| panic!("{mutation:?} was not found in {ROUNDS} rounds"))
}

#[test]
fn a_walk_that_changes_states_half_way_is_found() {
    found(Mutation::WalkWithoutCheck, MIXES[2]);
}

#[test]
fn an_edit_that_is_published_in_pieces_is_found() {
    found(Mutation::PublishInPieces, MIXES[1]);
}

#[test]
fn a_view_that_trusts_what_it_saw_last_is_found() {
    found(Mutation::CacheWithoutCheck, MIXES[3]);
}

#[test]
fn a_stale_look_that_is_trusted_is_found() {
    found(Mutation::TrustStaleLook, MIXES[0]);
}

#[test]
fn extents_that_should_have_merged_are_found() {
    found(Mutation::LeaveUnmerged, MIXES[0]);
}

const SPACE: u64 = 6;

/// A history by hand: edits as (span, first block, last block, change), reads as (span, facts).
fn by_hand(edits: &[(Span, u64, u64, Change)], reads: &[(Span, Vec<Fact>)]) -> History {
    let mut states = States::new(SPACE);
    let edit = |&(span, first, last, change): &_| Edit {
        span,
        first,
        last,
        change,
        replaced: states.edit(first, last, change),
    };
    let edits = edits.iter().map(edit).collect();
    let mut log = Reads::default();
    reads
        .iter()
        .for_each(|(span, facts)| log.push(*span, facts.clone()));
    History {
        space: SPACE,
        edits,
        reads: vec![log],
    }
}

fn span(start: u64, end: u64) -> Span {
    Span { start, end }
}

fn extent(first: u64, last: u64, value: u64) -> Fact {
    let value = Some(value);
    Fact::Tile(Tile { first, last, value })
}

fn gap(first: u64, last: u64) -> Fact {
    let value = None;
    Fact::Tile(Tile { first, last, value })
}

#[test]
fn the_checker_tells_good_histories_from_bad_ones() {
    let edits = [
        (span(10, 20), 0, 3, Change::Insert(100)),
        (span(30, 40), 2, 3, Change::Insert(500)),
        (span(50, 60), 0, 5, Change::Remove),
    ];
    let (first, second) = (extent(0, 3, 100), extent(0, 1, 100));
    let good = [
        vec![(span(11, 12), vec![Fact::Hole(0, 3)])],
        vec![(span(11, 12), vec![first])],
        // Two reads beside one edit, in either order if they overlap.
        vec![(span(31, 35), vec![second]), (span(32, 36), vec![first])],
        vec![(span(31, 32), vec![first]), (span(33, 34), vec![second])],
        // Neither alone tells which state it is, both together do.
        vec![(
            span(5, 55),
            vec![second, extent(2, 3, 500), gap(4, u64::MAX)],
        )],
        vec![(span(61, 62), vec![gap(0, u64::MAX)])],
        vec![(span(1, 62), vec![Fact::Hole(4, u64::MAX)])],
    ];
    for reads in good {
        assert!(check(&by_hand(&edits, &reads)).is_ok(), "{reads:?}");
    }
    let bad = [
        ("too old", vec![(span(21, 22), vec![Fact::Hole(0, 0)])]),
        ("too new", vec![(span(11, 25), vec![second])]),
        ("never", vec![(span(1, 70), vec![extent(0, 3, 101)])]),
        ("torn", vec![(span(31, 35), vec![second, gap(2, u64::MAX)])]),
        (
            "torn",
            vec![(span(11, 15), vec![Fact::Hole(0, 0), gap(4, u64::MAX)])],
        ),
        ("unmerged", vec![(span(61, 62), vec![gap(0, 3)])]),
        (
            "new and then old again",
            vec![(span(31, 32), vec![second]), (span(33, 34), vec![first])],
        ),
        (
            "new and then old again, of a third",
            vec![
                (span(31, 32), vec![second]),
                (span(33, 34), vec![Fact::Hole(4, 5)]),
                (span(35, 36), vec![first]),
            ],
        ),
    ];
    for (why, reads) in bad {
        let found = check(&by_hand(&edits, &reads)).unwrap_err();
        assert!(matches!(*found, Violation::Read { .. }), "{why}: {reads:?}");
    }
    let mut history = by_hand(&edits, &[]);
    history.edits[2].replaced.pop();
    assert!(matches!(
        *check(&history).unwrap_err(),
        Violation::Replaced { number: 2, .. }
    ));
}

/// What is mapped to what in some state.
type Slots = [Option<u64>; SPACE as usize];

/// Whether `fact` is true of `slots`, from its definition.
fn is_true(fact: &Fact, slots: &Slots) -> bool {
    let slot = |block: u64| slots.get(block as usize).copied().flatten();
    match *fact {
        Fact::Hole(first, last) => (first..=last.min(SPACE)).all(|block| slot(block).is_none()),
        Fact::Tile(tile) => {
            let goes_on = |value: Option<u64>, block| slot(block) == value.map(|value| value + 1);
            let end = tile.last.min(SPACE);
            slot(tile.first) == tile.value
                && (tile.first..end).all(|block| goes_on(slot(block), block + 1))
                && (tile.first == 0 || !goes_on(slot(tile.first - 1), tile.first))
                && (tile.last == u64::MAX || tile.last < SPACE && !goes_on(slot(end), end + 1))
        }
    }
}

/// Whether any choice of a state for each read explains `history`: tries all of them.
fn has_an_explanation(history: &History, reads: &[(Span, Vec<Fact>)], states: &[Slots]) -> bool {
    let allowed = |chosen: &[usize], (span, facts): &(Span, Vec<Fact>), state: usize| {
        let edits = history.edits.iter().map(|edit| edit.span);
        let over = edits.clone().filter(|edit| edit.end < span.start).count();
        let begun = edits.filter(|edit| edit.start < span.end).count();
        let in_order = chosen.iter().zip(reads).all(|(other, (read, _))| {
            (read.end >= span.start || *other <= state)
                && (span.end >= read.start || state <= *other)
        });
        over <= state
            && state <= begun
            && in_order
            && facts.iter().all(|fact| is_true(fact, &states[state]))
    };
    let mut choices: Vec<Vec<usize>> = vec![Vec::new()];
    for read in reads {
        let longer = choices.iter().flat_map(|chosen| {
            let fits = (0..states.len()).filter(|state| allowed(chosen, read, *state));
            fits.map(move |state| [&chosen[..], &[state]].concat())
        });
        choices = longer.collect();
    }
    !choices.is_empty()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]
    #[test]
    fn the_greedy_choice_finds_an_explanation_exactly_if_there_is_one(
        edits in prop::collection::vec((1..6_u64, 1..6_u64, 0..SPACE, 0..SPACE, 0..3_u64), 0..5),
        reads in prop::collection::vec((0..30_u64, 1..12_u64, 0..SPACE, 0..5_usize, any::<bool>()), 0..5),
    ) {
        let (mut now, mut slots) = (0, Slots::default());
        let (mut steps, mut all) = (Vec::new(), vec![slots]);
        for (pause, duration, a, b, line) in edits {
            let (first, last) = (a.min(b), a.max(b));
            let change = match line {
                0 => Change::Remove,
                line => Change::Insert(line * 100 + first),
            };
            for block in first..=last {
                slots[block as usize] = (line > 0).then_some(line * 100 + block);
            }
            steps.push((span(now + pause, now + pause + duration), first, last, change));
            now += pause + duration;
            all.push(slots);
        }
        // Each read sees what is around its block in one of the states, whether it should or not.
        let reads: Vec<(Span, Vec<Fact>)> = reads
            .into_iter()
            .map(|(start, duration, block, state, whole)| {
                let state = &all[state % all.len()];
                let tiles = (0..=block).flat_map(|first| {
                    let value = state[first as usize];
                    let ends = (block..SPACE).chain([u64::MAX]);
                    ends.map(move |last| Fact::Tile(Tile { first, last, value }))
                });
                let tile = tiles.into_iter().find(|tile| is_true(tile, state)).unwrap();
                let fact = match state[block as usize] {
                    None if !whole => Fact::Hole(block, block),
                    _ => tile,
                };
                (span(start, start + duration), vec![fact])
            })
            .collect();
        let history = by_hand(&steps, &reads);
        prop_assert_eq!(
            check(&history).is_ok(),
            has_an_explanation(&history, &reads, &all)
        );
    }
}
