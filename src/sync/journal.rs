//! What a thread does, told in words, for those who ask: the steps of a schedule that shows a defect. Without the
//! feature `testing` nobody asks.

/// Tells whoever listens to this thread what it does now.
#[cfg(not(feature = "testing"))]
#[inline(always)]
pub(crate) fn note(_: impl FnOnce() -> String) {}

#[cfg(feature = "testing")]
pub(crate) use imp::{listen, note};

#[cfg(feature = "testing")]
mod imp {
    use std::cell::RefCell;
    use std::sync::Arc;

    use super::super::thread_local;

    /// Gets the steps of a thread.
    type Listener = Arc<dyn Fn(String) + Send + Sync>;

    thread_local! {
        static LISTENER: RefCell<Option<Listener>> = const { RefCell::new(None) };
    }

    pub(crate) fn note(step: impl FnOnce() -> String) {
        let listener = LISTENER.try_with(|listener| listener.borrow().clone());
        if let Ok(Some(listen)) = listener {
            listen(step());
        }
    }

    /// Tells `listener` what this thread does while `work` runs.
    pub(crate) fn listen<T>(listener: Listener, work: impl FnOnce() -> T) -> T {
        // Put back also when `work` panics.
        let _before = Before(exchange(Some(listener)));
        work()
    }

    /// Who listened before.
    struct Before(Option<Listener>);

    impl Drop for Before {
        fn drop(&mut self) {
            exchange(self.0.take());
        }
    }

    fn exchange(with: Option<Listener>) -> Option<Listener> {
        LISTENER
            .try_with(|listener| listener.replace(with))
            .ok()
            .flatten()
    }
}
