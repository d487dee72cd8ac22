//! The order in which locks are taken. Under the feature `testing` each thread keeps a list of the locks it holds:
//! taking one out of order, or doing I/O with one held that must not be, panics and names both places. In other
//! builds all of this is nothing.

/// What a lock protects, outermost first: a thread takes locks in rising rank only.
///
/// Locks of one rank are taken in rising order, of files by their number, of pages and groups by theirs; those of two
/// status trees in the order their owner likes. A lock that is only tried cannot be waited for in a circle: any order
/// will do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(dead_code, reason = "most belong to modules that need `std`")]
pub(crate) enum Rank {
    /// Opening a file for the first time.
    Opening,
    /// Content and size of a file, for calls.
    Inode,
    /// Pages of a file coming in or going away.
    Invalidate,
    /// The right to commit the changes of a mapping store, which this lock is held over.
    Committing,
    /// One writeback of a file at a time.
    Writeback,
    /// A page: the folio lock. The last one that may be held over I/O.
    Folio,
    /// Changes of a mapping store that must become durable together.
    Together,
    /// The blocks of a file: the data lock.
    Data,
    /// The writer lock of a status tree.
    Status,
    /// The turns of the status trees in giving memory back. Their locks are only tried under it, so that whoever has
    /// one may ask for memory.
    Shrinker,
    /// The promise made to a file.
    Account,
    /// The windows of a file, or those that small files share.
    Windows,
    /// The right to withhold free clusters while a device discards them, which this lock is held over.
    Discarding,
    /// A group of the allocator.
    Group,
    /// What no share of the ledger holds. Taken for a few instructions.
    Ledger,
    /// A change of a mapping store.
    Store,
    /// The records of the change of a mapping store that is running.
    Running,
    /// Who of the callers that wait for a flush carries it out.
    FlushTurn,
    /// The answer of a flush.
    FlushOutcome,
    /// Whether a thread looks for requests that are late.
    Timer,
    /// What waits at a queue of the device, and what is under way there.
    Dispatcher,
    /// Those who wait for a flush that is started and not waited for.
    FlushMachine,
    /// The pieces of a bio that ended, or how many have not.
    Pieces,
    /// How a bio ended.
    Outcome,
    /// The errors that an open file has been told of.
    SeenErrors,
    /// The writeback errors of a file.
    Errors,
    /// The turns of a volume's pages in leaving memory. Folio locks are only tried under it.
    Clock,
    /// What writeback in the background is asked for, and has done.
    Background,
    /// Which pages of a file are in the cache.
    PageIndex,
    /// Which of them are dirty.
    DirtyPages,
    /// The faults of a device.
    Faults,
    /// The bytes of a device.
    Device,
    /// The writer lock of a map, whose owner knows where it stands: a status tree takes it under its own.
    Owners,
}

impl Rank {
    /// The lock of this rank with this number: of a file, a page, a group.
    pub(crate) const fn of(self, number: u64) -> Place {
        Place { rank: self, number }
    }
}

impl From<Rank> for Place {
    fn from(rank: Rank) -> Self {
        rank.of(0)
    }
}

/// Where a lock stands in the order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[cfg_attr(not(feature = "testing"), allow(dead_code))]
pub(crate) struct Place {
    rank: Rank,
    number: u64,
}

#[cfg(not(feature = "testing"))]
mod imp {
    use super::Place;

    /// Where a lock stands.
    #[derive(Debug)]
    pub(crate) struct Ranked;

    /// That a lock is held.
    #[derive(Debug)]
    pub(crate) struct Held;

    impl Ranked {
        #[inline(always)]
        pub(crate) fn new(_: Place) -> Self {
            Self
        }
        #[inline(always)]
        pub(crate) fn wanted(&self, _: &'static str) {}
        #[inline(always)]
        pub(crate) fn taken(&self, _: &'static str) -> Held {
            Held
        }
    }

    /// What may do I/O although the data lock is held; see the other one.
    #[cfg(feature = "std")]
    #[derive(Debug)]
    pub(crate) struct IoAllowed;

    #[cfg(feature = "std")]
    impl IoAllowed {
        #[inline(always)]
        pub(crate) fn new() -> Self {
            Self
        }
    }

    /// That I/O is under way.
    #[cfg(feature = "std")]
    #[derive(Debug)]
    pub(crate) struct DoingIo;

    /// I/O begins.
    #[cfg(feature = "std")]
    #[inline(always)]
    pub(crate) fn begin_io() -> DoingIo {
        DoingIo
    }
}

#[cfg(feature = "testing")]
mod imp {
    use std::cell::{Cell, RefCell};
    use std::panic::Location;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use super::super::{journal, thread_local};
    use super::{Place, Rank};

    /// See [`ignore_lock_order`].
    static IGNORED: AtomicBool = AtomicBool::new(false);

    /// Stops watching the order in which locks are taken, for good: a benchmark, which is built with the feature
    /// `testing`, would measure the watching.
    pub fn ignore_lock_order() {
        IGNORED.store(true, Relaxed);
    }

    /// Where a lock stands.
    #[derive(Debug)]
    pub(crate) struct Ranked(Place);

    /// One lock that a thread holds.
    #[derive(Clone, Copy, Debug)]
    struct Entry {
        place: Place,
        /// Tells locks of one place apart.
        address: usize,
        taken_at: &'static Location<'static>,
    }

    thread_local! {
        /// In the order in which they were taken.
        static HELD: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
    }
    thread_local! {
        /// How many of them were held when the I/O began that is under way: the order of the locks that a device may
        /// have, those of another volume for example, begins anew.
        static HELD_OUTSIDE: Cell<usize> = const { Cell::new(0) };
    }
    thread_local! {
        /// How many reasons there are to do I/O under the data lock.
        static IO_ALLOWED: Cell<usize> = const { Cell::new(0) };
    }

    /// Runs `work` on the list, unless the thread is being torn down.
    fn with_held<T>(work: impl FnOnce(&mut Vec<Entry>) -> T) -> Option<T> {
        HELD.try_with(|held| work(&mut held.borrow_mut())).ok()
    }

    fn held_outside() -> usize {
        HELD_OUTSIDE.try_with(Cell::get).unwrap_or(0)
    }

    impl Place {
        /// Whether a thread that holds this lock may take `next`, another lock.
        fn allows(self, next: Self) -> bool {
            match self.rank == next.rank {
                true => self.rank == Rank::Status || self.number < next.number,
                false => self.rank < next.rank,
            }
        }

        /// Tells a listener of a lock of a file; the others come and go within one step of a protocol.
        fn tell(self, step: impl FnOnce() -> String) {
            if (Rank::Inode..=Rank::Data).contains(&self.rank) {
                journal::note(step);
            }
        }
    }

    impl Ranked {
        pub(crate) fn new(place: Place) -> Self {
            Self(place)
        }

        /// Before waiting for the lock. Panics if this thread must not.
        #[track_caller]
        pub(crate) fn wanted(&self, how: &'static str) {
            if self.0.rank == Rank::Owners || IGNORED.load(Relaxed) {
                return;
            }
            let inside = held_outside();
            let breaks = |(at, entry): &(usize, &Entry)| {
                entry.address == self.address() || *at >= inside && !entry.place.allows(self.0)
            };
            let breach =
                with_held(|held| held.iter().enumerate().find(breaks).map(|(_, held)| *held));
            if let Some(held) = breach.flatten()
                && !std::thread::panicking()
            {
                panic!(
                    "lock order: {} wanted ({how}) at {} while {} is held since {}",
                    self.0,
                    Location::caller(),
                    held.place,
                    held.taken_at,
                );
            }
        }

        fn address(&self) -> usize {
            std::ptr::from_ref(self).addr()
        }

        /// The lock is taken.
        #[track_caller]
        #[inline]
        pub(crate) fn taken(&self, how: &'static str) -> Held {
            let listed = self.0.rank != Rank::Owners && !IGNORED.load(Relaxed);
            Held(listed.then(|| self.listed(how)))
        }

        #[track_caller]
        fn listed(&self, how: &'static str) -> Entry {
            let entry = Entry {
                place: self.0,
                address: self.address(),
                taken_at: Location::caller(),
            };
            with_held(|held| held.push(entry));
            self.0.tell(|| format!("takes the {} ({how})", self.0));
            entry
        }
    }

    /// That a lock is held; nothing for one that is not listed.
    #[derive(Debug)]
    pub(crate) struct Held(Option<Entry>);

    impl Drop for Held {
        #[inline]
        fn drop(&mut self) {
            if let Some(entry) = self.0 {
                entry.strike_out();
            }
        }
    }

    impl Entry {
        fn strike_out(self) {
            with_held(|held| {
                let same = |entry: &Entry| entry.address == self.address;
                held.iter().rposition(same).map(|at| held.remove(at))
            });
            self.place.tell(|| format!("gives the {} back", self.place));
        }
    }

    impl std::fmt::Display for Place {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self.rank {
                Rank::Folio => write!(f, "folio lock of page {}", self.number),
                Rank::Inode => write!(f, "inode lock of file {}", self.number),
                Rank::Invalidate => write!(f, "invalidate lock of file {}", self.number),
                Rank::Writeback => write!(f, "writeback lock of file {}", self.number),
                Rank::Data => write!(f, "data lock of file {}", self.number),
                Rank::Group => write!(f, "lock of group {}", self.number),
                rank => write!(f, "{rank:?} lock"),
            }
        }
    }

    /// The one case in which I/O happens under the data lock: the store has no room to split an extent, so blocks are
    /// zeroed while nothing else keeps the extent still.
    #[derive(Debug)]
    pub(crate) struct IoAllowed;

    impl IoAllowed {
        pub(crate) fn new() -> Self {
            let _ = IO_ALLOWED.try_with(|allowed| allowed.set(allowed.get() + 1));
            Self
        }
    }

    impl Drop for IoAllowed {
        fn drop(&mut self) {
            let _ = IO_ALLOWED.try_with(|allowed| allowed.set(allowed.get() - 1));
        }
    }

    /// That I/O is under way.
    #[derive(Debug)]
    pub(crate) struct DoingIo {
        /// Nothing where nobody watches.
        held_outside_before: Option<usize>,
    }

    impl DoingIo {
        fn new() -> Self {
            let held = with_held(|held| held.len()).unwrap_or(0);
            let before = HELD_OUTSIDE.try_with(|outside| outside.replace(held));
            Self {
                held_outside_before: Some(before.unwrap_or(0)),
            }
        }
    }

    impl Drop for DoingIo {
        fn drop(&mut self) {
            if let Some(before) = self.held_outside_before {
                let _ = HELD_OUTSIDE.try_with(|outside| outside.set(before));
            }
        }
    }

    /// I/O begins: panics when a lock below the folio lock is held.
    #[track_caller]
    #[inline]
    pub(crate) fn begin_io() -> DoingIo {
        match IGNORED.load(Relaxed) {
            true => DoingIo {
                held_outside_before: None,
            },
            false => begin_watched_io(),
        }
    }

    #[track_caller]
    fn begin_watched_io() -> DoingIo {
        if IO_ALLOWED
            .try_with(|allowed| allowed.get() > 0)
            .unwrap_or(true)
        {
            return DoingIo::new();
        }
        let inside = held_outside();
        let breach = with_held(|held| {
            let below = |entry: &&Entry| (Rank::Data..=Rank::Running).contains(&entry.place.rank);
            held.iter().skip(inside).find(below).copied()
        });
        if let Some(held) = breach.flatten()
            && !std::thread::panicking()
        {
            panic!(
                "I/O at {} while {} is held since {}",
                Location::caller(),
                held.place,
                held.taken_at,
            );
        }
        DoingIo::new()
    }
}

#[cfg(feature = "testing")]
pub use imp::ignore_lock_order;
#[cfg(feature = "std")]
pub(crate) use imp::{DoingIo, IoAllowed, begin_io};
pub(crate) use imp::{Held, Ranked};

#[cfg(all(test, feature = "testing", not(any(loom, feature = "shuttle"))))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::super::{Mutex, RwLock};
    use super::*;

    /// What `work` dies of.
    fn complaint(work: fn()) -> String {
        let panic = catch_unwind(work).expect_err("an order that must not be");
        *panic.downcast::<String>().expect("a message")
    }

    #[test]
    fn locks_are_taken_in_rising_rank_and_number_and_given_back_in_any_order() {
        let inode = RwLock::new(Rank::Inode.of(1), ());
        let pages = [3, 4].map(|page| Mutex::new(Rank::Folio.of(page), ()));
        let data = RwLock::new(Rank::Data, ());
        for _ in 0..2 {
            let shared = inode.read();
            let first = pages[0].lock();
            let second = pages[1].lock();
            drop(begin_io());
            let lowest = data.write();
            drop(shared);
            drop(second);
            drop((lowest, first));
        }
    }

    #[test]
    fn a_lock_above_one_that_is_held_is_refused_with_both_places() {
        let complaint = complaint(|| {
            let data = RwLock::new(Rank::Data.of(7), ());
            let page = Mutex::new(Rank::Folio.of(2), ());
            let _data = data.read();
            let _page = page.lock();
        });
        let parts: Vec<_> = complaint.split(file!()).collect();
        assert_eq!(parts.len(), 3, "{complaint}");
        assert!(parts[0].starts_with("lock order: folio lock of page 2 wanted (exclusive) at "));
        assert!(parts[1].ends_with("while data lock of file 7 is held since "));
    }

    #[test]
    fn locks_of_one_rank_are_refused_in_falling_order_and_twice() {
        for numbers in [[2, 1], [1, 1]] {
            let work = move || {
                let groups = numbers.map(|number| Mutex::new(Rank::Group.of(number), ()));
                let _both = groups.each_ref().map(Mutex::lock);
            };
            assert!(catch_unwind(work).is_err(), "{numbers:?}");
        }
        let twice = complaint(|| {
            let tree = Mutex::new(Rank::Status, ());
            let _both = (tree.lock(), tree.lock());
        });
        assert!(twice.starts_with("lock order: Status lock"), "{twice}");
        // Of two trees the order is their owner's.
        let trees = [(); 2].map(|()| Mutex::new(Rank::Status, ()));
        drop((trees[1].lock(), trees[0].lock()));
    }

    #[test]
    fn io_under_the_data_lock_is_refused_unless_it_is_the_one_that_must_be() {
        let data = RwLock::new(Rank::Data, ());
        let held = data.write();
        let allowed = IoAllowed::new();
        drop(begin_io());
        drop(allowed);
        assert!(catch_unwind(begin_io).is_err());
        drop(held);
        drop(begin_io());
    }

    #[test]
    fn inside_a_device_the_order_begins_anew_but_no_lock_is_taken_twice() {
        let folio = Mutex::new(Rank::Folio, ());
        let data = Mutex::new(Rank::Data, ());
        let held = folio.lock();
        let doing_io = begin_io();
        let inner = Mutex::new(Rank::Inode, ());
        drop((inner.lock(), data.lock()));
        let refused = |work: &dyn Fn()| catch_unwind(AssertUnwindSafe(work)).is_err();
        assert!(refused(&|| drop([data.lock(), inner.lock()])));
        assert!(refused(&|| drop(folio.lock())));
        drop(doing_io);
        assert!(refused(&|| drop(inner.lock())));
        drop(held);
    }

    #[test]
    fn a_lock_may_be_tried_in_any_order() {
        let trees = [(); 2].map(|()| Mutex::new(Rank::Status, ()));
        let list = Mutex::new(Rank::Shrinker, ());
        let _first = trees[0].lock();
        let _list = list.lock();
        assert!(trees[0].try_lock().is_none());
        assert!(trees[1].try_lock().is_some());
    }
}
