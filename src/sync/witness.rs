//! A mark in plain memory by which model checkers see who uses it when. Costs nothing in normal builds.
//!
//! loom reports accesses that nothing orders: a publication that is too weak, a reuse under a reader. Shuttle knows no
//! orderings; it reports a reader that comes after the memory was returned.

#[cfg(not(any(loom, feature = "shuttle")))]
mod imp {
    /// See the module.
    #[derive(Debug)]
    pub(crate) struct Witness;

    impl Witness {
        /// A mark for memory that its owner fills now.
        #[inline(always)]
        pub(crate) fn new() -> Self {
            Self
        }
        /// The owner fills or reuses the memory.
        #[inline(always)]
        pub(crate) fn written(&self) {}
        /// Somebody reads the memory.
        #[inline(always)]
        pub(crate) fn read(&self) {}
        /// The owner returns the memory; it may be filled again.
        #[inline(always)]
        pub(crate) fn freed(&self) {}
    }
}

#[cfg(loom)]
mod imp {
    use loom::cell::UnsafeCell;

    #[derive(Debug)]
    pub(crate) struct Witness(UnsafeCell<()>);

    impl Witness {
        #[track_caller]
        pub(crate) fn new() -> Self {
            Self(UnsafeCell::new(()))
        }
        #[track_caller]
        pub(crate) fn written(&self) {
            self.0.with_mut(|_| ());
        }
        #[track_caller]
        pub(crate) fn read(&self) {
            self.0.with(|_| ());
        }
        #[track_caller]
        pub(crate) fn freed(&self) {
            // Destructors free; a second panic in one would hide the first.
            if !std::thread::panicking() {
                self.written();
            }
        }
    }
}

#[cfg(all(feature = "shuttle", not(loom)))]
mod imp {
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Holds whether the memory was returned.
    #[derive(Debug)]
    pub(crate) struct Witness(AtomicBool);

    impl Witness {
        pub(crate) fn new() -> Self {
            Self(AtomicBool::new(false))
        }
        pub(crate) fn written(&self) {
            self.0.store(false, Ordering::Relaxed);
        }
        #[track_caller]
        pub(crate) fn read(&self) {
            assert!(!self.0.load(Ordering::Relaxed), "use after free");
        }
        pub(crate) fn freed(&self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

pub(crate) use imp::Witness;

#[cfg(all(test, any(loom, feature = "shuttle")))]
mod tests {
    use std::cell::RefCell;
    use std::panic::catch_unwind;
    use std::rc::Rc;

    use super::super::atomic::{AtomicBool, Ordering};
    use super::Witness;
    #[cfg(loom)]
    use loom::thread;
    #[cfg(not(loom))]
    use shuttle::thread;

    #[cfg(loom)]
    fn explore(body: fn()) {
        loom::model(body);
    }
    #[cfg(not(loom))]
    fn explore(body: fn()) {
        shuttle::check_dfs(body, None);
    }

    fn is_refuted(body: fn()) -> bool {
        catch_unwind(|| explore(body)).is_err()
    }

    struct Node {
        published: AtomicBool,
        memory: Witness,
    }

    std::thread_local! {
        // A witness is not `Sync`; but model checkers run all their threads on one of the system.
        static NODE: RefCell<Option<Rc<Node>>> = const { RefCell::new(None) };
    }

    fn node() -> Rc<Node> {
        NODE.with_borrow(|node| node.clone().unwrap())
    }

    /// Runs `write` on a new node beside a reader who reads the memory if it is published.
    fn read_beside(published: bool, write: fn(&Node)) {
        let new = Node {
            published: AtomicBool::new(published),
            memory: Witness::new(),
        };
        new.memory.written();
        NODE.set(Some(Rc::new(new)));
        let reader = thread::spawn(|| {
            let node = node();
            if node.published.load(Ordering::Acquire) {
                node.memory.read();
            }
        });
        write(&node());
        reader.join().unwrap();
        NODE.set(None);
    }

    fn fill_and_publish(node: &Node, ordering: Ordering) {
        node.memory.written();
        node.published.store(true, ordering);
    }

    #[test]
    fn reading_what_was_published_is_fine() {
        explore(|| read_beside(false, |node| fill_and_publish(node, Ordering::Release)));
    }

    #[test]
    fn memory_may_be_filled_again_after_it_was_freed() {
        explore(|| {
            read_beside(false, |node| {
                node.memory.freed();
                fill_and_publish(node, Ordering::Release);
            });
        });
    }

    #[test]
    fn freeing_under_a_reader_is_reported() {
        assert!(is_refuted(|| read_beside(true, |node| node.memory.freed())));
    }

    #[cfg(loom)]
    #[test]
    fn filling_under_a_reader_and_a_weak_publication_are_reported() {
        assert!(is_refuted(|| read_beside(true, |node| node
            .memory
            .written())));
        assert!(is_refuted(|| {
            read_beside(false, |node| fill_and_publish(node, Ordering::Relaxed));
        }));
    }
}
