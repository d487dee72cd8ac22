//! What threads see of a file, or of an extent status tree, has one order that explains it; and files and trees that
//! break a promise are found out.

use std::env;
use std::thread;
use std::time::Duration;

#[path = "common/linear/mod.rs"]
mod linear;
#[path = "common/random.rs"]
mod random;

use linear::broken::{BrokenFile, BrokenTree, FileFault, TreeFault};
use linear::{Done, Lock, Parts, Rounds, Totals, Verdict, file, judge, status};

/// Rounds for as long as EXTENT_MAP_HISTORY_SECONDS says.
fn some_rounds() -> Rounds {
    let seconds = env::var("EXTENT_MAP_HISTORY_SECONDS");
    let seconds = seconds.map_or(0.7, |text| text.parse().expect("a number"));
    Rounds {
        seed: 1,
        rounds: u64::MAX,
        time: Duration::from_secs_f64(seconds),
        stop_at_violation: true,
    }
}

fn assert_explained(name: &str, totals: &Totals) {
    println!("{name}: {totals}");
    if let Some((seed, text)) = totals.violations.first() {
        panic!("{name}, seed {seed}: {text}");
    }
    assert!(totals.histories > 0);
    assert!(totals.are_good(), "{totals}");
}

#[test]
fn every_history_of_a_file_is_explained() {
    for shape in file::SHAPES {
        let totals = some_rounds().run(|seed| file::Plan::of(shape).round(seed));
        assert_explained(shape.name, &totals);
    }
}

#[test]
fn every_history_of_a_status_tree_is_explained() {
    for ratio in [1, 4] {
        let totals = some_rounds().run(|seed| status::Plan::of(ratio).round(seed));
        assert_explained(&format!("clusters of {ratio}"), &totals);
    }
}

/// Runs rounds until one is not explained.
fn assert_found(name: &str, round: impl FnMut(u64) -> (usize, Verdict)) {
    let rounds = Rounds {
        rounds: 20_000,
        time: Duration::from_secs(120),
        ..some_rounds()
    };
    let totals = rounds.run(round);
    let found = totals.violations.first();
    let (seed, _) = found.unwrap_or_else(|| panic!("{name}: not found in {totals:?}"));
    println!("{name}: found in round {seed}");
}

#[test]
fn files_that_break_a_promise_are_found() {
    let plan = file::Plan::of(file::SHAPES[0]);
    for fault in FileFault::ALL {
        assert_found(&format!("{fault:?}"), |seed| {
            plan.round_of(seed, |world| BrokenFile::new(world, fault))
        });
    }
}

#[test]
fn without_the_second_look_a_history_shows_it() {
    for shape in file::SHAPES.into_iter().filter(|shape| shape.delayed) {
        let plan = file::Plan {
            skip_second_look: true,
            ..file::Plan::of(shape)
        };
        assert_found(shape.name, |seed| plan.round(seed));
    }
}

#[test]
fn status_trees_that_break_a_promise_are_found() {
    for fault in TreeFault::ALL {
        assert_found(&format!("{fault:?}"), |seed| {
            status::Plan::of(4).round_of(seed, |tree| BrokenTree::new(tree, fault))
        });
    }
}

/// Whether `history` alone is explained, and with none of its answers changed.
fn assert_every_answer_counts<C: Clone, A: Clone + PartialEq>(
    history: &[Done<C, A>],
    judge: impl Fn(&[Done<C, A>]) -> Verdict,
    change: impl Fn(&A) -> A,
) where
    Done<C, A>: std::fmt::Debug,
{
    assert_eq!(judge(history), Verdict::Explained);
    for number in 0..history.len() {
        let mut changed = history.to_vec();
        let done = &mut changed[number];
        done.answer = change(&done.answer);
        let verdict = judge(&changed);
        let is_refused = matches!(verdict, Verdict::Violated(_));
        assert!(is_refused, "{:?} was believed", changed[number]);
    }
}

#[test]
fn of_a_file_that_one_thread_uses_no_other_answer_is_believed() {
    use file::Answer;
    for shape in file::SHAPES.into_iter().filter(|shape| !shape.pressure) {
        let plan = file::Plan {
            threads: 1,
            calls: 25,
            ..file::Plan::of(shape)
        };
        for seed in 0..10 {
            assert_every_answer_counts(
                &plan.record(seed),
                |history| plan.judge(history),
                |answer| match answer.clone() {
                    Answer::Count(count) => Answer::Count(count + 1),
                    Answer::Bytes(mut bytes) => {
                        match bytes.0.last_mut() {
                            Some(last) => *last ^= 1,
                            None => bytes.0.push(0),
                        }
                        Answer::Bytes(bytes)
                    }
                    Answer::Offset(offset) => Answer::Offset(offset + 1),
                    Answer::Kinds(mut kinds) => {
                        if kinds.pop().is_none() {
                            kinds.push(Some(extent_map::file::ExtentKind::Written));
                        }
                        Answer::Kinds(kinds)
                    }
                    Answer::Done | Answer::Observed(_) => Answer::Failed(5),
                    Answer::Failed(_) => Answer::Done,
                },
            );
        }
    }
}

#[test]
fn of_a_tree_that_one_thread_uses_no_other_answer_is_believed() {
    use status::Answer;
    for ratio in [1, 4] {
        let plan = status::Plan {
            threads: 1,
            calls: 60,
            ..status::Plan::of(ratio)
        };
        for seed in 0..10 {
            assert_every_answer_counts(
                &plan.record(seed),
                |history| plan.judge(history),
                |answer| match answer.clone() {
                    Answer::Is(is) => Answer::Is(!is),
                    Answer::Number(number) => Answer::Number(number + 1),
                    Answer::Entry(Some(_)) => Answer::Entry(None),
                    Answer::Entries(mut entries) => match entries.pop() {
                        Some(_) => Answer::Entries(entries),
                        None => Answer::Done,
                    },
                    Answer::Looked {
                        entry,
                        changes,
                        valid,
                    } => Answer::Looked {
                        entry,
                        changes: changes + 1,
                        valid,
                    },
                    Answer::Exchanged {
                        before,
                        released,
                        after,
                    } => Answer::Exchanged {
                        before,
                        released: released + 1,
                        after,
                    },
                    Answer::Counts(entries, reclaimable) => {
                        Answer::Counts(entries, reclaimable + 1)
                    }
                    Answer::Done | Answer::Entry(None) => Answer::Failed(5),
                    Answer::Failed(_) => Answer::Done,
                },
            );
        }
    }
}

/// An operation on a number that adds each of `steps`, or, where there are none, sees `answer`.
fn done(start: i64, end: i64, steps: &[u64], answer: u64) -> Done<Vec<u64>, u64> {
    Done {
        thread: 0,
        start,
        end,
        call: steps.to_vec(),
        answer,
    }
}

fn judge_numbers(history: &[Done<Vec<u64>, u64>], lock: Lock) -> Verdict {
    judge(0, history, |done| {
        let mut parts = Parts::new(lock);
        for step in done.call.clone() {
            parts.then(move |number: &mut u64, _| {
                *number = *number * 10 + step;
                true
            });
        }
        if done.call.is_empty() {
            let answer = done.answer;
            return Parts::at_once(Lock::Free, move |number| *number == answer);
        }
        parts
    })
}

#[test]
fn the_search_keeps_to_times_locks_and_the_order_of_parts() {
    let both = [done(0, 10, &[1, 2], 0), done(1, 9, &[3, 4], 0)];
    let then = |seen| [&both[..], &[done(11, 12, &[], seen)]].concat();
    let explained = |seen, lock| judge_numbers(&then(seen), lock) == Verdict::Explained;
    for whole in [1234, 3412] {
        assert!(explained(whole, Lock::Free) && explained(whole, Lock::Exclusive));
    }
    for mixed in [1324, 1342, 3142, 3124] {
        assert!(explained(mixed, Lock::Free) && explained(mixed, Lock::Shared));
        assert!(!explained(mixed, Lock::Exclusive));
    }
    for wrong in [2134, 1243, 12, 0, 12345] {
        assert!(!explained(wrong, Lock::Free));
    }
    let late = [
        done(0, 1, &[1], 0),
        done(2, 3, &[2], 0),
        done(4, 5, &[], 21),
    ];
    assert!(matches!(
        judge_numbers(&late, Lock::Free),
        Verdict::Violated(_)
    ));
}

/// What one operation sees, look after look, while another makes 12 of nothing, step by step.
fn judge_looks(looks: &[u64]) -> Verdict {
    let history = [done(0, 3, &[1, 2], 0), done(1, 2, looks, 0)];
    judge(0, &history, |done| {
        let mut parts = Parts::new(Lock::Free);
        for number in done.call.clone() {
            match done.start {
                0 => {
                    parts.then(move |seen: &mut u64, _| {
                        *seen = *seen * 10 + number;
                        true
                    });
                }
                _ => parts.sees(move |seen| *seen == number),
            }
        }
        parts
    })
}

#[test]
fn looks_come_in_their_order_between_the_steps_of_others() {
    for looks in [&[0, 1, 12][..], &[0, 0, 12], &[1, 1, 1], &[12]] {
        assert_eq!(judge_looks(looks), Verdict::Explained, "{looks:?}");
    }
    for looks in [&[1, 0][..], &[12, 1], &[0, 12, 0], &[2], &[0, 1, 21]] {
        let verdict = judge_looks(looks);
        assert!(matches!(verdict, Verdict::Violated(_)), "{looks:?}");
    }
}
