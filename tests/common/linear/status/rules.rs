//! What the answers of a status tree say: every answer is true of one instant. A change counts after readers can see
//! it, and before another change begins.

use super::super::{Done, Lock, Parts};
use super::known::Known;
use super::{Answer, Call, is_kind};

type TreeParts = Parts<Known>;

/// What one call and its answer are made of.
pub(super) fn parts(done: &Done<Call, Answer>) -> TreeParts {
    let answer = done.answer.clone();
    match done.call.clone() {
        Call::Lookup(block) => seen(move |known| Answer::Entry(known.entry(block)) == answer),
        Call::Entries(range) => {
            seen(move |known| Answer::Entries(known.entries_in(range)) == answer)
        }
        Call::Find(range, kind) => seen(move |known| {
            let mut entries = known.entries_in(range).into_iter();
            Answer::Entry(entries.find(|entry| is_kind(entry.status, kind))) == answer
        }),
        Call::Changes => seen(move |known| Answer::Number(known.changes) == answer),
        Call::LookAgain(block) => {
            let Answer::Looked {
                entry,
                changes,
                valid,
            } = answer
            else {
                return seen(|_| false);
            };
            let mut parts = TreeParts::new(Lock::Free);
            // The counter is read first: what the lookup misses, it does not count.
            parts.then(move |known, _| known.changes == changes);
            parts.then(move |known, _| known.entry(block) == entry);
            parts.then(move |known, _| !valid || known.entry(block) == entry);
            parts
        }
        Call::Insert(range, status) => {
            changed(move |known| Answer::Number(known.put(range, Some(status))) == answer)
        }
        Call::Remove(range) => {
            changed(move |known| Answer::Number(known.put(range, None)) == answer)
        }
        Call::Delay(range, first, last) => match answer {
            Answer::Done => changed(move |known| known.delay(range, first, last).is_ok()),
            answer => locked(move |known| {
                let failed = known.delay(range, first, last).err();
                failed.is_some_and(|error| Answer::Failed(error.errno()) == answer)
            }),
        },
        Call::Cache(range, status) => {
            locked(move |known| Answer::Is(known.cache(range, status)) == answer)
        }
        Call::Shrink(parity) => locked(move |known| {
            let dropped = known.shrink(|entry| entry.range.start().0 % 2 == parity);
            Answer::Number(dropped) == answer
        }),
        Call::Clear => locked(move |known| Answer::Number(known.shrink(|_| true)) == answer),
        Call::IsPending(cluster) => {
            locked(move |known| Answer::Is(known.is_pending(cluster)) == answer)
        }
        Call::PendingCount => locked(move |known| Answer::Number(known.pending_count()) == answer),
        Call::TakePending(cluster) => {
            locked(move |known| Answer::Is(known.take_pending(cluster)) == answer)
        }
        Call::Exchange(range, status) => exchanged(range, status, answer),
        Call::Counts => locked(move |known| {
            let entries = known.entries();
            let delayed = entries.iter().filter(|entry| entry.status.is_delayed());
            let reclaimable = entries.len() - delayed.count();
            Answer::Counts(entries.len() as u64, reclaimable as u64) == answer
        }),
    }
}

/// Without a lock.
fn seen(is_so: impl Fn(&Known) -> bool + Send + Sync + 'static) -> TreeParts {
    TreeParts::at_once(Lock::Free, move |known| is_so(known))
}

/// At one instant under the writer lock.
fn locked(act: impl Fn(&mut Known) -> bool + Send + Sync + 'static) -> TreeParts {
    TreeParts::at_once(Lock::Exclusive, act)
}

/// A change, which is seen before it counts.
fn changed(act: impl Fn(&mut Known) -> bool + Send + Sync + 'static) -> TreeParts {
    let mut parts = TreeParts::new(Lock::Exclusive);
    parts.then(move |known, _| act(known));
    counted(&mut parts);
    parts
}

fn counted(parts: &mut TreeParts) {
    parts.then(|known, _| {
        known.changes += 1;
        true
    });
}

/// A look, a change and another look under one lock.
fn exchanged(
    range: extent_map::units::FileRange,
    status: extent_map::status::Status,
    answer: Answer,
) -> TreeParts {
    let Answer::Exchanged {
        before,
        released,
        after,
    } = answer
    else {
        return seen(|_| false);
    };
    let mut parts = TreeParts::new(Lock::Exclusive);
    parts.then(move |known, _| known.entries_in(range) == before);
    parts.then(move |known, _| known.put(range, Some(status)) == released);
    counted(&mut parts);
    parts.then(move |known, _| known.entries_in(range) == after);
    parts
}
