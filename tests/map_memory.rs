//! What a map allocates it gives back, and soon: an allocator that counts live bytes tells.

use std::env;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use extent_map::map::{Extent, ExtentMap, Reclaimer};

#[path = "common/counting.rs"]
mod counting;
#[path = "common/random.rs"]
mod random;

use counting::Counting;
use random::Random;

#[global_allocator]
static ALLOCATOR: Counting = Counting(count);

static LIVE: AtomicI64 = AtomicI64::new(0);

fn count(bytes: i64) {
    LIVE.fetch_add(bytes, Ordering::Relaxed);
}

fn live() -> i64 {
    LIVE.load(Ordering::Relaxed)
}

const KIB: i64 = 1 << 10;
const MIB: i64 = 1 << 20;

/// Blocks from one extent to the next; half of them are mapped.
const PITCH: u64 = 8;

/// What a thread's first use of a reclaimer costs is no map's.
fn register(reclaimer: &Reclaimer) {
    assert_eq!(filled(reclaimer, 1).get(1).map(Extent::start), Some(0));
}

/// A map of so many extents that do not merge.
fn filled(reclaimer: &Reclaimer, extents: u64) -> ExtentMap<u64> {
    let map = ExtentMap::with_reclaimer(reclaimer);
    let mut editor = map.edit();
    (0..extents).for_each(|i| drop(editor.insert(i * PITCH..i * PITCH + PITCH / 2, i << 32)));
    drop(editor);
    map
}

/// Edits a map of `extents` extents so that it has as many in the end, and returns the most
/// live bytes on the way.
fn churn(map: &ExtentMap<u64>, extents: u64, edits: u64, random: &mut Random) -> i64 {
    let mut peak = 0;
    for n in 0..edits / 2 {
        let start = random.below(extents) * PITCH;
        let range = start..start + PITCH / 2;
        if n % 1024 == 0 {
            // Some leaves at once.
            let end = start + 100 * PITCH;
            let again = |by| map.edit().update(start..end, |old| Some(old.value() ^ by));
            again(1 << 62).and_then(|_| again(1 << 62)).unwrap();
        } else if n % 2 == 0 {
            map.remove(start + 1..start + 2).unwrap();
            map.insert(range, n << 32).unwrap();
        } else {
            map.insert(range.clone(), n << 32).unwrap();
            map.edit()
                .update(range, |old| Some(old.value() + 1))
                .unwrap();
        }
        peak = peak.max(live());
    }
    peak
}

/// Runs `measure` some times, each time in a thread of its own, and wants all memory back; the first
/// time also pays for what the process keeps. Prints what `measure` has to say.
fn gives_all_back(measure: fn() -> String) {
    let alone = || -> String {
        let started = Barrier::new(2);
        thread::scope(|scope| {
            let measuring = scope.spawn(|| {
                // Starting a thread takes memory, on either side.
                started.wait();
                measure()
            });
            started.wait();
            measuring.join().unwrap()
        })
    };
    drop(alone());
    // The test harness keeps books in a thread of its own, now and then; a leak is there each time.
    let lefts = [(); 3].map(|()| {
        let before = live();
        let figures = alone();
        let left = live() - before - figures.capacity() as i64;
        // Not earlier: what a test prints is kept in memory.
        println!("{figures}");
        left
    });
    assert!(lefts.contains(&0), "bytes left: {lefts:?}");
}

fn small_maps_are_small() -> String {
    let reclaimer = Reclaimer::new();
    register(&reclaimer);
    let before = live();
    let map = ExtentMap::<u64>::with_reclaimer(&reclaimer);
    assert_eq!((map.get(0), map.pin().iter().next()), (None, None));
    // A counter that it shares with the collector.
    let empty = live() - before;
    assert_eq!(empty, 0, "an empty map allocates nothing");
    map.insert(0..1, 7).unwrap();
    let one = live() - before;
    assert!(one <= 4 * KIB, "{one} bytes of a map of one extent");
    drop(map);
    assert_eq!(live() - before, 0, "bytes left of a small map");
    format!("a map of one extent: {one} bytes")
}

fn a_map_takes_its_garbage_along() -> String {
    let reclaimer = Reclaimer::new();
    register(&reclaimer);
    let before = live();
    let map = filled(&reclaimer, 1000);
    assert!(live() - before > 16 * 1000, "the counter counts");
    let view = map.pin();
    let mut walk = view.iter();
    assert!(view.get(0).is_some() && walk.next().is_some());
    churn(&map, 1000, 3000, &mut Random(1));
    assert!(view.get(0).is_some() && walk.next().is_some());
    drop(walk);
    drop(view);
    drop(map);
    // The collector may keep some of its own, however large the map was.
    let left = live() - before;
    assert!(left < 16 * KIB, "{left} bytes after the map");

    // Reclaimers that come and go leave nothing with a thread that lives on.
    let before = live();
    for seed in 0..200 {
        churn(&filled(&Reclaimer::new(), 10), 10, 100, &mut Random(seed));
    }
    assert_eq!(live() - before, 0, "bytes left by reclaimers");

    // Nor do those that another thread drops: the next registration ends theirs.
    let before = live();
    for seed in 0..50 {
        let map = filled(&Reclaimer::new(), 10);
        churn(&map, 10, 100, &mut Random(seed));
        thread::spawn(|| drop(map)).join().unwrap();
    }
    let left = live() - before;
    assert!(
        left < 16 * KIB,
        "{left} bytes left by reclaimers dropped elsewhere"
    );
    drop(filled(&Reclaimer::new(), 1));
    format!("a dropped map: {left} bytes left with its reclaimer")
}

fn removing_everything_gives_it_back() -> String {
    const EXTENTS: u64 = 100_000;
    let reclaimer = Reclaimer::new();
    let before = live();
    let map = filled(&reclaimer, EXTENTS);
    let full = live() - before;
    assert_eq!(map.remove(..).unwrap().len() as u64, EXTENTS);
    // What one edit replaced may wait for the edits behind it.
    for n in 0..1000 {
        map.insert(n..n + 1, n << 32).unwrap();
        map.remove(..).unwrap();
    }
    let left = live() - before;
    assert!(left < MIB, "{left} bytes of an emptied map");

    // A map that is dropped right after an edit of all takes everything along too.
    drop(map);
    let map = filled(&reclaimer, EXTENTS);
    map.remove(..).unwrap();
    format!("{EXTENTS} extents: {full} bytes; {left} after their removal")
}

fn removing_everything_piece_by_piece_gives_it_back() -> String {
    const EXTENTS: u64 = 2_000_000;
    const PIECE: u64 = 30 * PITCH;
    let reclaimer = Reclaimer::new();
    let before = live();
    let map = filled(&reclaimer, EXTENTS);
    // Three of five pieces first: then most nodes are free, but hardly any chunk is.
    for first in [true, false] {
        let pieces = (0..EXTENTS * PITCH).step_by(PIECE as usize);
        for start in pieces.filter(|start| (start / PIECE % 5 < 3) == first) {
            map.remove(start..start + PIECE).unwrap();
        }
    }
    for n in 0..1000 {
        map.insert(n..n + 1, n << 32).unwrap();
        map.remove(..).unwrap();
    }
    let left = live() - before;
    // The nodes of the emptied map may lie in a chunk of 2 MiB.
    assert!(
        left < 3 * MIB,
        "{left} bytes of a map emptied piece by piece"
    );
    format!("{EXTENTS} extents: {left} bytes after their removal piece by piece")
}

fn garbage_at_rest_is_small() -> String {
    const EXTENTS: u64 = 10_000;
    let reclaimer = Reclaimer::new();
    let before = live();
    drop(filled(&reclaimer, EXTENTS));
    let empty = live();
    let fresh = filled(&reclaimer, EXTENTS);
    let size = live() - empty;
    drop(fresh);
    let map = filled(&reclaimer, EXTENTS);
    churn(&map, EXTENTS, 40_000, &mut Random(1));
    let garbage = live() - before - size;
    assert!(garbage < MIB, "{garbage} bytes of garbage at rest");
    format!("{EXTENTS} extents: {size} bytes; {garbage} more after edits")
}

fn garbage_beside_readers_is_small() -> String {
    const EXTENTS: u64 = 10_000;
    const SLICES: usize = 25;
    let reclaimer = Reclaimer::new();
    let map = filled(&reclaimer, EXTENTS);
    let (begin, stop) = (live(), AtomicBool::new(false));
    let mut peaks = thread::scope(|scope| {
        let read = |seed| {
            let (mut random, view) = (Random(seed), map.pin());
            while !stop.load(Ordering::Relaxed) {
                let block = random.below(EXTENTS) * PITCH;
                view.get(block);
                view.overlapping(block..).take(40).for_each(drop);
            }
        };
        let readers = [1, 2].map(|seed| scope.spawn(move || read(seed)));
        let slice = |seed| churn(&map, EXTENTS, 2000, &mut Random(seed as u64)) - begin;
        let peaks: Vec<i64> = (0..SLICES).map(slice).collect();
        // On a busy machine a reader loses its core inside a lookup for as long as many slices take, and some of the
        // memory that was held then stays with the map. But when the reader has its core back, most of it goes.
        let small = (SLICES..100 * SLICES).map(slice).find(|peak| {
            thread::sleep(Duration::from_millis(1));
            *peak < 8 * MIB || *peak > 256 * MIB
        });
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
        assert!(
            small.is_some_and(|peak| peak < 8 * MIB),
            "garbage beside readers stays: {small:?}"
        );
        peaks
    });
    peaks.sort_unstable();
    let (median, worst) = (peaks[SLICES / 2], peaks[SLICES - 1]);
    format!("beside readers: {median} bytes of garbage at the median, {worst} at worst")
}

/// How many edits a view and a walk outlive: what EXTENT_MAP_EDITS says.
fn edits() -> u64 {
    let wanted = env::var("EXTENT_MAP_EDITS").map(|edits| edits.parse().expect("a number"));
    wanted.unwrap_or(4_000_000)
}

fn a_view_and_a_walk_that_rest_hold_little_back() {
    const EXTENTS: u64 = 10_000;
    let reclaimer = Reclaimer::new();
    let map = filled(&reclaimer, EXTENTS);
    let meeting = Barrier::new(2);
    let peak = thread::scope(|scope| {
        // In a thread that does nothing else, so that nothing it does later can help.
        let resting = scope.spawn(|| {
            let view = map.pin();
            let mut walk = view.iter();
            assert_eq!(walk.by_ref().take(100).count(), 100);
            assert!(view.get(0).is_some());
            meeting.wait();
            meeting.wait();
            assert!(view.get(0).is_some());
            assert!(walk.count() as u64 >= EXTENTS - 200);
        });
        meeting.wait();
        let begin = live();
        let peak = churn(&map, EXTENTS, edits(), &mut Random(1)) - begin;
        meeting.wait();
        resting.join().unwrap();
        peak
    });
    println!(
        "beside a view and a walk at rest: {peak} bytes more after {} edits",
        edits()
    );
    assert!(peak <= 8 * MIB, "{peak} bytes held back");
}

/// One test, because the count is of the whole process.
#[test]
fn memory_comes_back() {
    gives_all_back(small_maps_are_small);
    gives_all_back(a_map_takes_its_garbage_along);
    gives_all_back(removing_everything_gives_it_back);
    gives_all_back(removing_everything_piece_by_piece_gives_it_back);
    gives_all_back(garbage_at_rest_is_small);
    gives_all_back(garbage_beside_readers_is_small);
    a_view_and_a_walk_that_rest_hold_little_back();
}
