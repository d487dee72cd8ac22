//! The extent map beside racing threads: readers see every edit whole or not at all, and what is mapped all the time they
//! see mapped all the time.

use std::collections::BTreeSet;
use std::thread;

use extent_map::map::{Extent, ExtentMap, Reclaimer};

#[path = "common/apart.rs"]
mod apart;
#[path = "common/race.rs"]
mod race;

use apart::Apart;
use race::race;

#[test]
fn a_mapped_range_never_shows_a_hole_while_it_is_cut_and_joined() {
    let map = ExtentMap::new();
    map.insert(0..64, 0_u64).unwrap();
    race(
        |n| {
            let (start, len) = (n * 7 % 60, 1 + n % 4);
            // Onto another line, which splits; then back, which merges again.
            map.insert(start..start + len, 1000 + start).unwrap();
            map.insert(start..start + len, start).unwrap();
        },
        || {
            let view = map.pin();
            for block in 0..64 {
                let found = view.get(block).expect("the block is mapped all the time");
                let own = found.value_at(block);
                assert!([block, 1000 + block].map(Some).contains(&own), "{found:?}");
            }
            assert_eq!(view.gaps(0..64).next(), None);
            let lens = view.overlapping(0..64).map(Extent::len);
            assert_eq!(lens.sum::<u64>(), 64);
        },
    );
}

#[test]
fn an_edit_of_many_extents_is_seen_whole_or_not_at_all() {
    let map = ExtentMap::new();
    for i in 0..60_u64 {
        map.insert(i * 10..i * 10 + 5, Apart(0)).unwrap();
    }
    race(
        |n| {
            map.edit().update(.., |_| Some(Apart(n))).unwrap();
        },
        || {
            let walk: Vec<_> = map.pin().iter().collect();
            assert_eq!(walk.len(), 60);
            assert!(
                walk.iter().all(|extent| extent.value() == walk[0].value()),
                "{walk:?}"
            );
        },
    );
}

#[test]
fn one_insert_over_many_extents_is_seen_whole_or_not_at_all() {
    let map = ExtentMap::new();
    map.insert(0..100, Apart(0)).unwrap();
    race(
        |n| match n % 2 {
            0 => drop(map.edit().update(.., |_| None)),
            _ => drop(map.insert(0..100, Apart(0))),
        },
        || {
            let mapped: u64 = map.pin().iter().map(Extent::len).sum();
            assert!(mapped == 0 || mapped == 100, "{mapped}");
        },
    );
}

#[test]
fn a_long_walk_beside_a_writer_stays_in_order_and_disjoint() {
    let map = ExtentMap::new();
    let fill = |map: &ExtentMap<u64>| {
        let mut edit = map.edit();
        (0..300_u64).for_each(|i| drop(edit.insert(i * 4..i * 4 + 2, i << 32)));
    };
    fill(&map);
    race(
        |n| match n % 64 {
            0 => fill(&map),
            step => drop(map.insert(step * 12..step * 18, 0)),
        },
        || {
            let mut visited = None;
            for extent in map.pin().iter() {
                assert!(
                    visited < Some(extent.start()),
                    "{extent:?} after {visited:?}"
                );
                visited = Some(extent.last());
            }
        },
    );
}

#[test]
fn maps_that_share_a_reclaimer_stay_apart() {
    let reclaimer = Reclaimer::new();
    let maps: Vec<_> = (0..4)
        .map(|_| ExtentMap::with_reclaimer(&reclaimer))
        .collect();
    drop(reclaimer);
    thread::scope(|scope| {
        let fill = |(i, map)| {
            let map: &ExtentMap<Apart> = map;
            scope.spawn(move || {
                for n in 0..500_u64 {
                    map.insert(n * 3..n * 3 + 2, Apart(i as u64)).unwrap();
                }
            })
        };
        let writers: Vec<_> = maps.iter().enumerate().map(fill).collect();
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
    });
    for (i, map) in maps.iter().enumerate() {
        let values: BTreeSet<_> = map.pin().iter().map(|extent| extent.value().0).collect();
        assert_eq!(
            (map.pin().iter().count(), values),
            (500, BTreeSet::from([i as u64]))
        );
    }
}
