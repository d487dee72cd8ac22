//! A writer stopped anywhere inside an edit delays no reader, and shows the whole old state or the whole new
//! one.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use extent_map::Result;
use extent_map::map::probe::{Mutation, Probe, Step};
use extent_map::map::{Editor, Extent, ExtentMap, Pinned, Reclaimer, Replaced};

const STEPS: [Step; 5] = [
    Step::Locked,
    Step::Built,
    Step::Announced,
    Step::Published,
    Step::Retired,
];

/// What is ever mapped lies below this block.
const SPACE: u64 = 4000;
/// Nobody who only reads takes that long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Or else what differs.
type Shown = std::result::Result<(), String>;

type Edit = fn(&mut Editor<'_, u64>) -> Result<Replaced<u64>>;

struct Case {
    name: &'static str,
    /// How many extents of 2 blocks there are at first, one every 4 blocks.
    extents: u64,
    edit: Edit,
}

const CASES: [Case; 7] = [
    Case {
        name: "a cut in one extent",
        extents: 20,
        edit: |editor| editor.remove(40..41),
    },
    Case {
        name: "another value for one extent",
        extents: 1000,
        edit: |editor| editor.update(2000..2002, |old| Some(old.value() + 7)),
    },
    Case {
        name: "another value for each of hundreds",
        extents: 1000,
        edit: |editor| editor.update(400..3600, |old| Some(old.value() + 7)),
    },
    Case {
        name: "one extent in place of hundreds",
        extents: 1000,
        edit: |editor| editor.insert(401..3601, 5),
    },
    Case {
        name: "the removal of every other extent",
        extents: 1000,
        edit: |editor| editor.update(.., |old| (old.start() % 8 == 0).then_some(old.value())),
    },
    Case {
        name: "the removal of everything",
        extents: 1000,
        edit: |editor| editor.remove(..),
    },
    Case {
        name: "the first insert",
        extents: 0,
        edit: |editor| editor.insert(1000..1010, 5),
    },
];

fn filled(probe: Probe, extents: u64) -> ExtentMap<u64> {
    let map = ExtentMap::with_probe(&Reclaimer::new(), probe);
    for i in 0..extents {
        map.insert(i * 4..i * 4 + 2, i << 32).unwrap();
    }
    map
}

/// Everything that a view says must follow from `state`, the list of extents.
fn shows(view: &Pinned<'_, u64>, state: &[Extent<u64>]) -> Shown {
    let same = |what: &str, block: u64, is: bool| match is {
        true => Ok(()),
        false => Err(format!("{what} at {block}")),
    };
    same("first", 0, view.first() == state.first().copied())?;
    same("last", SPACE, view.last() == state.last().copied())?;
    same("walk", 0, view.iter().eq(state.iter().copied()))?;
    let mapped: u64 = state.iter().map(|extent| extent.len()).sum();
    let gaps = view
        .gaps(..)
        .map(|gap| u128::from(gap.end() - gap.start()) + 1);
    let all = u128::from(mapped) + gaps.sum::<u128>();
    same("gaps", 0, all == 1 << 64)?;

    let (mut before, mut after) = (None, state);
    for block in 0..SPACE {
        while let [extent, rest @ ..] = after
            && extent.last() < block
        {
            (before, after) = (Some(*extent), rest);
        }
        let next = after.first().copied();
        let here = next.filter(|extent| extent.contains(block));
        same("get", block, view.get(block) == here)?;
        let look = view.lookup(block);
        same("lookup", block, look.extent() == here)?;
        let gap = here.is_none().then(|| {
            let first = before.map_or(0, |extent| extent.last() + 1);
            first..=next.map_or(u64::MAX, |extent| extent.start() - 1)
        });
        same("gap", block, look.gap() == gap)?;
        same("next", block, view.next_from(block) == next)?;
        if block % 64 == 0 {
            let walk = view.overlapping(block..).take(64);
            let expected = after.iter().copied().take(64);
            same("walk of 64", block, walk.eq(expected))?;
        }
    }
    Ok(())
}

/// A reader that compares the map with each list of extents that it is sent.
fn reader(
    map: Arc<ExtentMap<u64>>,
    states: Receiver<Arc<Vec<Extent<u64>>>>,
    results: Sender<Shown>,
) {
    // Knows the old state from before the edit.
    let kept = map.pin();
    for state in states {
        let shown = shows(&kept, &state)
            .map_err(|difference| format!("a kept view: {difference}"))
            .and_then(|()| shows(&map.pin(), &state));
        let _ = results.send(shown);
    }
}

/// Stops the writer of `case` at `step` and reads. `None` when it does not pass there.
fn park(case: &Case, step: Step, mutation: Option<Mutation>) -> Option<Shown> {
    let (arrived, arrival) = mpsc::channel();
    let (release, released) = mpsc::channel();
    // Where the writer waits, once and only after this is filled.
    let gate = Arc::new(Mutex::new(None::<Receiver<()>>));
    let at_step = {
        let (arrived, gate) = (arrived.clone(), Arc::clone(&gate));
        move |at| {
            let opens = gate.lock().unwrap().take_if(|_| at == step);
            if let Some(opens) = opens {
                let _ = arrived.send(true);
                let _ = opens.recv();
            }
        }
    };
    let mut probe = Probe::new().on_step(at_step);
    if let Some(mutation) = mutation {
        probe = probe.mutation(mutation);
    }
    let map = Arc::new(filled(probe, case.extents));
    let old: Arc<Vec<_>> = Arc::new(map.pin().iter().collect());
    let twin = filled(Probe::new(), case.extents);
    (case.edit)(&mut twin.edit()).unwrap();
    let new: Arc<Vec<_>> = Arc::new(twin.pin().iter().collect());
    assert_ne!(old, new);

    // Not in a scope: a reader that never ends must not keep the test from failing.
    let (results, shown) = mpsc::channel();
    let readers = [(); 2].map(|()| {
        let (send, states) = mpsc::channel();
        let (map, results) = (Arc::clone(&map), results.clone());
        (send, thread::spawn(move || reader(map, states, results)))
    });
    let all_show = |state: &Arc<Vec<_>>| -> Shown {
        for (reader, _) in &readers {
            reader.send(Arc::clone(state)).unwrap();
        }
        let answers = readers.each_ref().map(|_| {
            let shown = shown.recv_timeout(PATIENCE);
            shown.unwrap_or_else(|_| Err("no answer".into()))
        });
        answers.into_iter().collect()
    };
    assert_eq!(all_show(&old), Ok(()), "{}: before", case.name);

    *gate.lock().unwrap() = Some(released);
    let writer = thread::spawn({
        let (map, edit) = (Arc::clone(&map), case.edit);
        move || {
            edit(&mut map.edit()).unwrap();
            let _ = arrived.send(false);
        }
    });
    let parked = arrival
        .recv_timeout(PATIENCE)
        .expect("the writer gets there");
    let seen = parked.then(|| {
        let published = matches!(step, Step::Published | Step::Retired);
        all_show(if published { &new } else { &old })
    });
    drop(release);
    writer.join().unwrap();
    assert_eq!(all_show(&new), Ok(()), "{}: afterwards", case.name);
    for (send, reader) in readers {
        drop(send);
        reader.join().unwrap();
    }
    seen
}

#[test]
fn readers_see_the_old_state_until_it_is_published_and_then_the_new_one() {
    let mut passed = Vec::new();
    for case in &CASES {
        for step in STEPS {
            if let Some(seen) = park(case, step, None) {
                assert_eq!(seen, Ok(()), "{}, parked at {step:?}", case.name);
                passed.push(step);
            }
        }
    }
    let times = |step| passed.iter().filter(|passed| **passed == step).count();
    for step in STEPS {
        assert!(times(step) > 0, "no edit passes {step:?}");
    }
    assert_eq!(times(Step::Published), CASES.len());
}

#[test]
fn an_edit_published_in_pieces_is_seen_by_who_reads_while_the_writer_is_parked() {
    let parked = |case| {
        let seen = STEPS.map(|step| park(case, step, Some(Mutation::PublishInPieces)));
        seen.into_iter().flatten().any(|seen| seen.is_err())
    };
    assert!(CASES.iter().any(parked));
}

#[test]
fn a_new_view_knows_nothing_while_the_first_edit_of_all_is_published() {
    static MAP: OnceLock<ExtentMap<u64>> = OnceLock::new();
    let probe = Probe::new().on_step(|step| {
        if step == Step::Announced {
            let map = MAP.get().unwrap();
            assert_eq!(map.pin().get(u64::MAX), None);
        }
    });
    let map = MAP.get_or_init(|| ExtentMap::with_probe(&Reclaimer::new(), probe));
    map.insert(0..1, 7).unwrap();
}
